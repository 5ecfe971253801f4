// All hooks of a variant as one piece of device source, the same for every kernel that calls hooks.
#pragma once

#include <string>

#include "lathe/spec/expr/hooks.h"

namespace lathe::expr {

/// The inside of `namespace hooks` of a kernel (templates/kernels/shared/hook_inputs.cuh has what it builds on). Whatever hooks
/// are given, it declares
///   constexpr bool kNormalizes, kMask, kMaskDiffersByHead, kLogits, kWeight, kSink, kOutput, kQuery, kKey, kValue
///   constexpr bool kQuerySum, kQueryNorm    whether the hook logits sees these of a row
///   query_norm(squares) -> float    a norm by its square; only sources with hooks include functions
///   constexpr bool kRotaryInterleaved; constexpr int kRotaryDims    of rot(x); 0: the whole vector
///   Tile, Row, Column    what the hooks of scores need that changes with the tile, its rows or its columns alone, beside the
///   inputs tile(args, TileInputs) -> Tile, row(args, Tile, RowInputs) -> Row, column(args, Tile, ColumnInputs) -> Column
///   visible(args, Tile, Row, Column) -> bool, logit(..., dot, score) -> float, weight(..., w) -> float
///   query, key, value(args, ElementInputs, x, rot_x), sink(args, ElementInputs), output(args, ElementInputs, o, lse) -> float
/// where a hook that is not given changes nothing. `hooks` is what canonicalise() returns; names of callers never occur. The texts
/// of unsafe_cuda do, as they are: who prints hooks that have some (uses_cuda) says so to the engine (KernelRequest::unsafe_cuda).
std::string device_hooks(const Hooks& hooks);

}  // namespace lathe::expr
