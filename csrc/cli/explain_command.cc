// lathe explain: what is chosen for a spec and a batch, and why.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <nlohmann/json.hpp>

#include "batch_arg.h"
#include "case.h"
#include "case_report.h"
#include "commands.h"
#include "input.h"
#include "lathe/spec/expr/device_source.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/field_docs.h"
#include "mask_arg.h"
#include "spec_arg.h"
#include "table.h"

namespace lathe::cli {
namespace {

struct ExplainOptions {
  std::string spec, batch, arch;
  MaskArgs mask;
  bool unsafe_cuda = false;

  bool draws() const { return mask.q_len != 0 || mask.kv_len != 0 || !mask.svg.empty(); }
};

// Every field with the value it has, and which of those were chosen.
std::string fields_text(const std::string& canonical, const std::vector<FieldDoc>& docs) {
  const auto root = nlohmann::json::parse(canonical);
  std::vector<std::vector<std::string>> rows;
  for (const FieldDoc& doc : docs) {
    std::string pointer = "/" + doc.path;
    std::ranges::replace(pointer, '.', '/');
    const auto at = nlohmann::json::json_pointer(pointer);
    if (!root.contains(at)) continue;
    const nlohmann::json& node = root[at];
    const std::string value = node.is_string() ? node.get<std::string>() : node.dump();
    if (!value.empty()) rows.push_back({doc.path, value, value == doc.preset ? "(default)" : ""});
  }
  return table(rows);
}

const char* reason_of_split(const AttentionSpec& spec) {
  switch (spec.split_kv.mode) {
    case SplitMode::off:
      return "never, as the spec asks";
    case SplitMode::fixed:
      return "at absolute multiples of the given number of keys, as the spec asks";
    case SplitMode::automatic:
      break;
  }
  if (spec.determinism == Determinism::batch_invariant) {
    return "never: auto is off under batch_invariant, because where to cut would depend on the other requests of the batch";
  }
  return "auto: where it shortens the longest block of the grid";
}

std::string tile_text(const AttentionSpec& spec, const AttentionTile& tile) {
  std::vector<std::vector<std::string>> rows;
  for (const TileClass& c : tile.classes) {
    rows.push_back({fmt::format("{} x {}", c.q, c.kv),
                    fmt::format("query rows by keys; {} warps along q, {} share the keys", tile.warps_q(c), tile.warps_kv(c))});
  }
  rows.push_back({"block", fmt::format("{} warps, {} of keys and values in flight, {} of shared memory", tile.warps,
                                       plural(static_cast<uint64_t>(tile.stages), "stage"), in_bytes(tile.shared_bytes))});
  rows.push_back({"rows", tile.packed ? fmt::format("the {} query heads of a KV head share a tile's rows", spec.group_size)
                                      : "each query head has tiles of its own"});
  return table(rows) + paragraph("Why: " + tile.reason);
}

// The hooks as the kernel has them, and what each costs.
std::string hooks_text(const AttentionHooks& hooks) {
  const expr::Hooks& canonical = hooks.canonical();
  std::vector<std::vector<std::string>> rows;
  for (const expr::Param& param : canonical.params) rows.push_back({"param", expr::to_text(param)});
  for (const expr::Tensor& tensor : canonical.tensors) rows.push_back({"tensor", expr::to_text(tensor, canonical.params)});
  for (size_t i = 0; i < expr::kHooks; ++i) {
    const auto hook = static_cast<expr::Hook>(i);
    if (!hooks.has(hook)) continue;
    if (canonical.graph[canonical.root(hook)].op == expr::Op::cuda)
      rows.push_back({"", "CUDA text: compiled as it stands, marked unsafe_cuda in the cache, and nothing is known of it"});
    std::array<int, 4> operations{};  // by what they change with
    for (const expr::Statement& s : expr::device_source(canonical, hook).statements) ++operations[static_cast<size_t>(s.variation)];
    rows.push_back({expr::info(hook).text, expr::hook_text(canonical, hook)});
    rows.push_back({"", fmt::format("operations: {} an element, {} a column, {} a row, {} a tile", operations[3], operations[2],
                                    operations[1], operations[0])});
  }
  if (!hooks.normalizes()) rows.push_back({"normalizer", "none: the logits are the weights"});
  if (hooks.has(expr::Hook::mask)) {
    static constexpr std::array kHow{"ranges of keys, found for each block of rows",
                                     "each tile is looked at when a batch is planned",
                                     "nothing is known ahead: every tile is evaluated"};
    rows.push_back({"skip", std::string(expr::name_of(hooks.skip_class())) + ": " + kHow[static_cast<size_t>(hooks.skip_class())] +
                                " (--q-len and --kv-len draw it)"});
  }
  return table(rows);
}

// The mask of a spec as hooks, whether it is a field or a hook.
AttentionHooks mask_hooks(const AttentionSpec& spec) {
  switch (spec.mask) {
    case Mask::none:
      return spec.hooks.has(expr::Hook::mask) ? spec.hooks : *expr::parse("mask = true");
    case Mask::causal:
      return *expr::parse("mask = kv_pos <= q_pos");
    case Mask::window:
      return *expr::parse("param window: i32 in [1, 2147483647]; mask = q_pos - kv_pos < window");
    case Mask::causal_window:
      return *expr::parse("param window: i32 in [1, 2147483647]; mask = kv_pos <= q_pos && q_pos - kv_pos < window");
  }
  return {};
}

// The tiles of one request, in those of the tallest class, and its picture where one is asked for.
Result<std::string> map_text(const AttentionSpec& spec, const AttentionTile& tile, const MaskArgs& args) {
  const TileClass& c = tile.classes.front();
  const int64_t rows = std::max(tile.packed ? c.q / spec.group_size : c.q, 1);
  Result<MaskProblem> problem = read_mask_problem(mask_hooks(spec), args, rows, c.kv);
  LATHE_TRY(problem);
  const MaskMap map = analyse(*problem);
  LATHE_TRY(write_picture(args, map));
  using expr::Truth;
  return paragraph(fmt::format("{} rows and {} keys in tiles of {} by {}: {} empty, {} full, {} partial", args.q_len, args.kv_len,
                               rows, c.kv, map.count(Truth::empty), map.count(Truth::full), map.count(Truth::partial))) +
         draw_text(map) + "  . empty   # full   + partial\n";
}

std::string kernel_text(const Engine& engine, const KernelRequest& request) {
  std::vector<std::vector<std::string>> rows{
      {"family", request.family + ", entry " + request.entry},
      {"block", fmt::format("{} threads, {} bytes of shared memory", request.block_threads, request.shared_bytes)}};
  const Result<std::string> source = engine.source(request);
  rows.push_back({"source", source.ok() ? fmt::format("{} lines (lathe source prints them)", std::ranges::count(*source, '\n'))
                                        : source.status().to_string()});
  const Result<std::string> key = engine.key(request);
  rows.push_back({"key", key.ok() ? digest_of(std::as_bytes(std::span(*key))).hex() : "none: " + key.status().to_string()});
  return table(rows);
}

// The schedule for a device as the arch's table has it; a loaded kernel may get two blocks per multiprocessor.
Result<std::string> batch_text(const AttentionSpec& spec, const AttentionTile& tile, const testing::BatchShape& shape) {
  Result<ArchTraits> traits = arch_traits(spec.arch);
  LATHE_TRY(traits);
  const std::vector<int32_t> qo_indptr = testing::indptr(shape.qo_lens), kv_begin(shape.batch(), 0);
  const PlanShape plan_shape{spec, tile, shape.num_kv_heads, traits->num_sms,
                             attention_costs(*traits, traits->num_sms, traits->num_sms)};
  Result<AttentionPlan> plan = plan_attention(plan_shape, {qo_indptr, shape.kv_lens, kv_begin, shape.window});
  LATHE_TRY(plan);
  const ScheduleFigures s = figures_of(plan_shape, *plan);
  std::string text =
      paragraph(fmt::format("for {} of {}, one on each multiprocessor", plural(static_cast<uint64_t>(s.blocks), "block"),
                            spec.arch == "host" ? "the host executor" : "a typical " + spec.arch + " device"));
  text += paragraph(fmt::format("workspace {}, {}", in_bytes(s.workspace_bytes),
                                plural(static_cast<uint64_t>(s.partial_rows), "row") + " of partial states"));
  for (size_t i = 0; i < tile.classes.size(); ++i) {
    text += fmt::format("  {} x {}: {}\n", tile.classes[i].q, tile.classes[i].kv,
                        plural(static_cast<uint64_t>(s.items_of_class[i]), "item"));
  }
  return text + "\n" + draw(plan_shape, *plan, 76);
}

int explain(const ExplainOptions& options) {
  if (options.spec == "-" && options.batch == "-")
    return fail(invalid_argument("--batch", "is - and so is --spec; only one can be"));
  Result<AnySpec> any = read_spec(options.spec, options.arch);
  if (!any.ok()) return fail(any.status());
  const auto* spec = std::get_if<AttentionSpec>(&*any);
  if (spec == nullptr && !options.batch.empty()) return fail(invalid_argument("--batch", "is given, but only attention takes one"));
  std::optional<testing::BatchShape> shape;
  if (!options.batch.empty()) {
    Result<testing::BatchShape> read = read_batch_arg(*spec, options.batch);
    if (!read.ok()) return fail(read.status());
    shape = *std::move(read);
  }
  if (spec == nullptr && options.draws()) return fail(invalid_argument("--q-len", "is given, but only attention has a mask"));
  if (shape && skips_tiles(*spec))
    return fail(
        invalid_argument("--batch", "cannot go with a mask of hooks here: what it skips depends on its params and tensors"));
  Result<KernelRequest> request = request_of(*any, {options.unsafe_cuda});
  if (!request.ok()) return fail(request.status());

  std::string text = "Spec\n" + fields_text(std::visit([](const auto& s) { return lathe::to_json(s); }, *any),
                                            std::holds_alternative<AttentionSpec>(*any) ? attention_field_docs()
                                            : std::holds_alternative<AppendSpec>(*any)  ? append_field_docs()
                                                                                        : merge_field_docs());
  std::string schedule;
  if (spec != nullptr) {
    Result<AttentionTile> tile = tile_of(*spec);
    if (!tile.ok()) return fail(tile.status());
    if (!spec->hooks.empty()) text += "\nHooks, as the kernel has them\n" + hooks_text(spec->hooks);
    text += "\nTile classes, " + spec->arch + "\n" + tile_text(*spec, *tile);
    if (options.draws()) {
      Result<std::string> map = map_text(*spec, *tile, options.mask);
      if (!map.ok()) return fail(map.status());
      text += "\nTiles of the mask\n" + *map;
    }
    text += std::string("\nSplits of the keys\n") + paragraph(reason_of_split(*spec));
    if (shape) {
      Result<std::string> planned = batch_text(*spec, *tile, *shape);
      if (!planned.ok()) return fail(planned.status());
      schedule = "\nSchedule: " + sizes_of(*spec, *shape) + "\n" + *planned;
    }
  }
  text += "\nKernel\n" + kernel_text(Engine(engine_allowing(options.unsafe_cuda)), *request);
  fmt::print("{}{}", text, schedule);
  return 0;
}

}  // namespace

void add_explain(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<ExplainOptions>();
  CLI::App* job = app.add_subcommand("explain", "Say what is chosen for a spec, and for a batch, and why.");
  job->add_option("--spec", options->spec, "the operation (docs/spec.md)")->required();
  job->add_option("--batch", options->batch, "lengths to schedule as well (lathe run --help)");
  job->add_option("--arch", options->arch, "in place of the spec's own");
  add_unsafe_cuda(*job, options->unsafe_cuda);
  add_mask_options(*job, options->mask, false);
  job->callback([options, &exit_code] { exit_code = explain(*options); });
}

}  // namespace lathe::cli
