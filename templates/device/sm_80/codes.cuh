// 8-bit codes become 16-bit floats, PTX form, by integer arithmetic that every arch has. device/host/codes.cuh is the twin.
//
// A float's exponent and mantissa are moved to where the wider format has them, and a product with a power of two corrects the
// bias; subnormal codes come out exact too. An integer becomes the low digits of a float whose unit in the last place is 1.
#pragma once

#include "device/primitives.cuh"

namespace dev {

// Bytes of `a` (0-3) and `b` (4-7), chosen by the nibbles of `selector` (PTX: prmt).
LATHE_DEVICE u32 permute_bytes(u32 a, u32 b, u32 selector) {
  u32 x;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(x) : "r"(a), "r"(b), "r"(selector));
  return x;
}

// Two exact products.
template <class T>
LATHE_DEVICE u32 multiply_packed(u32 x, u32 y) {
  u32 z;
  if constexpr (kSame<T, bf16>) {
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(z) : "r"(x), "r"(y), "r"(0x80008000u));  // - 0: mul takes sm_90
  } else {
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(z) : "r"(x), "r"(y));
  }
  return z;
}

// Codes I and J of the four in `codes` as elements of T, packed. What is no number in e4m3 counts as 480, and in e5m2, for bf16, as
// if its numbers went on.
template <class T, class E, int I, int J>
LATHE_DEVICE u32 widen(u32 codes) {
  constexpr u32 kSign = 0x80008000u;
  if constexpr (kSame<E, i8>) {
    const u32 biased = codes ^ 0x80808080u;  // 0..255
    if constexpr (kSame<T, f16>) {
      const u32 x = permute_bytes(biased, 0x64646464u, 0x4040u | J << 8 | I);  // 1024 + code + 128
      u32 y;
      asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(y) : "r"(x), "r"(0x64806480u));
      return y;
    } else {
      constexpr float kBias = 8388608.0f + 128.0f;  // 2^23 + 128
      return pack2<T>(float_from_bits(permute_bytes(biased, 0x4b000000u, 0x7440u | I)) - kBias,
                      float_from_bits(permute_bytes(biased, 0x4b000000u, 0x7440u | J)) - kBias);
    }
  } else {
    const u32 x = permute_bytes(codes, 0, 0x0404u | J << 12 | I << 4);  // in the upper bytes
    if constexpr (kSame<E, e5m2> && kSame<T, f16>) {
      return x;
    } else if constexpr (kSame<E, e5m2>) {
      return multiply_packed<T>((x & kSign) | (x >> 3 & 0x0fe00fe0u), 0x77807780u);  // 2^112
    } else if constexpr (kSame<T, f16>) {
      return multiply_packed<T>((x & kSign) | (x >> 1 & 0x3f803f80u), 0x5c005c00u);  // 2^8
    } else {
      return multiply_packed<T>((x & kSign) | (x >> 4 & 0x07f007f0u), 0x7b807b80u);  // 2^120
    }
  }
}

}  // namespace dev
