// What host and device agree on for the merge kernel (csrc/spec/merge_spec.h).
#pragma once

#include "abi/hooks.h"

namespace lathe::abi {

struct alignas(64) MergeParams {
  const void* o;               // [num_states, rows, head_dim], rows = tokens * heads
  const float* lse;            // [num_states, rows]
  void* merged_o;              // [rows, head_dim]
  float* merged_lse;           // [rows]; may be null
  const int* num_rows;         // in device memory: one captured launch serves every batch size
  const int* num_states;       // in device memory
  long long state_stride_o;    // bytes between states
  long long state_stride_lse;  // bytes between states
  int num_heads;               // row r is token r / num_heads, head r % num_heads; at least 1
  AttentionHookArgs hooks;     // by slot
};

}  // namespace lathe::abi
