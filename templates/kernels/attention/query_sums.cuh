// Sums over the elements of queries, each by the warp that multiplies them.
#pragma once

#include "kernels/attention/control.cuh"
#include "kernels/attention/problem.cuh"

namespace attention {

// For each of the warp's rows, the first of which is row `row_begin` of the tile: adds up its elements x by
// sum = add(sum, x, step, word, c), where x is element c of word `word` of the row's 16 columns from 16 * step on.
template <class TILE, class F>
LATHE_DEVICE void add_up_queries(dev::Row<float>& sums, TILE tile, int row_begin, F&& add) {
  constexpr int kLanes = 4;  // that share a row
  dev::for_each_row(
      [&](int row, float& sum) {
        sum = 0.0f;
#pragma unroll 1
        for (int step = static_cast<int>(dev::lane_index()) % kLanes; step < TILE::kCols / 16; step += kLanes) {
#pragma unroll 1
          for (int word = 0; word < 8; ++word) {
            const u32 x = dev::shared_load_u32(tile.chunk_offset(row_begin + row, 2 * step + word / 4) + word % 4 * 4);
#pragma unroll
            for (int c = 0; c < 2; ++c) sum = add(sum, dev::unpack<Element>(x, c), step, word, c);
          }
        }
      },
      sums);
  dev::row_add_lanes(sums);
}

// What the hook logits sees of the warp's queries, as the hook query leaves them: kept in shared memory, each warp's own, as the
// registers are the products'. The tile may change after the next barrier.
template <class TILE>
LATHE_DEVICE void keep_query_sums(TILE tile, int row_begin) {
  const Control control;
  const int slot = static_cast<int>(dev::warp_index()) * dev::kFragmentRows;
  dev::Row<float> sums;
  if constexpr (hooks::kQuerySum) {
    add_up_queries(sums, tile, row_begin, [](float sum, float x, int, int, int) { return sum + x; });
    dev::for_each_row(
        [&](int row, float& x) {
          if (dev::leads_row()) control.query_sum.store(slot + row, x);
        },
        sums);
  }
  if constexpr (hooks::kQueryNorm) {
    add_up_queries(sums, tile, row_begin, [](float sum, float x, int, int, int) { return dev::fma(x, x, sum); });
    dev::for_each_row(
        [&](int row, float& x) {
          if (dev::leads_row()) control.query_norm.store(slot + row, hooks::query_norm(x));
        },
        sums);
  }
  dev::warp_sync();
}

// Adds them to what hooks see of the warp's row `row`.
LATHE_DEVICE void add_query_sums([[maybe_unused]] hooks::RowInputs& in, [[maybe_unused]] int row) {
  [[maybe_unused]] const int at = static_cast<int>(dev::warp_index()) * dev::kFragmentRows + row;
  if constexpr (hooks::kQuerySum) in.qsum = Control().query_sum.load(at);
  if constexpr (hooks::kQueryNorm) in.qnorm = Control().query_norm.load(at);
}

}  // namespace attention
