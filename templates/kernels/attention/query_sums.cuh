// Sums over the elements of queries, each by the warp that multiplies them.
#pragma once

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

// What the hook logits sees of a row's query, after the hook query.
struct QueryStatistics {
  dev::Row<float> sum, norm;

  // By all threads, when the tile of queries is what the hook query made of it; it may change after the next barrier.
  template <class TILE>
  LATHE_DEVICE void read(TILE tile, int row_begin) {
    if constexpr (hooks::kQuerySum) {
      add_up_queries(sum, tile, row_begin, [](float so_far, float x, int, int, int) { return so_far + x; });
    }
    if constexpr (hooks::kQueryNorm) {
      add_up_queries(norm, tile, row_begin, [](float so_far, float x, int, int, int) { return dev::fma(x, x, so_far); });
      dev::for_each_row([](int, float& x) { x = hooks::query_norm(x); }, norm);
    }
  }
};

}  // namespace attention
