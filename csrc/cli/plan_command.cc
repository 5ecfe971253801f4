// lathe plan: a trace through the scheduler, beside other ways to schedule it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "commands.h"
#include "input.h"
#include "lathe/replay/page_tables.h"
#include "lathe/replay/synthetic.h"
#include "lathe/replay/timeline.h"
#include "lathe/spec/text.h"
#include "progress.h"
#include "replay_report.h"
#include "trace_files.h"

namespace lathe::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int32_t kMaxBatch = 1 << 16, kMaxChunk = 1 << 20, kMaxMean = 1 << 20;
constexpr int64_t kSyntheticBatches = 1000;

struct PlanOptions {
  std::string trace, synthetic, heads = "32/8", timeline;
  std::vector<std::string> policies{"ours", "shared", "uniform_chunk", "no_split"};
  int32_t batch = 0, head_dim = 128, sms = 132, chunk = 2048, page_size = 16, mean = 4096;
  int64_t max_steps = 0;  // 0: all
  int64_t step = -1;      // of the timeline; -1: the first of decodes
  uint64_t seed = 1;
  bool json = false;
};

// "32/8": query heads over KV heads.
Status read_heads(const std::string& text, PolicyShape& shape) {
  const char* end = text.data() + text.size();
  const auto qo = std::from_chars(text.data(), end, shape.num_qo_heads);
  if (qo.ec == std::errc() && qo.ptr != end && *qo.ptr == '/') {
    const auto kv = std::from_chars(qo.ptr + 1, end, shape.num_kv_heads);
    if (kv.ec == std::errc() && kv.ptr == end) return {};
  }
  return invalid_argument("--heads", fields::in_quotes(text) + " is not allowed; allowed: query heads / KV heads, like 32/8");
}

// Where the steps are from.
class Steps {
 public:
  static Result<Steps> make(const PlanOptions& options, ReplayReport& report) {
    Steps steps;
    if (!options.synthetic.empty()) {
      steps.kind_ = *synthetic_named(options.synthetic);
      steps.batch_ = options.batch;
      steps.mean_ = options.mean;
      steps.rng_.seed(options.seed);
      report.synthetic = options.synthetic;
      report.seed = options.seed;
      return steps;
    }
    Result<std::vector<TraceRequest>> trace = read_trace(options.trace);
    LATHE_TRY(trace);
    steps.trace_ = *std::move(trace);
    Result<Simulation> simulation = Simulation::make(steps.trace_, report.options);
    LATHE_TRY(simulation);
    steps.simulation_ = *std::move(simulation);
    if (std::ranges::any_of(steps.trace_, [](const TraceRequest& request) { return !request.hash_ids.empty(); })) {
      Result<PageTables> tables = PageTables::make(steps.trace_, options.page_size);
      LATHE_TRY(tables);
      steps.tables_ = *std::move(tables);
    }
    report.trace = options.trace;
    report.requests = static_cast<int64_t>(steps.trace_.size());
    return steps;
  }

  bool next(Step& step) {
    if (simulation_) {
      if (!simulation_->next(step)) return false;
      if (tables_) tables_->lay_out(step);
      return true;
    }
    if (made_ == kSyntheticBatches) return false;
    step.kind = StepKind::decode;
    step.index = made_++;
    step.kv_lens = synthetic_batch(kind_, batch_, mean_, rng_);
    step.qo_lens.assign(step.kv_lens.size(), 1);
    return true;
  }

  /// Of the step that next() made; null where the trace does not tell which prefixes are equal.
  const PageTables* tables() const { return tables_ ? &*tables_ : nullptr; }

 private:
  std::vector<TraceRequest> trace_;  // what simulation_ looks at: moving a vector leaves its elements where they are
  std::optional<Simulation> simulation_;
  std::optional<PageTables> tables_;
  SyntheticKind kind_ = SyntheticKind::zipf;
  int32_t batch_ = 0, mean_ = 0;
  int64_t made_ = 0;
  std::mt19937_64 rng_;
};

// Draws one step, as soon as it is the one that was asked for.
class Timeline {
 public:
  Timeline(const PlanOptions& options) : path_(options.timeline), step_(options.step) {}

  bool wants(const Step& step) const {
    return !path_.empty() && !drawn_ && (step_ < 0 ? step.kind == StepKind::decode : step.index == step_);
  }
  Status draw(const std::string& from, const EvaluatedBatch& batch, const Step& step, std::span<const TimelineRow> rows) {
    const std::string title =
        fmt::format("{}: step {}, {}, {} requests", from, step.index, name_of(step.kind), step.kv_lens.size());
    std::ofstream out(path_, std::ios::binary);
    out << timeline_html(title, batch, rows);
    out.close();
    if (!out) return invalid_argument("--timeline", fields::in_quotes(path_, 256) + " could not be written");
    drawn_ = true;
    return {};
  }
  Status check() const {
    if (path_.empty() || drawn_) return {};
    return invalid_argument(
        "--step", step_ < 0 ? "there was no step of decodes; name one" : std::to_string(step_) + ": there was no such step");
  }

 private:
  const std::string path_;
  const int64_t step_;
  bool drawn_ = false;
};

