// Fragments: matrices spread over the registers of a warp. Kernel code never sees lanes; it visits elements and rows.
//
// Fragments are not copied and stay where they are from issue to wait: on arches whose matrix unit writes late, the hardware holds
// on to them.
#pragma once

#include "device/primitives.cuh"

namespace dev {

constexpr int kFragmentRows = 16;  // rows of the matrix unit's tile that one warp holds

// One value per row, held by the four lanes that share the row (rows lane / 4 and lane / 4 + 8).
template <class T>
struct Row {
  T v[2];
};

// Which columns a lane holds: pairs of neighbours, 8 columns apart, as the matrix unit has them; or four neighbours of each 16
// columns, where the right operand was made of 8-bit codes (device/gemm_codes.cuh).
enum class Columns { pairs, quads };

// 16 x N fp32 accumulator. Layout: PTX ISA, "Matrix fragments for mma.m16n8k16", accumulator C/D.
template <int N, Columns ORDER = Columns::pairs>
struct Accumulator {
  static_assert(N % 16 == 0, "accumulators are built from 16-column steps");
  float v[N / 8][4];

  // Column of v[j][c] and v[j][c + 2] in the lane that is lane `quad` of the four that share a row.
  LATHE_DEVICE static int column(int j, int c, int quad) {
    return ORDER == Columns::pairs ? 8 * j + 2 * quad + c : 16 * (j / 2) + 4 * quad + 2 * c + j % 2;
  }

  Accumulator() = default;
  Accumulator(const Accumulator&) = delete;
  Accumulator& operator=(const Accumulator&) = delete;
};

// 16 x K left operand held in registers, 16-bit. Layout: as above, matrix A.
template <class T, int K>
struct Operand {
  u32 v[K / 16][4];

  Operand() = default;
  Operand(const Operand&) = delete;
  Operand& operator=(const Operand&) = delete;
};

// Calls f(x, row, column, row values...) for every element this lane holds.
template <int N, Columns ORDER, class F, class... R>
LATHE_DEVICE void for_each(Accumulator<N, ORDER>& a, F&& f, Row<R>&... rows) {
  const int row = static_cast<int>(lane_index() / 4), quad = static_cast<int>(lane_index() % 4);
#pragma unroll
  for (int j = 0; j < N / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) f(a.v[j][i], row + 8 * (i / 2), a.column(j, i % 2, quad), rows.v[i / 2]...);
  }
}

// Calls f(x, columns(column), row values...) for every element this lane holds, columns(column) once for each column.
template <int N, Columns ORDER, class C, class F, class... R>
LATHE_DEVICE void for_each_by_column(Accumulator<N, ORDER>& a, C&& columns, F&& f, Row<R>&... rows) {
  const int quad = static_cast<int>(lane_index() % 4);
#pragma unroll
  for (int j = 0; j < N / 8; ++j) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const auto column = columns(a.column(j, c, quad));
#pragma unroll
      for (int i = 0; i < 2; ++i) f(a.v[j][2 * i + c], column, rows.v[i]...);
    }
  }
}

// Calls f(x, y, row, column) for every pair of neighbouring elements (columns column and column + 1).
template <int N, Columns ORDER, class F>
LATHE_DEVICE void for_each_pair(Accumulator<N, ORDER>& a, F&& f) {
  const int row = static_cast<int>(lane_index() / 4), quad = static_cast<int>(lane_index() % 4);
#pragma unroll
  for (int j = 0; j < N / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if constexpr (ORDER == Columns::pairs) {
        f(a.v[j][2 * i], a.v[j][2 * i + 1], row + 8 * i, a.column(j, 0, quad));
      } else {
        f(a.v[j / 2 * 2][2 * i + j % 2], a.v[j / 2 * 2 + 1][2 * i + j % 2], row + 8 * i, a.column(j / 2 * 2, j % 2, quad));
      }
    }
  }
}

// Calls f(row, values...) for the rows this lane shares.
template <class F, class... R>
LATHE_DEVICE void for_each_row(F&& f, Row<R>&... rows) {
#pragma unroll
  for (int i = 0; i < 2; ++i) f(static_cast<int>(lane_index() / 4) + 8 * i, rows.v[i]...);
}

// True in exactly one of the lanes that share a row.
LATHE_DEVICE bool leads_row() {
  return lane_index() % 4 == 0;
}

template <int N, Columns ORDER>
LATHE_DEVICE void clear(Accumulator<N, ORDER>& a) {
#pragma unroll
  for (int j = 0; j < N / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) a.v[j][i] = 0.0f;
  }
}

// Multiplies each row by its value.
template <int N, Columns ORDER>
LATHE_DEVICE void scale_rows(Accumulator<N, ORDER>& a, Row<float>& factor) {
  for_each(
      a, [](float& x, int, int, float f) { x *= f; }, factor);
}

// m = max(m, largest element of the row), the same in all lanes that share it.
template <int N>
LATHE_DEVICE void row_max(Row<float>& m, const Accumulator<N>& a) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float x = m.v[i];
#pragma unroll
    for (int j = 0; j < N / 8; ++j) x = max(x, max(a.v[j][2 * i], a.v[j][2 * i + 1]));
    x = max(x, float_from_bits(shuffle_xor(float_bits(x), 1)));
    m.v[i] = max(x, float_from_bits(shuffle_xor(float_bits(x), 2)));
  }
}

// Adds the values of the lanes that share a row; all of them get the sum.
LATHE_DEVICE void row_add_lanes(Row<float>& s) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    s.v[i] += float_from_bits(shuffle_xor(float_bits(s.v[i]), 1));
    s.v[i] += float_from_bits(shuffle_xor(float_bits(s.v[i]), 2));
  }
}

// Rounds an accumulator to a left operand: its layout is already that of one, 16 columns at a time.
template <class T, int N>
LATHE_DEVICE void round_to_operand(Operand<T, N>& p, const Accumulator<N>& a) {
#pragma unroll
  for (int k = 0; k < N / 16; ++k) {
    p.v[k][0] = pack2<T>(a.v[2 * k][0], a.v[2 * k][1]);
    p.v[k][1] = pack2<T>(a.v[2 * k][2], a.v[2 * k][3]);
    p.v[k][2] = pack2<T>(a.v[2 * k + 1][0], a.v[2 * k + 1][1]);
    p.v[k][3] = pack2<T>(a.v[2 * k + 1][2], a.v[2 * k + 1][3]);
  }
}

}  // namespace dev
