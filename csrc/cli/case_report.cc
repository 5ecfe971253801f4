#include "case_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "table.h"

namespace lathe::cli {
namespace {

using Json = nlohmann::ordered_json;

// JSON has no infinity; an error without a number is told by a text.
Json number(double x) {
  if (std::isfinite(x)) return x;
  return "not finite";
}

Json tile_json(const AttentionTile& tile, const ScheduleFigures& figures) {
  Json classes = Json::array();
  for (size_t i = 0; i < tile.classes.size(); ++i) {
    classes.push_back({{"q", tile.classes[i].q}, {"kv", tile.classes[i].kv}, {"items", figures.items_of_class[i]}});
  }
  return {{"warps", tile.warps}, {"stages", tile.stages},           {"packed", tile.packed},
          {"classes", classes},  {"smem_bytes", tile.shared_bytes}, {"reason", tile.reason}};
}

Json counters_json(const CaseResult& r) {
  if (r.device.arch != "host") return nullptr;  // nothing is counted there
  const LaunchCounters& c = r.outcome.counters;
  Json tensors = Json::object();
  for (const LaunchCounters::Tensor& t : c.tensors) {
    tensors[t.name] = {{"bytes_read", t.bytes_read}, {"bytes_written", t.bytes_written}};
  }
  return {{"kv_bytes_read", kv_bytes_read(c)},
          {"kv_bytes_ideal", ideal_kv_bytes(r.spec, r.shape)},
          {"matrix_instructions", c.matrix_instructions},
          {"idle_matrix_instructions", c.idle_matrix_instructions},
          {"async_copies", c.async_copies},
          {"block_barriers", c.block_barriers},
          {"warp_collectives", c.warp_collectives},
          {"shared_accesses", c.shared_accesses},  // both are counted with LATHE_SIMT_CHECK=1
          {"shared_bank_conflicts", c.shared_bank_conflicts},
          {"tensors", tensors}};
}

Json check_json(const CaseResult& r) {
  if (!r.accuracy) return nullptr;
  const testing::Accuracy& a = *r.accuracy;
  return {{"passed", r.failures().empty()},
          {"tensor_error", number(a.tensor)},
          {"tensor_bound", r.bounds.tensor},
          {"row_error", number(a.worst_row)},
          {"row_bound", r.bounds.row},
          {"lse_error", r.spec.lse == LseOut::none ? Json(nullptr) : number(a.worst_lse)},
          {"lse_bound", r.bounds.lse},
          {"worst_row", {{"request", a.worst_request}, {"token", a.worst_token}, {"head", a.worst_head}, {"what", a.worst}}}};
}

// Counted only with the executor's checks on.
std::string shared_text(const LaunchCounters& c) {
  if (c.shared_accesses == 0) return {};
  return fmt::format("  shared memory: {} warp-wide accesses, {}\n", with_commas(c.shared_accesses),
                     plural(c.shared_bank_conflicts, "bank conflict"));
}

std::vector<std::string> error_row(const char* what, double error, double bound) {
  return {what, fmt::format("{:.2e}", error), fmt::format("{:.1e}", bound), error <= bound ? "ok" : "TOO LARGE"};
}

}  // namespace

Json to_json(const testing::BatchShape& shape) {
  Json json{{"num_kv_heads", shape.num_kv_heads}, {"qo_lens", shape.qo_lens}, {"kv_lens", shape.kv_lens}};
  if (shape.window != 0) json["window"] = shape.window;
  if (shape.sm_scale != 0) json["sm_scale"] = shape.sm_scale;
  if (shape.soft_cap != 0) json["soft_cap"] = shape.soft_cap;
  return json;
}

Json to_json(const CaseResult& r) {
  const ScheduleFigures s = r.schedule();
  const Artifact& a = *r.artifact;
  return {{"passed", r.failures().empty()},
          {"failures", r.failures()},
          {"spec", Json::parse(lathe::to_json(r.spec))},
          {"batch", to_json(r.shape)},
          {"seed", r.seed},
          {"device", {{"name", r.device.name}, {"arch", r.device.arch}, {"driver", r.device.driver}}},
          {"kernel",
           {{"key", a.key_hex},
            {"origin", name_of(r.origin)},
            {"compiler", a.compiler},
            {"compile_ms", a.compile_ms},
            {"binary_bytes", a.binary.size()},
            {"registers", a.registers},
            {"spill_bytes", a.spill_bytes}}},
          {"tile", tile_json(r.tile, s)},
          {"schedule",
           {{"blocks", s.blocks},
            {"items", s.items},
            {"split_tiles", s.split_tiles},
            {"partial_rows", s.partial_rows},
            {"longest_over_mean", s.longest_over_mean},
            {"workspace_bytes", s.workspace_bytes}}},
          {"counters", counters_json(r)},
          {"check", check_json(r)},
          {"times", {{"prepare_ms", r.prepare_ms}, {"launch_ms", r.outcome.launch_ms}, {"reference_ms", r.check_ms}}}};
}

std::string sizes_of(const AttentionSpec& spec, const testing::BatchShape& shape) {
  return fmt::format("{}, {}, {}; {} query heads on {}", plural(shape.batch(), "request"),
                     plural(static_cast<uint64_t>(shape.qo_tokens()), "query token"),
                     plural(static_cast<uint64_t>(shape.kv_tokens()), "key"), shape.num_kv_heads * spec.group_size,
                     plural(static_cast<uint64_t>(shape.num_kv_heads), "KV head"));
}

std::string schedule_text(const CaseResult& r) {
  if (r.outcome.plan.plan.image_bytes == 0) return "  none: the batch was not planned\n";
  const ScheduleFigures s = r.schedule();
  std::string drawn = draw(r.plan_shape, r.outcome.plan.plan, 74), text;
  for (size_t at = 0; at < drawn.size();) {
    const size_t end = std::min(drawn.find('\n', at), drawn.size());
    text += "  " + drawn.substr(at, end - at) + "\n";
    at = end + 1;
  }
  std::vector<std::vector<std::string>> rows;
  for (size_t i = 0; i < r.tile.classes.size(); ++i) {
    const TileClass& c = r.tile.classes[i];
    rows.push_back(
        {fmt::format("tiles of {} rows by {} keys:", c.q, c.kv), plural(static_cast<uint64_t>(s.items_of_class[i]), "item")});
  }
  return text + "  a line is a block of the grid; ▐ begins a work item, ▒ is a part of a split tile\n" + table(rows);
}

std::string run_text(const CaseResult& r) {
  const LaunchCounters& c = r.outcome.counters;
  const bool host = r.device.arch == "host";
  std::vector<std::vector<std::string>> rows{{"ran on", r.device.name + (host ? "" : ", driver " + r.device.driver)},
                                             {"time", in_ms(r.outcome.launch_ms) + " (the faster of two launches of one plan)"}};
  if (host) {
    const uint64_t read = kv_bytes_read(c), ideal = ideal_kv_bytes(r.spec, r.shape);
    const double times = static_cast<double>(read) / static_cast<double>(std::max<uint64_t>(ideal, 1));
    rows.push_back({"K, V read", in_bytes(read) + fmt::format(", {:.2f} times what reading each once takes", times)});
    rows.push_back({"mma", with_commas(c.matrix_instructions) + " matrix instructions (16 x 8 x 16), " +
                               with_commas(c.idle_matrix_instructions) + " of them on zeros: masked keys, missing rows"});
  }
  return table(rows) + shared_text(c);
}

std::string strict_text(const CaseResult& r) {
  std::string text;
  if (r.outcome.problems.empty()) {
    text = paragraph("nothing found: no race, no divergent barrier, no address out of bounds, no read of what was never written");
  }
  return text + shared_text(r.outcome.counters) + check_text(r);
}

std::string check_text(const CaseResult& r) {
  std::string text;
  if (r.accuracy) {
    const testing::Accuracy& a = *r.accuracy;
    std::vector<std::vector<std::string>> rows{{"", "error", "bound"}};
    rows.push_back(error_row("whole tensor", a.tensor, r.bounds.tensor));
    rows.push_back(error_row("worst row", a.worst_row, r.bounds.row));
    if (r.spec.lse != LseOut::none) rows.push_back(error_row("lse", a.worst_lse, r.bounds.lse));
    text = table(rows);
  }
  const std::vector<std::string> failures = r.failures();
  for (const std::string& failure : failures) text += paragraph("FAILED: " + failure);
  if (r.accuracy && !failures.empty()) text += paragraph("worst row: " + r.accuracy->worst);
  return text;
}

}  // namespace lathe::cli
