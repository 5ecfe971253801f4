// What host and device agree on for the merge kernel with hooks (csrc/spec/merge_spec.h).
#pragma once

#include "abi/hooks.h"
#include "abi/merge.h"

namespace lathe::abi {

struct alignas(64) HookedMergeParams : MergeParams {
  int num_heads;            // row r is token r / num_heads, head r % num_heads
  AttentionHookArgs hooks;  // by slot
};

}  // namespace lathe::abi
