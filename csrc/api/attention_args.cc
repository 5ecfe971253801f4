// Checks of a run's tensors and their translation to the kernel's parameter block.
#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>

#include "attention_parts.h"
#include "hook_values.h"
#include "lathe/base/bytes.h"
#include "tensor_checks.h"

namespace lathe {
namespace {

constexpr int64_t kElementBytes = 2;  // of q and o

void check_tensors(const AttentionSpec& spec, const AttentionArgs& args, const AttentionBounds& bounds, Problems& problems) {
  const int64_t kv_heads = bounds.num_kv_heads;
  const int64_t qo_heads = kv_heads * spec.group_size;
  const auto rows = [&](const char* name, const Tensor& t, int64_t needed) {
    if (t.shape[0] < needed) {
      problems.add(name, "has " + std::to_string(t.shape[0]) + " rows, the plan covers up to " + std::to_string(needed));
    }
  };
  if (check_tensor(args.q, {"q", 2, {kAnySize, qo_heads, spec.head_dim_qk}}, problems)) rows("q", args.q, bounds.max_qo_tokens);
  if (check_tensor(args.o, {"o", 2, {kAnySize, qo_heads, spec.head_dim_vo}, false, true}, problems)) {
    rows("o", args.o, bounds.max_qo_tokens);
  }
  check_kv_pair(spec.layout, key_format(spec), value_format(spec), "k", args.k, "v", args.v, kv_heads, problems);
  if (spec.layout.kind == LayoutKind::ragged) rows("k", args.k, bounds.max_kv_entries);

  if (spec.lse == LseOut::none) {
    if (args.lse.rank != 0) problems.add("lse", "is given, but the spec's lse is none");
  } else if (check_tensor(args.lse, {"lse", 4, {kAnySize, qo_heads}, true}, problems)) {
    rows("lse", args.lse, bounds.max_qo_tokens);
  }
}

void check_scalars(const AttentionSpec& spec, const AttentionArgs& args, const AttentionBounds& bounds, Problems& problems) {
  if (!(args.sm_scale >= 0) || std::isinf(args.sm_scale)) {
    problems.add("sm_scale", "is " + std::to_string(args.sm_scale) + ", must be finite and > 0 (or 0 for 1 / sqrt(head_dim_qk))");
  }
  if (spec.soft_cap && (!(args.soft_cap > 0) || std::isinf(args.soft_cap))) {
    problems.add("soft_cap", "is " + std::to_string(args.soft_cap) + ", must be finite and > 0");
  }
  if (!spec.soft_cap && args.soft_cap != 0) {
    problems.add("soft_cap", "is " + std::to_string(args.soft_cap) + ", but the spec has no soft_cap");
  }
  if (spec.layout.kind == LayoutKind::ragged) {
    if (args.kv_indices != nullptr) problems.add("kv_indices", "is given, but the layout is ragged");
    return;
  }
  if (args.num_kv_indices < bounds.max_kv_entries) {
    problems.add("num_kv_indices",
                 "is " + std::to_string(args.num_kv_indices) + ", the plan may need " + std::to_string(bounds.max_kv_entries));
  }
  if (args.kv_indices == nullptr && bounds.max_kv_entries > 0) problems.add("kv_indices", "is null");
  if (reinterpret_cast<uintptr_t>(args.kv_indices) % 4 != 0) problems.add("kv_indices", "must be 4-byte aligned");
}

HookExtents hook_extents(const AttentionSpec& spec, const AttentionArgs& args, const AttentionBounds& bounds) {
  HookExtents out;
  const bool paged = spec.layout.kind == LayoutKind::paged;
  const int64_t page_size = paged ? spec.layout.page_size : 1;
  out.batch = bounds.max_batch;
  out.qo_heads = int64_t{bounds.num_kv_heads} * spec.group_size;
  out.kv_heads = bounds.num_kv_heads;
  out.tokens = bounds.max_qo_tokens;
  out.qo_len = bounds.max_qo_len > 0 ? bounds.max_qo_len : bounds.max_qo_tokens;
  out.kv_len = bounds.max_kv_len > 0 ? bounds.max_kv_len : bounds.max_kv_entries * page_size;
  out.pages = args.k.rank > 0 ? args.k.shape[0] : 0;
  out.slots = out.pages * page_size;
  out.head_dim = std::max(spec.head_dim_qk, spec.head_dim_vo);
  return out;
}

// A launch must see the mask that its plan was made for.
void check_mask_params(const AttentionSpec& spec, const AttentionArgs& args, const AttentionBounds& bounds, Problems& problems) {
  const std::vector<expr::Param>& params = spec.hooks.canonical().params;
  for (uint32_t slot : mask_params(spec.hooks.canonical())) {
    const auto of = [&](std::span<const HookParam> list) {
      const auto found = std::ranges::find_if(list, [&](const HookParam& p) { return p.name == params[slot].name; });
      return found == list.end() ? std::nullopt : std::optional<double>(found->value);
    };
    const std::optional<double> planned = of(bounds.hook_params), given = of(args.hook_params);
    if (!given || planned == given) continue;
    problems.add("hook_params." + params[slot].name,
                 "is " + std::to_string(*given) + ", but the plan was made for " +
                     (planned ? std::to_string(*planned) : std::string("none: give it in bounds.hook_params")));
  }
}

}  // namespace

Status read_args(const AttentionSpec& spec, const AttentionArgs& args, const AttentionEnvelope& envelope, void* workspace,
                 LaunchArgs& out) {
  const AttentionBounds& bounds = envelope.bounds;
  Problems problems;
  check_tensors(spec, args, bounds, problems);
  check_scalars(spec, args, bounds, problems);
  std::array<BufferArg, abi::kMaxHookTensors> hook_buffers;
  size_t num_hook_buffers = 0;
  read_hook_args(spec.hooks, args.hook_params, args.hook_tensors, hook_extents(spec, args, bounds), out.params.hooks, hook_buffers,
                 num_hook_buffers, problems);
  check_mask_params(spec, args, bounds, problems);
  const int64_t kv_rows = spec.layout.kind == LayoutKind::ragged ? bounds.max_kv_entries : args.k.rank > 0 ? args.k.shape[0] : 0;
  KvTableBuffers k_tables, v_tables;
  read_kv_scales(spec.layout, key_format(spec), args.k_scales, {bounds.num_kv_heads, kv_rows}, out.params.k_scales, k_tables,
                 problems);
  read_kv_scales(spec.layout, value_format(spec), args.v_scales, {bounds.num_kv_heads, kv_rows}, out.params.v_scales, v_tables,
                 problems);
  if (workspace == nullptr || reinterpret_cast<uintptr_t>(workspace) % 256 != 0) {
    problems.add("workspace", workspace == nullptr ? "is null" : "must be 256-byte aligned");
  }
  if (!problems.empty()) return problems.status();

  const bool paged = spec.layout.kind == LayoutKind::paged;
  const bool joint = paged && spec.layout.storage == KvStorage::joint;
  const KvStrides k_strides = kv_strides(spec.layout, key_format(spec), args.k);
  const KvStrides v_strides = kv_strides(spec.layout, value_format(spec), joint ? args.k : args.v);
  const WorkspaceLayout& layout = envelope.layout;
  std::byte* base = static_cast<std::byte*>(workspace);

  abi::AttentionParams& p = out.params;
  p.q = args.q.data;
  p.k = args.k.data;
  p.v = values_of(spec.layout, key_format(spec), args.k, args.v);
  p.o = args.o.data;
  p.lse = static_cast<float*>(args.lse.data);
  p.kv_indices = args.kv_indices;
  p.plan = base;
  p.merge_counters = reinterpret_cast<unsigned*>(base + layout.plan);
  p.partial_o = reinterpret_cast<float*>(base + layout.plan + layout.counters);
  p.partial_lse = reinterpret_cast<float*>(base + layout.plan + layout.counters + layout.partial_o);
  p.q_stride_token = args.q.stride[0] * kElementBytes;
  p.q_stride_head = args.q.stride[1] * kElementBytes;
  p.o_stride_token = args.o.stride[0] * kElementBytes;
  p.o_stride_head = args.o.stride[1] * kElementBytes;
  p.k_stride_page = k_strides.page;
  p.k_stride_token = k_strides.token;
  p.k_stride_head = k_strides.head;
  p.v_stride_page = v_strides.page;
  p.v_stride_token = v_strides.token;
  p.v_stride_head = v_strides.head;
  p.lse_stride_token = static_cast<int64_t>(bounds.num_kv_heads) * spec.group_size * 4;
  p.sm_scale = args.sm_scale > 0 ? args.sm_scale : 1.0f / std::sqrt(static_cast<float>(spec.head_dim_qk));
  p.soft_cap = args.soft_cap;
  p.window = bounds.window;
  p.num_pages = paged ? static_cast<int>(std::min<int64_t>(args.k.shape[0], INT32_MAX)) : 0;

  using Use = BufferArg::Use;
  const size_t indices_bytes = static_cast<size_t>(args.num_kv_indices) * sizeof(int32_t);
  const BufferArg buffers[] = {
      {"q", args.q.data, extent_bytes(args.q, 2), Use::input},
      {"k", args.k.data, extent_bytes(args.k, bytes_of(spec.kfmt)), Use::input},
      {"v", args.v.data, extent_bytes(args.v, bytes_of(spec.vfmt)), Use::input},
      {"o", args.o.data, extent_bytes(args.o, 2), Use::output},
      {"lse", args.lse.data, extent_bytes(args.lse, 4), Use::output},
      {"kv_indices", args.kv_indices, paged ? indices_bytes : 0, Use::input},
      {"plan", p.plan, layout.plan, Use::input},
      {"merge_counters", p.merge_counters, layout.counters, Use::workspace},
      {"partial_o", p.partial_o, layout.partial_o, Use::scratch},
      {"partial_lse", p.partial_lse, layout.partial_lse, Use::scratch},
  };
  auto end = std::ranges::copy(buffers, out.buffers.begin()).out;
  const auto has_memory = [](const BufferArg& buffer) { return buffer.bytes != 0; };
  end = std::ranges::copy_if(k_tables, end, has_memory).out;
  end = std::ranges::copy_if(v_tables, end, has_memory).out;
  end = std::copy_n(hook_buffers.begin(), num_hook_buffers, end);
  out.num_buffers = static_cast<size_t>(end - out.buffers.begin());
  return {};
}

}  // namespace lathe
