// Scalar types of device code. No std or CUDA header is ever included: what a kernel needs is spelled out here.
#pragma once

// Structures shared with the host live in lathe::abi, because <cxxabi.h> claims the plain name there. Device code uses the short
// one.
namespace lathe::abi {}
namespace abi = lathe::abi;

namespace dev {

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i32 = int;
using i64 = long long;

// 16-bit floats are bit patterns; arithmetic happens in fp32 or in the matrix unit.
struct f16 {
  u16 bits;
};
struct bf16 {
  u16 bits;
};
// 8-bit codes, which become 16-bit floats in registers: two floats of the OCP 8-bit floating point specification (1.0), and an
// integer.
struct e4m3 {
  u8 bits;
};
struct e5m2 {
  u8 bits;
};
struct i8 {
  u8 bits;
};

// 8 and 16 bytes moved by one instruction. Addresses are aligned to the size.
struct alignas(8) Vec8 {
  u32 word[2];
};
struct alignas(16) Vec16 {
  u32 word[4];
};

constexpr int kWarpSize = 32;
constexpr float kInfinity = __builtin_bit_cast(float, 0x7f800000u);
constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

template <class A, class B>
constexpr bool kSame = false;
template <class A>
constexpr bool kSame<A, A> = true;

}  // namespace dev