Status check_options(const PlanOptions& options) {
  Problems problems;
  if (options.trace.empty() == options.synthetic.empty())
    problems.add("--trace", "one of --trace and --synthetic is needed, and not both");
  if (options.step >= 0 && options.timeline.empty()) problems.add("--step", "is for --timeline, which is not given");
  return problems.status();
}

Result<std::vector<std::unique_ptr<Policy>>> make_policies(const PlanOptions& options, ReplayReport& report) {
  LATHE_TRY(read_heads(options.heads, report.shape));
  report.shape.head_dim = options.head_dim;
  report.shape.page_size = options.page_size;
  report.shape.num_sms = options.sms;
  std::vector<std::unique_ptr<Policy>> policies;
  for (const std::string& name : options.policies) {
    report.policies.push_back(*policy_named(name));
    Result<std::unique_ptr<Policy>> policy = make_policy(report.policies.back(), report.shape);
    LATHE_TRY(policy);
    policies.push_back(*std::move(policy));
  }
  report.figures.resize(policies.size());
  return policies;
}

Result<ReplayReport> replay(const PlanOptions& options) {
  const auto start = Clock::now();
  LATHE_TRY(check_options(options));
  ReplayReport report;
  report.options = {options.batch, options.chunk};
  Result<std::vector<std::unique_ptr<Policy>>> policies = make_policies(options, report);
  LATHE_TRY(policies);
  Result<Steps> steps = Steps::make(options, report);
  LATHE_TRY(steps);

  Progress progress("replaying");
  Timeline timeline(options);
  std::vector<Assignment> assignments(policies->size());
  Step step;
  int64_t made = 0;
  while ((options.max_steps == 0 || made < options.max_steps) && steps->next(step)) {
    ++made;
    const EvaluatedBatch batch = report.shape.batch(step.qo_lens, step.kv_lens);
    PolicyBatch lengths{step.qo_lens, step.kv_lens};
    int64_t distinct_bytes = 0;
    if (const PageTables* tables = steps->tables()) {
      lengths.page_ids = tables->page_ids();
      distinct_bytes = kv_bytes(batch, tables->distinct_keys());
    }
    std::vector<TimelineRow> rows;
    for (size_t i = 0; i < policies->size(); ++i) {
      const auto timed = (*policies)[i]->assign(lengths, assignments[i]);
      LATHE_TRY(timed);
      const Evaluation evaluation = evaluate(batch, assignments[i]);
      Figures& figures = report.figures[i][step.kind];
      figures.add(evaluation, timed->plan_us, assignments[i].workspace_bytes);
      if (assignments[i].shares) figures.add_sharing(evaluation, distinct_bytes);
      rows.push_back({name_of(report.policies[i]), &assignments[i], evaluation});
    }
    if (timeline.wants(step)) LATHE_TRY(timeline.draw(report.trace + report.synthetic, batch, step, rows));
  }
  LATHE_TRY(timeline.check());
  report.whole = options.max_steps == 0 || !steps->next(step);
  report.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return report;
}

int run_plan(const PlanOptions& options) {
  const Result<ReplayReport> report = replay(options);
  if (!report.ok()) return fail(report.status());
  if (options.json) {
    fmt::print("{}\n", to_json(*report).dump(2));
  } else {
    fmt::print("{}", text_of(*report));
  }
  return 0;
}

}  // namespace

void add_plan(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<PlanOptions>();
  CLI::App* job = app.add_subcommand("plan", "Replay a request trace through the scheduler, beside other ways to schedule it.");
  job->add_option("--trace", options->trace, "requests: Azure CSV, Mooncake JSON lines");
  job->add_option("--synthetic", options->synthetic, "in place of a trace, 1000 batches of decodes")
      ->check(CLI::IsMember({"zipf", "one-long"}));
  job->add_option("--batch", options->batch, "requests at a time")->required()->check(CLI::Range(1, kMaxBatch));
  job->add_option("--heads", options->heads, "query heads / KV heads")->capture_default_str();
  job->add_option("--head-dim", options->head_dim, "of K and of V")->capture_default_str();
  job->add_option("--sms", options->sms, "multiprocessors of the device")->capture_default_str();
  job->add_option("--chunk", options->chunk, "query tokens of a step; 0: prompts are computed elsewhere")
      ->check(CLI::Range(0, kMaxChunk))
      ->capture_default_str();
  job->add_option("--page-size", options->page_size, "tokens of a page")->capture_default_str();
  job->add_option("--policy", options->policies, "those to compare")
      ->delimiter(',')
      ->check(CLI::IsMember({"ours", "shared", "uniform_chunk", "no_split"}))
      ->capture_default_str();
  job->add_option("--max-steps", options->max_steps, "stop after this many; left out: the whole trace")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  job->add_option("--mean", options->mean, "mean length of --synthetic zipf")
      ->check(CLI::Range(1, kMaxMean))
      ->capture_default_str();
  job->add_option("--seed", options->seed, "of --synthetic")->capture_default_str();
  job->add_option("--timeline", options->timeline, "a file for a picture of one step (HTML)");
  job->add_option("--step", options->step, "which; left out: the first that has decodes only")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  job->add_flag("--json", options->json, "one JSON object instead of the table");
  job->callback([options, &exit_code] { exit_code = run_plan(*options); });
}

}  // namespace lathe::cli
