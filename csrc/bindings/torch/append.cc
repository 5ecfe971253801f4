// The operator that fills a cache.
#include <torch/csrc/stable/library.h>

#include <string>

#include "kernels.h"
#include "stream.h"
#include "tensors.h"

namespace lathe::torch_ops {
namespace {

/// What codes of keys or values stand for.
struct Scales {
  double scale;
  const OptionalTensor &token_scale, &channel_scale, &zero;
};

KvScales scales_of(bool keys, const Scales& given, const AnyTensor& like) {
  KvScales out;
  out.scale = static_cast<float>(given.scale);
  const auto take = [&](const char* name, const OptionalTensor& t, Tensor& table) {
    if (t) table = view(name, *t, ElementType::Float, like);
  };
  take(keys ? "k_token_scale" : "v_token_scale", given.token_scale, out.token_scale);
  take(keys ? "k_channel_scale" : "v_channel_scale", given.channel_scale, out.channel_scale);
  take(keys ? "k_zero" : "v_zero", given.zero, out.zero);
  return out;
}

/// New keys and values into a cache, and q turned in place: one launch, which a graph may capture.
void append(const OptionalTensor& q, const AnyTensor& k, const AnyTensor& v, const AnyTensor& k_cache,
            const OptionalTensor& v_cache, const OptionalTensor& slot_mapping, const OptionalTensor& batch_indices,
            const OptionalTensor& positions, const OptionalTensor& kv_indptr, const OptionalTensor& kv_indices,
            const OptionalTensor& cos_sin, const std::string& spec_text, double k_scale, const OptionalTensor& k_token_scale,
            const OptionalTensor& k_channel_scale, const OptionalTensor& k_zero, double v_scale,
            const OptionalTensor& v_token_scale, const OptionalTensor& v_channel_scale, const OptionalTensor& v_zero) {
  const Place place(ordinal_of(k));
  if (k.dim() != 3) refuse("k", "has " + std::to_string(k.dim()) + " dimensions; allowed: 3");
  const Append& append = *check(Kernels::instance().append(ordinal_of(k), spec_text, place.stream()));
  const AppendSpec& spec = append.spec();
  AppendArgs args;
  if (q) args.q = args.q_out = view("q", *q, element_of(spec.q_dtype), k);
  args.k = view("k", k, element_of(spec.q_dtype), k);
  args.v = view("v", v, element_of(spec.q_dtype), k);
  args.k_cache = view("k_cache", k_cache, element_of(spec.kfmt), k);
  if (v_cache) args.v_cache = view("v_cache", *v_cache, element_of(spec.vfmt), k);
  if (cos_sin) args.cos_sin = view("cos_sin", *cos_sin, ElementType::Float, k);
  const int64_t tokens = k.size(0);
  const auto of_tokens = [&](const char* name, const OptionalTensor& t) {
    int64_t count = 0;
    const int32_t* list = device_indices(name, t, k, &count);
    if (t && count != tokens)
      refuse(name, "has " + std::to_string(count) + " entries; allowed: " + std::to_string(tokens) + ", as k has tokens");
    return list;
  };
  args.batch_indices = of_tokens("batch_indices", batch_indices);
  args.positions = of_tokens("positions", positions);
  if (slot_mapping) {
    const Tensor slots = view("slot_mapping", *slot_mapping, ElementType::Long, k);
    if (!slot_mapping->is_contiguous() || slots.rank != 1 || slots.shape[0] != tokens)
      refuse("slot_mapping", "must be contiguous and have " + std::to_string(tokens) + " entries, as k has tokens");
    args.slot_mapping = static_cast<const int64_t*>(slots.data);
  }
  int64_t entries = 0;
  args.kv_indptr = device_indices("kv_indptr", kv_indptr, k, &entries);
  args.kv_indices = device_indices("kv_indices", kv_indices, k, &args.num_kv_indices);
  if (kv_indptr) args.num_requests = entries - 1;
  if (kv_indices && spec.layout.index == PageIndex::table) {
    if (kv_indices->dim() != 2) refuse("kv_indices", "must be [batch, pages] where the layout's index is table");
    args.num_requests = kv_indices->size(0);
    if (kv_indices->size(1) > INT32_MAX) refuse("kv_indices", "has rows of 2^31 pages or more");
    args.block_table_stride = static_cast<int32_t>(kv_indices->size(1));
  }
  args.k_scales = scales_of(true, {k_scale, k_token_scale, k_channel_scale, k_zero}, k);
  args.v_scales = scales_of(false, {v_scale, v_token_scale, v_channel_scale, v_zero}, k);
  check(append.run(args, place.stream()));
}

}  // namespace
}  // namespace lathe::torch_ops

STABLE_TORCH_LIBRARY_FRAGMENT(lathe, m) {
  m.def(
      "append(Tensor(a!)? q, Tensor k, Tensor v, Tensor(b!) k_cache, Tensor(c!)? v_cache, Tensor? slot_mapping, "
      "Tensor? batch_indices, Tensor? positions, Tensor? kv_indptr, Tensor? kv_indices, Tensor? cos_sin, str spec, "
      "float k_scale, Tensor(d!)? k_token_scale, Tensor? k_channel_scale, Tensor(e!)? k_zero, "
      "float v_scale, Tensor(f!)? v_token_scale, Tensor? v_channel_scale, Tensor(g!)? v_zero) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(lathe, CPU, m) {
  m.impl("append", TORCH_BOX(&lathe::torch_ops::append));
}
STABLE_TORCH_LIBRARY_IMPL(lathe, CUDA, m) {
  m.impl("append", TORCH_BOX(&lathe::torch_ops::append));
}
