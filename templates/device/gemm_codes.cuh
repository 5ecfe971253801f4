// Matrix products of one warp whose right operand is 8-bit codes in shared memory. Codes become 16-bit elements in registers, on
// their way from shared memory to the matrix unit; both products arrange the operand so that no code changes its lane.
#pragma once

#include "device/codes.cuh"
#include "device/gemm.cuh"

namespace dev {

// Rows [0, rows) of the left operand of a product with codes, 16 columns at a time, from their own order to the one in which
// gemm_nt_issue meets the codes: where the matrix unit wants columns 2 t and 2 t + 1 together, and 2 t + 8 and 2 t + 9, it finds
// codes 4 t and 4 t + 2, and 4 t + 1 and 4 t + 3. Calls f(row, column, x[16]) in between. In place, by `threads` threads of which
// this one is `thread`; every other reader and writer is behind a barrier.
template <class T, int ROWS, int K, class F>
LATHE_DEVICE void order_for_codes(SharedTile<T, ROWS, K> tile, int rows, int thread, int threads, F&& f) {
#pragma unroll 1
  for (int i = thread; i < rows * (K / 16); i += threads) {
    const int row = i / (K / 16), step = i % (K / 16);
    const u32 at[2] = {tile.chunk_offset(row, 2 * step), tile.chunk_offset(row, 2 * step + 1)};
    float x[16];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Vec16 v = shared_load_vec16(at[half]);
#pragma unroll
      for (int c = 0; c < 8; ++c) x[8 * half + c] = unpack<T>(v.word[c / 2], c % 2);
    }
    f(row, 16 * step, x);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Vec16 v;
#pragma unroll
      for (int t = 0; t < 4; ++t) v.word[t] = pack2<T>(x[4 * t + half], x[4 * t + half + 2]);
      shared_store_vec16(at[half], v);
    }
  }
}

// Column of element `c` of word `word` of 16 columns that order_for_codes has put in order.
LATHE_DEVICE constexpr int column_for_codes(int word, int c) {
  return word % 4 * 4 + word / 4 + 2 * c;
}

// acc[16, N] += A[row_a .. row_a + 16, :] * B[row_b .. row_b + N, :]^T, both from shared memory with K along the rows, A as
// order_for_codes leaves it.
template <class T, class E, int N, int ROWS_A, int ROWS_B, int K>
LATHE_DEVICE void gemm_nt_issue(Accumulator<N>& acc, SharedTile<T, ROWS_A, K> a, int row_a, SharedTile<E, ROWS_B, K> b, int row_b) {
  static_assert(sizeof(E) == 1, "8-bit codes");
  constexpr int kPairs = K / 32, kPairsOfPanel = 4;  // a pair is 32 columns, two chunks of codes
  const int lane = static_cast<int>(lane_index());
  const TileRow<SharedTile<T, ROWS_A, K>> a_row(a, row_a + lane % 16, lane / 16);
  const auto products = [&](const TileRow<SharedTile<E, ROWS_B, K>>& b_row, int pair, int steps) {
    u32 af[2][4];
#pragma unroll
    for (int s = 0; s < steps; ++s) load_matrix_x4(af[s], a_row.chunk(2 * pair + s, 0));
#pragma unroll
    for (int n = 0; n < N / 16; ++n) {
      u32 bf[4];  // codes of rows 0-7, 16 columns and the next 16; then of rows 8-15
      load_matrix_x4(bf, b_row.chunk(pair, 16 * n));
#pragma unroll
      for (int s = 0; s < steps; ++s) {
        mma_m16n8k16<T>(acc.v[2 * n], af[s], widen<T, E, 0>(bf[s]), widen<T, E, 1>(bf[s]));
        mma_m16n8k16<T>(acc.v[2 * n + 1], af[s], widen<T, E, 0>(bf[s + 2]), widen<T, E, 1>(bf[s + 2]));
      }
    }
  };
  const int row = row_b + lane % 8 + lane / 16 * 8;
  const TileRow<SharedTile<E, ROWS_B, K>> b_row(b, row, lane / 8 % 2);
  // Rolled: widening makes long code.
#pragma unroll 1
  for (int panel = 0; panel < kPairs / kPairsOfPanel; ++panel) {
#pragma unroll
    for (int i = 0; i < kPairsOfPanel; ++i) products(b_row, kPairsOfPanel * panel + i, 2);
  }
#pragma unroll
  for (int pair = kPairs / kPairsOfPanel * kPairsOfPanel; pair < kPairs; ++pair) products(b_row, pair, 2);
  // The last of an odd number of chunks has no neighbour: both halves look at it.
  if constexpr (K % 32 != 0) products({b, row, 0}, kPairs, 1);
}

// acc[16, N] += A * B[row_b .. row_b + K, :], A in registers, B from shared memory with N along the rows. A transposing ldmatrix
// takes codes two by two: a lane gets columns 2 c and 2 c + 1 of two rows, and the even columns of 16 make one product, the odd
// ones the other.
template <class T, class E, int N, int K, int ROWS_B>
LATHE_DEVICE void gemm_nn_issue(Accumulator<N, Columns::quads>& acc, const Operand<T, K>& a, SharedTile<E, ROWS_B, N> b,
                                int row_b) {
  static_assert(sizeof(E) == 1, "8-bit codes");
  const int lane = static_cast<int>(lane_index());
  const auto products = [&](const TileRow<SharedTile<E, ROWS_B, N>>& b_row, int k, int pair, int chunks) {
    u32 bf[4];  // rows 0-7 and 8-15 of 16 columns, then of the next 16
    load_matrix_x4_transposed(bf, b_row.chunk(pair, 16 * k));
#pragma unroll
    for (int c = 0; c < chunks; ++c) {
      const int n = 2 * (2 * pair + c);
      mma_m16n8k16<T>(acc.v[n], a.v[k], widen<T, E, 0>(bf[2 * c]), widen<T, E, 0>(bf[2 * c + 1]));
      mma_m16n8k16<T>(acc.v[n + 1], a.v[k], widen<T, E, 1>(bf[2 * c]), widen<T, E, 1>(bf[2 * c + 1]));
    }
  };
  const TileRow<SharedTile<E, ROWS_B, N>> b_row(b, row_b + lane % 16, lane / 16);
#pragma unroll
  for (int k = 0; k < K / 16; ++k) {
#pragma unroll
    for (int pair = 0; pair < N / 32; ++pair) products(b_row, k, pair, 2);
    if constexpr (N % 32 != 0) products({b, row_b + lane % 16, 0}, k, N / 32, 1);
  }
}

}  // namespace dev
