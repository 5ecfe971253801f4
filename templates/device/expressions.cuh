// What printed hooks call (csrc/spec/expr/device_source.cc lists it): integer arithmetic without undefined cases, functions of
// fp32, elements of tensors. The meaning of each is that of csrc/spec/expr/graph.h.
#pragma once

#include "abi/hooks.h"
#include "device/math.cuh"
#include "device/memory.cuh"

namespace dev {

// ---- Integers
LATHE_DEVICE int wrap_add(int a, int b) {
  return static_cast<int>(static_cast<u32>(a) + static_cast<u32>(b));
}
LATHE_DEVICE int wrap_sub(int a, int b) {
  return static_cast<int>(static_cast<u32>(a) - static_cast<u32>(b));
}
LATHE_DEVICE int wrap_mul(int a, int b) {
  return static_cast<int>(static_cast<u32>(a) * static_cast<u32>(b));
}
LATHE_DEVICE int wrap_neg(int a) {
  return static_cast<int>(0u - static_cast<u32>(a));
}
LATHE_DEVICE int floor_div(int a, int b) {
  if (b == 0) return 0;
  if (b == -1) return wrap_neg(a);  // the one quotient that leaves 32 bits
  const int quotient = a / b;
  return quotient * b != a && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}
LATHE_DEVICE u32 floor_div(u32 a, u32 b) {
  return b == 0 ? 0 : a / b;
}
LATHE_DEVICE int mod(int a, int b) {
  if (b == 0 || b == -1) return 0;
  const int rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}
LATHE_DEVICE u32 mod(u32 a, u32 b) {
  return b == 0 ? 0 : a % b;
}
LATHE_DEVICE u32 shl(u32 word, u32 count) {
  return count >= 32 ? 0 : word << count;
}
LATHE_DEVICE int shl(int word, u32 count) {
  return static_cast<int>(shl(static_cast<u32>(word), count));
}
LATHE_DEVICE u32 shr(u32 word, u32 count) {
  return count >= 32 ? 0 : word >> count;
}
LATHE_DEVICE int shr(int word, u32 count) {
  return word >> (count >= 32 ? 31 : count);
}
LATHE_DEVICE int abs(int a) {
  return a < 0 ? wrap_neg(a) : a;
}
LATHE_DEVICE int min(int a, int b) {
  return a < b ? a : b;
}
LATHE_DEVICE u32 min(u32 a, u32 b) {
  return a < b ? a : b;
}
LATHE_DEVICE int max(int a, int b) {
  return a > b ? a : b;
}
LATHE_DEVICE u32 max(u32 a, u32 b) {
  return a > b ? a : b;
}
LATHE_DEVICE bool bit(u32 word, int i) {
  return (word >> (static_cast<u32>(i) & 31) & 1) != 0;
}

// ---- Conversions
LATHE_DEVICE int to_i32(bool a) {
  return a ? 1 : 0;
}
LATHE_DEVICE int to_i32(u32 a) {
  return static_cast<int>(a);
}
LATHE_DEVICE int to_i32(float a) {
  if (a != a) return 0;
  if (a >= 2147483648.0f) return 2147483647;
  return a < -2147483648.0f ? -2147483647 - 1 : static_cast<int>(a);
}
LATHE_DEVICE float to_f32(int a) {
  return static_cast<float>(a);
}
LATHE_DEVICE float to_f32(u32 a) {
  return static_cast<float>(a);
}

// ---- Floats
LATHE_DEVICE float div(float a, float b) {
  return a / b;
}
LATHE_DEVICE float sigmoid(float a) {
  return 1.0f / (1.0f + exp(-a));
}
LATHE_DEVICE_CALL float powi(float a, int n) {
  float power = 1.0f, square = a;
  for (u32 rest = static_cast<u32>(n < 0 ? -n : n); rest != 0; rest >>= 1) {
    if ((rest & 1) != 0) power *= square;
    square *= square;
  }
  return n < 0 ? 1.0f / power : power;
}
LATHE_DEVICE bool isinf(float a) {
  return (float_bits(a) & 0x7fffffffu) == 0x7f800000u;
}

// ---- Params and tensors, by slot
LATHE_DEVICE int param_i32(const abi::AttentionHookArgs& args, int slot) {
  return static_cast<int>(args.params[slot]);
}
LATHE_DEVICE u32 param_u32(const abi::AttentionHookArgs& args, int slot) {
  return args.params[slot];
}
LATHE_DEVICE float param_f32(const abi::AttentionHookArgs& args, int slot) {
  return float_from_bits(args.params[slot]);
}
LATHE_DEVICE bool param_bool(const abi::AttentionHookArgs& args, int slot) {
  return args.params[slot] != 0;
}

// Elements as they lie in memory: those of types.cuh, the plain types i32, u8 and u32, and these.
struct f32 {};
struct boolean {};

// f32 of 8-bit floats (OCP 8-bit Floating Point Specification 1.0): e4m3 has no infinity and one NaN, e5m2 is the upper half of
// f16.
LATHE_DEVICE float from_e4m3(u32 bits) {
  const u32 sign = (bits & 0x80u) << 24, magnitude = bits & 0x7fu;
  if (magnitude == 0x7fu) return float_from_bits(0x7fffffffu);
  if (magnitude < 8) return float_from_bits(sign | float_bits(static_cast<float>(magnitude) * 0.001953125f));  // 2^-9
  return float_from_bits(sign | ((magnitude << 20) + (120u << 23)));
}
LATHE_DEVICE float from_e5m2(u32 bits) {
  return unpack<f16>(bits << 8, 0);
}

template <class E>
LATHE_DEVICE auto load_element(const void* address) {
  if constexpr (kSame<E, f32>) {
    return float_from_bits(global_load_u32(address));
  } else if constexpr (kSame<E, f16> || kSame<E, bf16>) {
    return unpack<E>(global_load_u16(address), 0);
  } else if constexpr (kSame<E, e4m3>) {
    return from_e4m3(global_load_u8(address));
  } else if constexpr (kSame<E, e5m2>) {
    return from_e5m2(global_load_u8(address));
  } else if constexpr (kSame<E, i32>) {
    return static_cast<int>(global_load_u32(address));
  } else if constexpr (kSame<E, u32>) {
    return global_load_u32(address);
  } else if constexpr (kSame<E, u8>) {
    return static_cast<int>(global_load_u8(address));
  } else if constexpr (kSame<E, i8>) {
    return static_cast<int>(static_cast<signed char>(global_load_u8(address)));
  } else {
    static_assert(kSame<E, boolean>, "an element of a hook's tensor");
    return global_load_u8(address) != 0;
  }
}

template <class E>
struct HookTensor {
  const abi::AttentionHookTensor& of;
};
template <class E, class... INDEX>
LATHE_DEVICE auto read(HookTensor<E> t, INDEX... index) {
  const int at_axis[] = {index...};
  i64 offset = 0;
#pragma unroll
  for (int axis = 0; axis < static_cast<int>(sizeof...(INDEX)); ++axis) offset += at_axis[axis] * t.of.stride[axis];
  return load_element<E>(at(t.of.data, offset));
}
template <class E>
LATHE_DEVICE int inside(HookTensor<E> t, int axis, int index) {
  return max(0, min(index, t.of.extent[axis] - 1));
}

}  // namespace dev
