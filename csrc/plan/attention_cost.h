// What the planner believes things cost. Only proportions matter: they decide cuts and balance, never results.
#pragma once

#include <algorithm>
#include <cstdint>

#include "lathe/spec/attention_spec.h"

namespace lathe {

/// Picoseconds of one thread block. The figures are those of an H100 that is fully used: 3.0 TB/s and about 370 TFLOP/s of
/// mma.sync, over 132 blocks. With them, reading the keys binds every tile of up to 128 rows.
struct AttentionCosts {
  int64_t byte = 44;            // reading one byte of K or V
  int64_t fragment_dim = 11;    // 16 rows against one key, per element of head_dim_qk + head_dim_vo
  int64_t item = 1'400'000;     // starting and ending a work item: its first loads, its epilogue
  int64_t partial = 1'000'000;  // writing a partial state and reading it back for the merge
};

/// Cost of one key for a tile of class `c`.
inline int64_t key_cost(const AttentionCosts& costs, const AttentionSpec& spec, const TileClass& c) {
  int64_t dims = int64_t{spec.head_dim_qk} + spec.head_dim_vo;
  constexpr int64_t kElementBytes = 2;
  return std::max(costs.byte * kElementBytes, costs.fragment_dim * (c.q / 16)) * dims;
}

}  // namespace lathe
