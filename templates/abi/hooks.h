// What host and device agree on for hooks (docs/expressions.md): what they take at run time. The same for every kernel that has
// hooks.
#pragma once

namespace lathe::abi {

constexpr int kMaxHookParams = 32;
constexpr int kMaxHookTensors = 16;
constexpr int kMaxHookAxes = 4;

// A tensor that hooks read. An index is within [0, extent) of its axis.
struct AttentionHookTensor {
  const void* data;
  long long stride[kMaxHookAxes];  // bytes
  int extent[kMaxHookAxes];
};

// What hooks take at run time, by slot (docs/expressions.md).
struct AttentionHookArgs {
  unsigned params[kMaxHookParams];  // bits of an i32, u32 or f32; 0 or 1 for bool
  AttentionHookTensor tensors[kMaxHookTensors];
};

}  // namespace lathe::abi
