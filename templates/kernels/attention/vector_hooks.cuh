// Hooks of whole vectors: query, key and value change tiles in shared memory, in place, before the products read them.
#pragma once

#include "kernels/attention/problem.cuh"

namespace attention {

// Which element of a vector is the rotary partner of element d, and its sign in rot(x) (Su et al., arXiv 2104.09864): dimensions
// [0, dims) fall into pairs (d, d + dims / 2) or (2 i, 2 i + 1); the rest has none.
template <int COLS>
struct RotaryPairs {
  static constexpr int kDims = hooks::kRotaryDims == 0 ? COLS : hooks::kRotaryDims;
  static constexpr int kDistance = hooks::kRotaryInterleaved ? 1 : kDims / 2;
  static_assert(kDims <= COLS && kDims % 16 == 0, "pairs of whole words");

  // The first of word `word`'s two columns in the line of first halves; its partners are kDistance further.
  LATHE_DEVICE static int column(int word) {
    if (hooks::kRotaryInterleaved) return 4 * word;
    const int pairs = kDims / 4;  // words that hold first halves
    return word < pairs ? 2 * word : kDims + 4 * (word - pairs);
  }
};

// Replaces x by f(row, d, x, rot_x) for rows [row_begin, row_begin + rows) of `tile`, by `threads` threads of which this one is
// `thread`; every other reader and writer is behind a barrier. Four elements at a time: two words, with the partners of both.
template <class T, int ROWS, int COLS, class F>
LATHE_DEVICE void transform_rows(dev::SharedTile<T, ROWS, COLS> tile, int row_begin, int rows, int thread, int threads, F&& f) {
  using Pairs = RotaryPairs<COLS>;
  const auto address = [&](int row, int column) { return tile.chunk_offset(row, column / 8) + static_cast<u32>(column % 8) * 2; };
#pragma unroll 1
  for (int i = thread; i < rows * (COLS / 4); i += threads) {
    const int row = row_begin + i / (COLS / 4);
    const int first = Pairs::column(i % (COLS / 4));
    const bool apart = !hooks::kRotaryInterleaved && first < Pairs::kDims;  // the second word holds the first one's partners
    const int second = apart ? first + Pairs::kDistance : first + 2;
    const u32 a = dev::shared_load_u32(address(row, first)), b = dev::shared_load_u32(address(row, second));
    const float x[4] = {dev::unpack<T>(a, 0), dev::unpack<T>(a, 1), dev::unpack<T>(b, 0), dev::unpack<T>(b, 1)};
    float rot[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (apart) {
      rot[0] = -x[2], rot[1] = -x[3], rot[2] = x[0], rot[3] = x[1];
    } else if (first < Pairs::kDims) {
      rot[0] = -x[1], rot[1] = x[0];
      if (second < Pairs::kDims) rot[2] = -x[3], rot[3] = x[2];
    }
    float y[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) y[c] = f(row, (c < 2 ? first : second) + c % 2, x[c], rot[c]);
    dev::shared_store_u32(address(row, first), dev::pack2<T>(y[0], y[1]));
    dev::shared_store_u32(address(row, second), dev::pack2<T>(y[2], y[3]));
  }
}

// The hook query, on the tile of queries, by the whole block.
template <class TILE>
LATHE_DEVICE void transform_queries(TILE tile, const abi::AttentionParams& params, const Problem& problem) {
  hooks::ElementInputs in{};
  in.tile = problem.hook_tile();
  transform_rows(tile, 0, problem.num_rows(TILE::kRows), static_cast<int>(dev::thread_index()), config::kWarps * dev::kWarpSize,
                 [&](int row, int d, float x, float rot_x) {
                   in.row = problem.hook_row(row);
                   in.d = d;
                   return hooks::query(params.hooks, in, x, rot_x);
                 });
}

// The hook key or value, on `rows` rows of a tile from `row_begin` on, which hold the keys from `first_key` on; by their group.
template <class GROUP, class TILE, class F>
LATHE_DEVICE void transform_keys(GROUP group, TILE tile, int row_begin, int rows, const abi::AttentionParams& params,
                                 const Problem& problem, int first_key, F&& hook) {
  hooks::ElementInputs in{};
  in.tile = problem.hook_tile();
  in.row.hk = problem.kv_head();
  const int left = problem.request.kv_len - first_key;
  transform_rows(tile, row_begin, rows < left ? rows : left, group.thread(), GROUP::kThreads,
                 [&](int row, int d, float x, float rot_x) {
                   in.column = problem.hook_column(params, first_key + row - row_begin);
                   in.d = d;
                   return hook(in, x, rot_x);
                 });
}

}  // namespace attention
