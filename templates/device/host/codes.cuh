// 8-bit codes become 16-bit floats, host form: the twin of device/sm_80/codes.cuh.
#pragma once

#include "device/primitives.cuh"

namespace dev {

template <class E>
LATHE_DEVICE float code_value(u32 code) {
  if constexpr (kSame<E, i8>) {
    return static_cast<float>(static_cast<signed char>(code));
  } else {
    constexpr int kMantissa = kSame<E, e4m3> ? 3 : 2;
    const float magnitude = float_from_bits((code & 0x7fu) << (23 - kMantissa)) * (kSame<E, e4m3> ? 0x1p120f : 0x1p112f);
    return (code & 0x80u) != 0 ? -magnitude : magnitude;
  }
}

// Codes 0 and 2 of the four in `codes` (HALF 0), or 1 and 3 (HALF 1), as elements of T, packed. What is no number in e4m3 counts as
// 480, and in e5m2, for bf16, as if its numbers went on.
template <class T, class E, int HALF>
LATHE_DEVICE u32 widen(u32 codes) {
  const u32 x = codes >> (8 * HALF), low = x & 0xffu, high = x >> 16 & 0xffu;
  if constexpr (kSame<E, e5m2> && kSame<T, f16>) return low << 8 | high << 24;
  return pack2<T>(code_value<E>(low), code_value<E>(high));
}

}  // namespace dev
