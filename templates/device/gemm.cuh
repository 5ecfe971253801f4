// Matrix products of one warp, as issue / commit / wait. With mma.sync a product is finished when it is issued; arches with an
// asynchronous matrix unit put their own gemm.cuh before this one, and kernels written to the protocol need no change.
#pragma once

#include "device/fragment.cuh"
#include "device/memory.cuh"

namespace dev {

// acc[16, N] += A[row_a .. row_a + 16, :] * B[row_b .. row_b + N, :]^T, both from shared memory with K along the rows.
template <class T, int N, int ROWS_A, int ROWS_B, int K>
LATHE_DEVICE void gemm_nt_issue(Accumulator<N>& acc, SharedTile<T, ROWS_A, K> a, int row_a, SharedTile<T, ROWS_B, K> b, int row_b) {
  const int lane = static_cast<int>(lane_index());
  // ldmatrix order of A: rows 0-7 and 8-15 of the left 8 columns, then of the right 8; of B: columns left and right of rows 0-7,
  // then of 8-15.
  const TileRow<SharedTile<T, ROWS_A, K>> a_row(a, row_a + lane % 16, lane / 16);
  const TileRow<SharedTile<T, ROWS_B, K>> b_row(b, row_b + lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
  for (int k = 0; k < K / 16; ++k) {
    u32 af[4];
    load_matrix_x4(af, a_row.chunk(k, 0));
#pragma unroll
    for (int n = 0; n < N / 16; ++n) {
      u32 bf[4];
      load_matrix_x4(bf, b_row.chunk(k, 16 * n));
      mma_m16n8k16<T>(acc.v[2 * n], af, bf[0], bf[1]);
      mma_m16n8k16<T>(acc.v[2 * n + 1], af, bf[2], bf[3]);
    }
  }
}

// acc[16, N] += A * B[row_b .. row_b + K, :], A in registers, B from shared memory with N along the rows.
template <class T, int N, int K, int ROWS_B>
LATHE_DEVICE void gemm_nn_issue(Accumulator<N>& acc, const Operand<T, K>& a, SharedTile<T, ROWS_B, N> b, int row_b) {
  const int lane = static_cast<int>(lane_index());
  // Transposing ldmatrix order: rows 0-7 and 8-15 of the left 8 columns, then of the right 8.
  const TileRow<SharedTile<T, ROWS_B, N>> b_row(b, row_b + lane % 16, lane / 16);
#pragma unroll
  for (int k = 0; k < K / 16; ++k) {
#pragma unroll
    for (int n = 0; n < N / 16; ++n) {
      u32 bf[4];
      load_matrix_x4_transposed(bf, b_row.chunk(n, 16 * k));
      mma_m16n8k16<T>(acc.v[2 * n], a.v[k], bf[0], bf[1]);
      mma_m16n8k16<T>(acc.v[2 * n + 1], a.v[k], bf[2], bf[3]);
    }
  }
}

// Closes the products issued so far.
LATHE_DEVICE void gemm_commit() {}

// Returns when at most PENDING committed products are unfinished; only then may their fragments and tiles be touched.
template <int PENDING>
LATHE_DEVICE void gemm_wait() {}

}  // namespace dev
