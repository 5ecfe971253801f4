#include "replay_report.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "table.h"

namespace lathe::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr StepKind kKinds[] = {StepKind::decode, StepKind::mixed, StepKind::drain};

Json quantiles(const Samples& samples) {
  const auto rounded = [&](double rank) { return std::round(samples.quantile(rank) * 1e4) / 1e4; };
  return {{"p50", rounded(0.5)}, {"p99", rounded(0.99)}, {"max", rounded(1)}};
}

Json to_json(const Figures& f) {
  Json json{{"steps", f.steps()}};
  if (f.steps() == 0) return json;
  json["imbalance"] = quantiles(f.imbalance);
  json["efficiency_loss"] = quantiles(f.efficiency_loss);
  json["plan_us"] = quantiles(f.plan_us);
  json["bytes"] = f.kv_bytes;
  json["workspace"] = f.workspace_bytes;
  if (f.sharing_steps > 0)
    json["sharing"] = {{"steps", f.sharing_steps}, {"bytes", f.sharing_bytes}, {"distinct_bytes", f.distinct_bytes}};
  return json;
}

std::string heads_of(const PolicyShape& shape) {
  return fmt::format("{}/{}", shape.num_qo_heads, shape.num_kv_heads);
}

std::vector<std::string> row_of(PolicyKind policy, const Figures& f) {
  const auto figure = [](const Samples& samples, double rank) { return fmt::format("{:.3f}", samples.quantile(rank)); };
  return {name_of(policy),
          figure(f.imbalance, 0.5),
          figure(f.imbalance, 0.99),
          figure(f.imbalance, 1),
          figure(f.efficiency_loss, 0.5),
          figure(f.efficiency_loss, 0.99),
          in_ms(f.plan_us.quantile(0.5) / 1000),
          in_ms(f.plan_us.quantile(0.99) / 1000),
          in_bytes(static_cast<uint64_t>(f.kv_bytes / f.steps())),
          in_bytes(static_cast<uint64_t>(f.workspace_bytes))};
}

// How near to reading every page once a policy comes.
std::string sharing_text(const char* policy, const Figures& f) {
  if (f.sharing_steps == 0) return {};
  return fmt::format("{}: requests read keys together in {}, {} in all; every page once would be {} ({:+.1f} %)\n", policy,
                     plural(static_cast<uint64_t>(f.sharing_steps), "step"), in_bytes(static_cast<uint64_t>(f.sharing_bytes)),
                     in_bytes(static_cast<uint64_t>(f.distinct_bytes)),
                     100 * (static_cast<double>(f.sharing_bytes) / static_cast<double>(f.distinct_bytes) - 1));
}

}  // namespace

Json to_json(const ReplayReport& r) {
  Json json;
  if (r.synthetic.empty()) {
    json["trace"] = {{"file", r.trace}, {"requests", r.requests}};
  } else {
    json["synthetic"] = {{"kind", r.synthetic}, {"seed", r.seed}};
  }
  json["batch"] = r.options.batch;
  json["heads"] = heads_of(r.shape);
  json["head_dim"] = r.shape.head_dim;
  json["sms"] = r.shape.num_sms;
  json["page_size"] = r.shape.page_size;
  if (r.synthetic.empty()) json["chunk"] = r.options.chunk;
  json["whole"] = r.whole;
  json["seconds"] = r.seconds;
  for (size_t i = 0; i < r.policies.size(); ++i) {
    Json& policy = json[name_of(r.policies[i])];
    policy = to_json(r.figures[i].full());
    for (StepKind kind : kKinds) policy[name_of(kind)] = to_json(r.figures[i][kind]);
  }
  return json;
}

std::string text_of(const ReplayReport& r) {
  std::string text = r.synthetic.empty() ? fmt::format("{}: {}\n", r.trace, plural(static_cast<uint64_t>(r.requests), "request"))
                                         : fmt::format("synthetic {}, seed {}\n", r.synthetic, r.seed);
  text += fmt::format("batch {}, heads {}, head dim {}, {} multiprocessors", r.options.batch, heads_of(r.shape), r.shape.head_dim,
                      r.shape.num_sms);
  if (r.synthetic.empty()) {
    text += r.options.chunk == 0 ? ", prompts computed elsewhere" : fmt::format(", chunks of {} tokens", r.options.chunk);
  }
  text += r.whole ? "\n" : "; only the first steps\n";
  for (StepKind kind : kKinds) {
    const Figures& first = r.figures.front()[kind];
    if (first.steps() == 0) continue;
    std::vector<std::vector<std::string>> rows{
        {"", "imbalance p50", "p99", "max", "efficiency loss p50", "p99", "plan p50", "p99", "K and V a step", "workspace"}};
    for (size_t i = 0; i < r.policies.size(); ++i) rows.push_back(row_of(r.policies[i], r.figures[i][kind]));
    text +=
        fmt::format("\n{}\n{}", plural(static_cast<uint64_t>(first.steps()), std::string(name_of(kind)) + " step"), table(rows));
    for (size_t i = 0; i < r.policies.size(); ++i) text += sharing_text(name_of(r.policies[i]), r.figures[i][kind]);
  }
  return text;
}

}  // namespace lathe::cli
