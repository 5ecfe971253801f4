// From an attention spec and its resolved tile to what the engine compiles.
#include <cstring>

#include "hook_source.h"
#include "lathe/api/attention.h"
#include "lathe/api/kv_tensors.h"

namespace lathe {
namespace {

// The spec with every field set aside that leaves the generated code alone: strides and index forms are run-time arguments, and
// splits and determinism are the planner's. Specs that differ only there share one binary.
AttentionSpec code_fields(AttentionSpec spec, const AttentionTile& tile) {
  spec.layout.order = PageOrder::nhd;
  spec.layout.storage = KvStorage::separate;
  spec.layout.index = PageIndex::csr;
  spec.determinism = Determinism::run_to_run;
  spec.split_kv = {};
  spec.gqa_pack = tile.packed ? GqaPack::on : GqaPack::off;
  spec.tile = {.automatic = false, .warps = tile.warps, .stages = tile.stages, .classes = tile.classes};
  return spec;
}

}  // namespace

Result<KernelRequest> attention_request(const AttentionSpec& spec, const AttentionTile& tile, PrepareOptions options) {
  LATHE_TRY(validate(spec));
  KernelRequest request;
  LATHE_TRY(print_hooks(spec.hooks, options, "kernels/attention/hooks.cuh", request));
  const bool paged = spec.layout.kind == LayoutKind::paged;
  std::vector<TemplateData> classes;
  for (size_t i = 0; i < tile.classes.size(); ++i) {
    classes.push_back({{"index", static_cast<int64_t>(i)}, {"q", int64_t{tile.classes[i].q}}, {"kv", int64_t{tile.classes[i].kv}}});
  }
  request.family = "attention";
  request.description = to_string(spec);
  if (!request.unsafe_cuda) request.spec = to_json(spec);  // `lathe warm` takes none of these
  request.canonical = canonical_bytes(code_fields(spec, tile));
  request.arch = spec.arch;
  request.entry = "attention_kernel";
  request.block_threads = static_cast<uint32_t>(tile.threads());
  request.shared_bytes = static_cast<uint32_t>(tile.shared_bytes);
  request.data = {
      {"element", TemplateValue::identifier(name_of(spec.q_dtype))},
      {"out_element", TemplateValue::identifier(name_of(spec.o_dtype))},
      {"head_dim_qk", int64_t{spec.head_dim_qk}},
      {"head_dim_vo", int64_t{spec.head_dim_vo}},
      {"group_size", int64_t{spec.group_size}},
      {"packed", tile.packed},
      {"paged", paged},
      {"page_size", int64_t{paged ? spec.layout.page_size : 1}},
      {"causal", spec.causal()},
      {"window", spec.windowed()},
      {"soft_cap", spec.soft_cap},
      {"write_lse", spec.lse != LseOut::none},
      {"lse_log2", spec.lse == LseOut::log2},
      {"warps", int64_t{tile.warps}},
      {"stages", int64_t{tile.stages}},
      {"tile_classes", std::move(classes)},
  };
  add_template_values(key_format(spec), request.data);
  add_template_values(value_format(spec), request.data);
  return request;
}

}  // namespace lathe
