// What hooks see: integers of the tile, of a row and of a key (docs/expressions.md). The hooks themselves are printed for each spec
// (csrc/spec/expr/device_hooks.h).
#pragma once

#include "abi/hooks.h"
#include "device/device.cuh"

namespace hooks {

using Args = abi::AttentionHookArgs;

struct TileInputs {
  int b, qo_len, kv_len, group, level;
};
struct RowInputs {
  int h, hk, q, tok;
  float qsum = 0.0f, qnorm = 0.0f;  // of the hook logits
};
struct ColumnInputs {
  int kv, slot;
};
// Of hooks that are evaluated in one step; what they do not use may be anything.
struct ElementInputs {
  TileInputs tile;
  RowInputs row;
  ColumnInputs column;
  int d;
};

}  // namespace hooks
