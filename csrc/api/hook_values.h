// Checks of what hooks take at run time, and its translation to slots.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "lathe/abi/attention.h"
#include "lathe/api/hook_args.h"
#include "lathe/base/status.h"
#include "lathe/runtime/device.h"
#include "lathe/spec/attention_spec.h"

namespace lathe {

/// What the axes of tensors run over in a launch, at most.
struct HookExtents {
  int64_t batch = 0, qo_heads = 0, kv_heads = 0, tokens = 0, qo_len = 0, kv_len = 0, slots = 0, pages = 0, head_dim = 0;
};

/// Values of params by slot of hooks.canonical(), from `given`. Adds a problem for each that is missing (unless `optional`),
/// unknown, given twice, or outside its type or range, under `argument`.
std::vector<expr::Value> read_hook_params(const AttentionHooks& hooks, const char* argument, std::span<const HookParam> given,
                                          bool optional, Problems& problems);

/// The launch's slots of params and tensors. `buffers` gets one entry for each tensor.
void read_hook_args(const AttentionHooks& hooks, std::span<const HookParam> params, std::span<const HookTensor> tensors,
                    const HookExtents& extents, abi::AttentionHookArgs& out, std::array<BufferArg, abi::kMaxHookTensors>& buffers,
                    size_t& num_buffers, Problems& problems);

/// What host copies of tensors tell about the elements that a mask reads, to whose memory the result refers; nothing of tensors
/// that are not among `tensors`, of floats, and of those over the pool. Copies must hold what `extents` ask for. `params` by slot.
expr::Summary summarise(const AttentionHooks& hooks, std::span<const HookTensor> tensors, std::span<const expr::Value> params,
                        const HookExtents& extents, Problems& problems);

}  // namespace lathe
