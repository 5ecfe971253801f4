// lathe explain: what is chosen for a spec and a batch, and why.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "batch_arg.h"
#include "case.h"
#include "case_report.h"
#include "commands.h"
#include "hooks_report.h"
#include "input.h"
#include "key_report.h"
#include "lathe/jit/compile_key.h"
#include "lathe/spec/field_docs.h"
#include "spec_arg.h"
#include "table.h"

namespace lathe::cli {
namespace {

using Json = nlohmann::ordered_json;

struct ExplainOptions {
  std::string spec, batch, arch, with;
  MaskArgs mask;
  bool json = false, unsafe_cuda = false;

  bool draws() const { return mask.q_len != 0 || mask.kv_len != 0; }
};

// Every field with the value it has, and which of those were chosen.
std::string fields_text(const std::string& canonical, const std::vector<FieldDoc>& docs) {
  const auto root = nlohmann::json::parse(canonical);
  std::vector<std::vector<std::string>> rows;
  for (const FieldDoc& doc : docs) {
    std::string pointer = "/" + doc.path;
    std::ranges::replace(pointer, '.', '/');
    const auto at = nlohmann::json::json_pointer(pointer);
    if (!root.contains(at) || doc.path == "hooks") continue;  // hooks have a table of their own
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

Json tile_json(const AttentionTile& tile) {
  Json classes = Json::array();
  for (const TileClass& c : tile.classes) classes.push_back({{"q", c.q}, {"kv", c.kv}});
  return {{"warps", tile.warps}, {"stages", tile.stages},           {"packed", tile.packed},
          {"classes", classes},  {"smem_bytes", tile.shared_bytes}, {"reason", tile.reason}};
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

// The whole key of a request or, where there is no compiler, all of it but that.
Result<std::string> key_for(const Engine& engine, const KernelRequest& request) {
  Result<std::string> key = engine.key(request);
  if (key.status().code() != Code::unavailable) return key;
  Result<std::string> source = engine.source(request);
  LATHE_TRY(source);
  return compile_key_prefix(request, *source);
}

// What decides whether the specs of --spec and --with share a kernel.
Result<KeyComparison> compare(const Engine& engine, const KernelRequest& request, const ExplainOptions& options) {
  Result<AnySpec> other = read_spec(options.with, options.arch);
  LATHE_TRY(other);
  Result<KernelRequest> other_request = request_of(*other, {options.unsafe_cuda});
  LATHE_TRY(other_request);
  const Result<std::string> key = key_for(engine, request), other_key = key_for(engine, *other_request);
  LATHE_TRY(key);
  LATHE_TRY(other_key);
  return *compare_keys(*key, *other_key);
}

std::string sharing_text(const KeyComparison& keys) {
  if (keys.differences.empty()) return paragraph("one kernel: nothing that decides it differs");
  return paragraph("two kernels; what differs in their keys:") + differences_text(keys, "--spec has", "--with has");
}

Json sharing_json(const KeyComparison& keys) {
  Json out{{"one_kernel", keys.differences.empty()}, {"differences", Json::array()}};
  for (const auto* list : {&keys.spec_differences, &keys.differences}) {
    for (const KeyDifference& d : *list) {
      if (d.field != "canonical" || keys.spec_differences.empty())
        out["differences"].push_back({{"field", d.field}, {"spec", d.asked}, {"with", d.stored}});
    }
  }
  return out;
}

// What cannot go together, before anything is worked out.
Status check_options(const ExplainOptions& options, const AnySpec& any) {
  const auto* spec = std::get_if<AttentionSpec>(&any);
  if (spec == nullptr && !options.batch.empty()) return invalid_argument("--batch", "is given, but only attention takes one");
  const char* drawn = options.draws() ? "--q-len" : options.mask.first_given();
  if (spec == nullptr && drawn != nullptr) return invalid_argument(drawn, "is given, but only attention has a mask");
  if (!options.draws() && drawn != nullptr)
    return invalid_argument(drawn, "is given without --q-len and --kv-len, for which the mask is looked at");
  if (options.json && !options.batch.empty())
    return invalid_argument("--batch", "cannot go with --json; lathe run --json has a schedule");
  if (spec != nullptr && !options.batch.empty() && skips_tiles(*spec))
    return invalid_argument("--batch", "cannot go with a mask of hooks here: what it skips depends on its params and tensors");
  return {};
}

// All that is known of a spec: what is worked out once, for words and JSON.
struct Explained {
  AnySpec spec;
  std::optional<testing::BatchShape> shape;
  KernelRequest request;
  std::optional<AttentionTile> tile;  // of attention
  std::optional<MaskReport> mask;
  std::optional<KeyComparison> sharing;

  const AttentionSpec* attention() const { return std::get_if<AttentionSpec>(&spec); }
};

Result<Explained> work_out(const Engine& engine, const ExplainOptions& options) {
  int streams = 0;
  for (const std::string* argument : {&options.spec, &options.batch, &options.with}) streams += *argument == "-" ? 1 : 0;
  if (streams > 1) return invalid_argument("--spec", "is -, as another option is; only one can be");
  Result<AnySpec> any = read_spec(options.spec, options.arch);
  LATHE_TRY(any);
  LATHE_TRY(check_options(options, *any));
  Explained out{*std::move(any), {}, {}, {}, {}, {}};
  const AttentionSpec* spec = out.attention();
  if (!options.batch.empty()) {
    Result<testing::BatchShape> shape = read_batch_arg(*spec, options.batch);
    LATHE_TRY(shape);
    out.shape = *std::move(shape);
  }
  Result<KernelRequest> request = request_of(out.spec, {options.unsafe_cuda});
  LATHE_TRY(request);
  out.request = *std::move(request);
  if (spec != nullptr) {
    Result<AttentionTile> tile = tile_of(*spec);
    LATHE_TRY(tile);
    out.tile = *std::move(tile);
    if (options.draws()) {
      Result<MaskReport> report = report_mask(*spec, *out.tile, options.mask);
      LATHE_TRY(report);
      out.mask = *std::move(report);
    }
  }
  if (!options.with.empty()) {
    Result<KeyComparison> keys = compare(engine, out.request, options);
    LATHE_TRY(keys);
    out.sharing = *std::move(keys);
  }
  return out;
}

std::string spec_json(const AnySpec& spec) {
  return std::visit([](const auto& s) { return lathe::to_json(s); }, spec);
}

Result<std::string> explained_text(const Engine& engine, const Explained& e) {
  std::string text =
      "Spec\n" + fields_text(spec_json(e.spec), std::holds_alternative<AttentionSpec>(e.spec) ? attention_field_docs()
                                                : std::holds_alternative<AppendSpec>(e.spec)  ? append_field_docs()
                                                                                              : merge_field_docs());
  std::string schedule;
  if (!hooks_of(e.spec).empty()) text += "\nHooks, as the kernel has them\n" + hooks_text(hooks_of(e.spec));
  if (const AttentionSpec* spec = e.attention()) {
    text += "\nTile classes, " + spec->arch + "\n" + tile_text(*spec, *e.tile);
    if (e.mask) text += "\nTiles of the mask\n" + mask_text(*e.mask);
    text += std::string("\nSplits of the keys\n") + paragraph(reason_of_split(*spec));
    if (e.shape) {
      Result<std::string> planned = batch_text(*spec, *e.tile, *e.shape);
      LATHE_TRY(planned);
      schedule = "\nSchedule: " + sizes_of(*spec, *e.shape) + "\n" + *planned;
    }
  }
  text += "\nKernel\n" + kernel_text(engine, e.request);
  if (e.sharing) text += "\nBeside --with\n" + sharing_text(*e.sharing);
  return text + schedule;
}

Json explained_json(const Engine& engine, const Explained& e) {
  Json out{{"spec", Json::parse(spec_json(e.spec))}};
  if (!std::holds_alternative<AppendSpec>(e.spec)) out["hooks"] = hooks_of(e.spec).empty() ? Json() : hooks_json(hooks_of(e.spec));
  if (const AttentionSpec* spec = e.attention()) {
    out["tile"] = tile_json(*e.tile);
    if (e.mask) out["mask"] = mask_json(*e.mask);
    out["splits"] = reason_of_split(*spec);
  }
  const Result<std::string> key = engine.key(e.request);
  out["kernel"] = {{"family", e.request.family},
                   {"entry", e.request.entry},
                   {"threads", e.request.block_threads},
                   {"smem_bytes", e.request.shared_bytes},
                   {"key", key.ok() ? Json(digest_of(std::as_bytes(std::span(*key))).hex()) : Json()}};
  if (e.sharing) out["with"] = sharing_json(*e.sharing);
  return out;
}

int explain(const ExplainOptions& options) {
  const Engine engine(engine_allowing(options.unsafe_cuda));
  const Result<Explained> explained = work_out(engine, options);
  if (!explained.ok()) return fail(explained.status());
  const Result<std::string> text =
      options.json ? explained_json(engine, *explained).dump(2) + "\n" : explained_text(engine, *explained);
  if (!text.ok()) return fail(text.status());
  warn_of(explained->spec);
  fmt::print("{}", *text);
  return 0;
}

}  // namespace

void add_explain(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<ExplainOptions>();
  CLI::App* job = app.add_subcommand("explain", "Say what is chosen for a spec, and for a batch, and why.");
  job->add_option("--spec", options->spec, "the operation (docs/spec.md)")->required();
  job->add_option("--batch", options->batch, "lengths to schedule as well (lathe run --help)");
  job->add_option("--arch", options->arch, "in place of the spec's own");
  job->add_option("--with", options->with, "another spec: whether it shares the kernel, and what differs if not");
  add_mask_options(*job, options->mask, false);
  add_unsafe_cuda(*job, options->unsafe_cuda);
  job->add_flag("--json", options->json, "one JSON object instead of the report");
  job->callback([options, &exit_code] { exit_code = explain(*options); });
}

}  // namespace lathe::cli
