// 8-bit codes become 16-bit floats, PTX form, by integer arithmetic that every arch has. device/host/codes.cuh is the twin.
//
// A float's exponent and mantissa are moved to where the wider format has them, and a product with a power of two corrects the
// bias; subnormal codes come out exact too. An integer's low seven bits, and its sign bit, become the last digits of two floats
// whose difference it is.
#pragma once

#include "device/primitives.cuh"

namespace dev {

// (a & b) | c, which is one instruction (PTX: lop3).
LATHE_DEVICE u32 and_or(u32 a, u32 b, u32 c) {
  u32 x;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(x) : "r"(a), "r"(b), "r"(c));
  return x;
}

// a * b + c of two elements each. (A product of bf16 alone takes sm_90.)
template <class T>
LATHE_DEVICE u32 fma_packed(u32 a, u32 b, u32 c) {
  u32 x;
  if constexpr (kSame<T, bf16>) {
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(x) : "r"(a), "r"(b), "r"(c));
  } else {
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(x) : "r"(a), "r"(b), "r"(c));
  }
  return x;
}

// Codes 0 and 2 of the four in `codes` (HALF 0), or 1 and 3 (HALF 1), as elements of T, packed. What is no number in e4m3 counts as
// 480, and in e5m2, for bf16, as if its numbers went on.
template <class T, class E, int HALF>
LATHE_DEVICE u32 widen(u32 codes) {
  constexpr u32 kSign = 0x80008000u, kMinusZero = kSign;
  if constexpr (kSame<E, i8>) {
    const u32 x = HALF == 0 ? codes : codes >> 8;
    constexpr bool kF16 = kSame<T, f16>;
    constexpr u32 kOne = kF16 ? 0x3c003c00u : 0x3f803f80u, kBase = kF16 ? 0x64006400u : 0x43004300u;  // 1; 1024 or 128
    return fma_packed<T>(and_or(x, 0x007f007fu, kBase), kOne, and_or(x, 0x00800080u, kBase | kSign));
  } else if constexpr (kSame<E, e5m2> && kSame<T, f16>) {
    return (HALF == 0 ? codes << 8 : codes) & 0xff00ff00u;
  } else {
    // By how much exponents and mantissas move down from the upper byte, where they then are, and what corrects the bias.
    constexpr int kDown = kSame<E, e5m2> ? 3 : kSame<T, f16> ? 1 : 4;
    constexpr u32 kMagnitude = kSame<E, e5m2> ? 0x0fe00fe0u : kSame<T, f16> ? 0x3f803f80u : 0x07f007f0u;
    constexpr u32 kFactor = kSame<E, e5m2> ? 0x77807780u : kSame<T, f16> ? 0x5c005c00u : 0x7b807b80u;  // 2^112, 2^8, 2^120
    const u32 magnitude = (HALF == 0 ? codes << (8 - kDown) : codes >> kDown) & kMagnitude;
    return fma_packed<T>(and_or(HALF == 0 ? codes << 8 : codes, kSign, magnitude), kFactor, kMinusZero);
  }
}

}  // namespace dev
