// Rotary embeddings by a table of cosines and sines (csrc/spec/expr/rope.h makes it).
#pragma once

#include "kernels/append/vector.cuh"

namespace append {

// 8 elements as they come: those of the lane, and those that are turned together with them.
struct Elements {
  dev::Vec16 own, pair;
};

// By all lanes of a vector's group.
template <int LANES>
LATHE_DEVICE Elements with_pairs(const dev::Vec16& own, const Vector& at) {
  Elements x{own, own};
  constexpr int kHalf = config::kTurnedDims / 2 / 8;  // in lanes
  if constexpr (config::kTurnedDims > 0 && !config::kInterleaved) {
    const int lane = static_cast<int>(dev::lane_index());
    const int other = at.chunk < kHalf ? lane + kHalf : at.chunk < 2 * kHalf ? lane - kHalf : lane;
#pragma unroll
    for (int i = 0; i < 4; ++i) x.pair.word[i] = dev::shuffle(own.word[i], static_cast<u32>(other));
  }
  return x;
}

// The lane's elements, turned by the token's position, as fp32.
LATHE_DEVICE void turn(const Elements& elements, const Vector& at, const abi::AppendParams& params, float (&x)[8]) {
  using config::Element;
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = dev::unpack<Element>(elements.own.word[i / 2], i % 2);
  if constexpr (config::kTurnedDims == 0) return;
  constexpr int kHalf = config::kTurnedDims / 2;
  if (!at.exists || 8 * at.chunk >= config::kTurnedDims) return;
  const int position = dev::GlobalList<int>{params.positions}.load(at.token);
  const dev::GlobalFloats row{
      const_cast<float*>(static_cast<const float*>(dev::at(params.cos_sin, position * params.cos_sin_stride)))};
  if constexpr (config::kInterleaved) {
    float cosine[4], sine[4];
    row.load4(4 * at.chunk, cosine);
    row.load4(kHalf + 4 * at.chunk, sine);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float a = x[2 * i], b = x[2 * i + 1];
      x[2 * i] = dev::fma(a, cosine[i], -sine[i] * b);
      x[2 * i + 1] = dev::fma(b, cosine[i], sine[i] * a);
    }
  } else {
    const bool first = 8 * at.chunk < kHalf;
    const int column = first ? 8 * at.chunk : 8 * at.chunk - kHalf;
    float cosine[8], sine[8];
    dev::load8(row, column, cosine);
    dev::load8(row, kHalf + column, sine);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float pair = dev::unpack<Element>(elements.pair.word[i / 2], i % 2);
      x[i] = dev::fma(x[i], cosine[i], sine[i] * (first ? -pair : pair));
    }
  }
}

}  // namespace append
