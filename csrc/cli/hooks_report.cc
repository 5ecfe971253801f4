#include "hooks_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "lathe/spec/expr/device_source.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/print.h"
#include "table.h"

namespace lathe::cli {
namespace {

using expr::Hook;
using expr::Truth;
using Json = nlohmann::ordered_json;

const char* how_skipped(expr::SkipClass skip) {
  static constexpr std::array kHow{"ranges of keys, found for each block of rows", "each tile is looked at when a batch is planned",
                                   "nothing is known ahead: every tile is evaluated"};
  return kHow[static_cast<size_t>(skip)];
}

std::string cost_text(const HookCost& cost) {
  if (cost.in_steps)
    return fmt::format("operations: {} {}, {} a column, {} a row, {} a tile", cost.each, cost.unit, cost.column, cost.row,
                       cost.tile);
  std::string text = fmt::format("operations: {} {}", cost.each, cost.unit);
  if (cost.constant > 0)
    text += fmt::format("; {} of them are the same for a whole row or tile, and done again for each", cost.constant);
  return text;
}

Json cost_json(const HookCost& cost) {
  if (cost.in_steps) return {{"element", cost.each}, {"column", cost.column}, {"row", cost.row}, {"tile", cost.tile}};
  return {{"each", cost.each}, {"of", cost.unit}};
}

// The mask of a spec as hooks, whether it is a field or a hook.
AttentionHooks mask_hooks(const AttentionSpec& spec) {
  switch (spec.mask) {
    case Mask::none:
      return spec.hooks.has(Hook::mask) ? spec.hooks : *expr::parse("mask = true");
    case Mask::causal:
      return *expr::parse("mask = kv_pos <= q_pos");
    case Mask::window:
      return *expr::parse("param window: i32 in [1, 2147483647]; mask = q_pos - kv_pos < window");
    case Mask::causal_window:
      return *expr::parse("param window: i32 in [1, 2147483647]; mask = kv_pos <= q_pos && q_pos - kv_pos < window");
  }
  return {};
}

Json ranges_json(const std::vector<expr::Interval>& ranges) {
  Json out = Json::array();
  for (const expr::Interval& range : ranges) out.push_back({range.lo, range.hi + 1});
  return out;
}

// A tensor of the canonical form as it was declared: there its range is part of the expressions.
std::string declared_text(const AttentionHooks& hooks, expr::Tensor tensor) {
  const std::vector<expr::Tensor>& given = hooks.given().tensors;
  const auto declared = std::ranges::find(given, tensor.name, &expr::Tensor::name);
  if (declared != given.end()) tensor.range = declared->range;
  return expr::to_text(tensor, hooks.canonical().params);
}

std::vector<Hook> hooks_of(const AttentionHooks& hooks) {
  std::vector<Hook> out;
  for (size_t i = 0; i < expr::kHooks; ++i) {
    if (hooks.has(static_cast<Hook>(i))) out.push_back(static_cast<Hook>(i));
  }
  return out;
}

}  // namespace

HookCost cost_of(const expr::Hooks& canonical, Hook hook) {
  HookCost cost{"an element"};
  std::array<int, 4> changes{};  // by what they change with
  for (const expr::Statement& s : expr::device_source(canonical, hook).statements) ++changes[static_cast<size_t>(s.variation)];
  const int all = changes[0] + changes[1] + changes[2] + changes[3];
  switch (hook) {
    case Hook::mask:
    case Hook::logits:
    case Hook::weight:
      cost.in_steps = true;
      cost.each = changes[3], cost.column = changes[2], cost.row = changes[1], cost.tile = changes[0];
      return cost;
    case Hook::sink:
      cost.unit = "8 elements of a row";
      break;
    case Hook::lse_transform:
      cost.unit = "a row";
      break;
    default:
      cost.constant = all - changes[3];
  }
  cost.each = all;
  return cost;
}

std::string hooks_text(const AttentionHooks& hooks) {
  const expr::Hooks& canonical = hooks.canonical();
  std::vector<std::vector<std::string>> rows;
  for (const expr::Param& param : canonical.params) rows.push_back({"param", expr::to_text(param)});
  for (const expr::Tensor& tensor : canonical.tensors) rows.push_back({"tensor", declared_text(hooks, tensor)});
  for (Hook hook : hooks_of(hooks)) {
    rows.push_back({expr::info(hook).text, expr::hook_text(canonical, hook)});
    if (canonical.graph[canonical.root(hook)].op == expr::Op::cuda)
      rows.push_back({"", "CUDA text: compiled as it stands, marked unsafe_cuda in the cache, and nothing is known of it"});
    rows.push_back({"", cost_text(cost_of(canonical, hook))});
  }
  if (!hooks.normalizes()) rows.push_back({"normalizer", "none: the logits are the weights"});
  if (hooks.has(Hook::mask))
    rows.push_back(
        {"skip", fmt::format("{}: {}{} (--q-len and --kv-len show them)", expr::name_of(hooks.skip_class()),
                             how_skipped(hooks.skip_class()),
                             hooks.mask_differs_by_head() ? "; heads see different keys and are planned one by one" : "")});
  std::string text = table(rows);
  for (const std::string& note : hooks.notes()) text += paragraph("Note: " + note);
  return text;
}

Json hooks_json(const AttentionHooks& hooks) {
  const expr::Hooks& canonical = hooks.canonical();
  Json out{{"params", Json::array()}, {"tensors", Json::array()}, {"hooks", Json::object()}};
  for (const expr::Param& param : canonical.params) out["params"].push_back(expr::to_text(param));
  for (const expr::Tensor& tensor : canonical.tensors) out["tensors"].push_back(declared_text(hooks, tensor));
  for (Hook hook : hooks_of(hooks))
    out["hooks"][expr::info(hook).text] = {{"text", expr::hook_text(canonical, hook)},
                                           {"operations", cost_json(cost_of(canonical, hook))}};
  out["normalizer"] = hooks.normalizes() ? "softmax" : "none";
  out["skip"] = hooks.has(Hook::mask) ? Json(expr::name_of(hooks.skip_class())) : Json();
  out["warnings"] = hooks.warnings();
  out["notes"] = hooks.notes();
  return out;
}

Result<MaskReport> report_mask(const AttentionSpec& spec, const AttentionTile& tile, MaskArgs args) {
  const TileClass& c = tile.classes.front();
  const int64_t rows = std::max(tile.packed ? c.q / spec.group_size : c.q, 1);
  args.group = spec.group_size;
  Result<MaskProblem> problem = read_mask_problem(mask_hooks(spec), args, rows, c.kv);
  LATHE_TRY(problem);
  MaskReport out{*std::move(problem), {}, {}};
  out.map = analyse(out.problem);
  out.lines = lines_of(out.problem);
  LATHE_TRY(write_picture(args, out.map));
  return out;
}

std::string mask_text(const MaskReport& report) {
  const MaskProblem& p = report.problem;
  const MaskMap& map = report.map;
  std::vector<std::vector<std::string>> rows{{"rows", "keys seen by some", "keys seen by all"}};
  for (const MaskLine& line : report.lines)
    rows.push_back({fmt::format("[{}, {})", line.rows.lo, line.rows.hi + 1), ranges_text(line.seen), ranges_text(line.full)});
  return paragraph(fmt::format("{} rows and {} keys in tiles of {} by {}: {} empty, {} full, {} partial", p.q_len, p.kv_len,
                               p.tile_rows, p.tile_keys, map.count(Truth::empty), map.count(Truth::full),
                               map.count(Truth::partial))) +
         paragraph("heads: " + heads_text(p)) + draw_text(map) + "  . empty   # full   + partial\n" +
         (report.lines.empty() ? "" : "\n" + table(rows));
}

Json mask_json(const MaskReport& report) {
  const MaskProblem& p = report.problem;
  const MaskMap& map = report.map;
  Json lines = Json::array();
  for (const MaskLine& line : report.lines)
    lines.push_back(
        {{"rows", {line.rows.lo, line.rows.hi + 1}}, {"seen", ranges_json(line.seen)}, {"full", ranges_json(line.full)}});
  return {{"q_len", p.q_len},
          {"kv_len", p.kv_len},
          {"tile", {p.tile_rows, p.tile_keys}},
          {"heads", {p.looked_at.lo, p.looked_at.hi + 1}},
          {"empty", map.count(Truth::empty)},
          {"full", map.count(Truth::full)},
          {"partial", map.count(Truth::partial)},
          {"ranges", lines}};
}

}  // namespace lathe::cli
