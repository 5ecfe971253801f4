// Fp32 becomes codes of 8 bits, by arithmetic that every arch and the host have.
#pragma once

#include "device/math.cuh"
#include "device/memory.cuh"

namespace dev {

template <class E>
constexpr float kLargestCode = kSame<E, e4m3>   ? 448.0f
                               : kSame<E, e5m2> ? 57344.0f
                                                : 127.0f;

// The code nearest to x, ties to even; what is too large, and NaN, becomes the largest of its sign.
template <class E>
LATHE_DEVICE u32 code_of(float x) {
  if constexpr (kSame<E, i8>) {
    // 1.5 * 2^23 has no digits below 1: the sum's last ones are the rounded number in two's complement.
    return float_bits(max(min(x, 127.0f), -128.0f) + 0x1.8p23f) & 0xffu;
  } else {
    constexpr int kMantissa = kSame<E, e4m3> ? 3 : 2;
    constexpr int kBias = kSame<E, e4m3> ? 7 : 15;
    const float magnitude = min(abs(x), kLargestCode<E>);
    const u32 sign = float_bits(x) >> 24 & 0x80u;
    // Subnormal codes count steps of 2^(1 - bias - mantissa), to which a sum with 2^23 of them rounds.
    const u32 small = float_bits(magnitude + float_from_bits(static_cast<u32>(127 + 24 - kBias - kMantissa) << 23)) & 0xffu;
    constexpr int kDrop = 23 - kMantissa;
    const u32 bits = float_bits(magnitude);
    const u32 normal = (bits + ((1u << (kDrop - 1)) - 1) + (bits >> kDrop & 1u)) >> kDrop;
    constexpr u32 kLeastNormal = static_cast<u32>(128 - kBias) << 23;
    return sign | (bits < kLeastNormal ? small : normal - (static_cast<u32>(127 - kBias) << kMantissa));
  }
}

// Eight codes of x, to one address aligned to 8 bytes.
template <class E>
LATHE_DEVICE void global_store8_codes(void* address, const float (&x)[8]) {
  Vec8 v{};
#pragma unroll
  for (int i = 0; i < 8; ++i) v.word[i / 4] |= code_of<E>(x[i]) << (i % 4 * 8);
  global_store_vec8(address, v);
}

}  // namespace dev
