// Primitives of device code, host form: the twin of device/sm_80/primitives.cuh, with the same names and meaning. Memory,
// collectives and barriers are calls into the executor (abi/simt.h), which sees every access; arithmetic is done here.
//
// Everything is always inlined, so that the return address of a call names the line of the kernel that made it.
#pragma once

#include "abi/simt.h"
#include "device/types.cuh"

#define LATHE_DEVICE inline __attribute__((always_inline))
#define LATHE_DEVICE_CALL inline __attribute__((noinline))

// Defines the kernel `name`, which every thread of a launch runs. The executor finds it by name.
#define LATHE_KERNEL(name, Params, threads)                                                    \
  static void name##_body(const Params& params);                                               \
  extern "C" __attribute__((visibility("default"))) void name(const void* params) {            \
    static_assert((threads) % 32 == 0 && (threads) <= 1024, "a block is 1 to 32 whole warps"); \
    name##_body(*static_cast<const Params*>(params));                                          \
  }                                                                                            \
  static void name##_body(const Params& params)

namespace dev {

static abi::SimtApi simt;

}  // namespace dev

// Called once, after loading and before any kernel. Returns 0 when `api` does not offer what this code was built against.
extern "C" __attribute__((visibility("default"))) unsigned lathe_simt_bind(const abi::SimtApi* api) {
  if (api->version != abi::kSimtVersion || api->size < sizeof(abi::SimtApi)) return 0;
  dev::simt = *api;
  return abi::kSimtVersion;
}

namespace dev {

// ---- Where am I
// ------------------------------------------------------------------------------------------------------------------
LATHE_DEVICE u32 thread_index() {
  return simt.thread_index();
}  // within the block
LATHE_DEVICE u32 block_index() {
  return simt.block_index();
}  // within the grid
LATHE_DEVICE u32 grid_size() {
  return simt.grid_size();
}  // blocks
LATHE_DEVICE u32 lane_index() {
  return simt.thread_index() % 32;
}
LATHE_DEVICE u32 warp_index() {
  return simt.thread_index() / 32;
}

// ---- Shared memory: 32-bit byte offsets from the start of the block's dynamic shared memory, which is 1024-byte aligned
// ------------
LATHE_DEVICE u32 shared_load_u32(u32 offset) {
  u32 x;
  simt.shared_load(offset, sizeof(x), &x);
  return x;
}
LATHE_DEVICE Vec8 shared_load_vec8(u32 offset) {
  Vec8 x;
  simt.shared_load(offset, sizeof(x), &x);
  return x;
}
LATHE_DEVICE Vec16 shared_load_vec16(u32 offset) {
  Vec16 x;
  simt.shared_load(offset, sizeof(x), &x);
  return x;
}
LATHE_DEVICE void shared_store_u32(u32 offset, u32 x) {
  simt.shared_store(offset, sizeof(x), &x);
}
LATHE_DEVICE void shared_store_vec8(u32 offset, Vec8 x) {
  simt.shared_store(offset, sizeof(x), &x);
}
LATHE_DEVICE void shared_store_vec16(u32 offset, Vec16 x) {
  simt.shared_store(offset, sizeof(x), &x);
}

// ---- Global memory: plain (weak) accesses of 4, 8 or 16 bytes, aligned to their size; loads of 1 and 2 bytes too
// --------------------
LATHE_DEVICE u32 global_load_u8(const void* address) {
  u8 x;
  simt.global_load(address, sizeof(x), &x);
  return x;
}
LATHE_DEVICE u32 global_load_u16(const void* address) {
  u16 x;
  simt.global_load(address, sizeof(x), &x);
  return x;
}
LATHE_DEVICE u32 global_load_u32(const void* address) {
  u32 x;
  simt.global_load(address, sizeof(x), &x);
  return x;
}
LATHE_DEVICE Vec8 global_load_vec8(const void* address) {
  Vec8 x;
  simt.global_load(address, sizeof(x), &x);
  return x;
}
LATHE_DEVICE Vec16 global_load_vec16(const void* address) {
  Vec16 x;
  simt.global_load(address, sizeof(x), &x);
  return x;
}
LATHE_DEVICE void global_store_u32(void* address, u32 x) {
  simt.global_store(address, sizeof(x), &x);
}
LATHE_DEVICE void global_store_vec8(void* address, Vec8 x) {
  simt.global_store(address, sizeof(x), &x);
}
LATHE_DEVICE void global_store_vec16(void* address, Vec16 x) {
  simt.global_store(address, sizeof(x), &x);
}

// ---- Asynchronous copies
// ------------------------------------------------------------------------------------------------------------- Copies 16 bytes
// from global to shared memory, or writes 16 zero bytes when !valid; then `source` is not read and may be anything. The destination
// counts as being written until a wait of the issuing thread covers the copy's group.
LATHE_DEVICE void copy_async_16(u32 offset, const void* source, bool valid) {
  simt.copy_async(offset, source, 16, valid);
}
// Closes the calling thread's group of copies; an empty group is legal.
LATHE_DEVICE void copy_async_commit() {
  simt.copy_async_commit();
}
// Returns when at most PENDING of the calling thread's youngest groups are unfinished. Other threads see the data after a barrier.
template <int PENDING>
LATHE_DEVICE void copy_async_wait() {
  static_assert(PENDING >= 0, "a number of groups");
  simt.copy_async_wait(PENDING);
}

// ---- Warp collectives: all 32 lanes call them together
// --------------------------------------------------------------------------------- Orders the memory accesses of the warp's lanes.
LATHE_DEVICE void warp_sync() {
  simt.warp_sync();
}
// They exchange registers and order no memory.
LATHE_DEVICE u32 shuffle(u32 x, u32 source_lane) {
  return simt.shuffle(x, source_lane);
}
LATHE_DEVICE u32 shuffle_xor(u32 x, u32 lane_mask) {
  return simt.shuffle_xor(x, lane_mask);
}
LATHE_DEVICE bool vote_any(bool x) {
  return simt.vote_any(x);
}
LATHE_DEVICE bool vote_all(bool x) {
  return simt.vote_all(x);
}

// Four 8x8 matrices of 16-bit elements from shared memory; lanes 8i..8i+7 give the row offsets (16-byte aligned) of matrix i.
// Without transposition lane l gets elements 2(l%4), 2(l%4)+1 of row l/4 of each; with it, of column l/4.
LATHE_DEVICE void load_matrix_x4(u32 (&r)[4], u32 row_offset) {
  simt.load_matrix_x4(r, row_offset, false);
}
LATHE_DEVICE void load_matrix_x4_transposed(u32 (&r)[4], u32 row_offset) {
  simt.load_matrix_x4(r, row_offset, true);
}

// d += a * b with a 16x16, b 16x8, d 16x8, fp32 accumulation. Fragment layouts: PTX ISA, "Matrix fragments for mma.m16n8k16".
template <class T>
LATHE_DEVICE void mma_m16n8k16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  static_assert(kSame<T, bf16> || kSame<T, f16>, "mma.m16n8k16 takes bf16 or f16");
  simt.mma_m16n8k16(kSame<T, bf16> ? abi::SimtType::bf16 : abi::SimtType::f16, d, a, b0, b1);
}

// ---- Barriers
// ------------------------------------------------------------------------------------------------------------------------ All
// threads of the block; orders their shared and global accesses among them.
LATHE_DEVICE void block_barrier() {
  simt.block_barrier();
}
// Barrier `id` (1..15) for `threads` threads, whole warps. The arriving form does not wait.
LATHE_DEVICE void named_barrier(u32 id, u32 threads) {
  simt.named_barrier(id, threads);
}
LATHE_DEVICE void named_barrier_arrive(u32 id, u32 threads) {
  simt.named_barrier_arrive(id, threads);
}

// ---- Atomics and fences between blocks, at the scope of the GPU
// -------------------------------------------------------------------------- Returns the old value; release of what this thread
// wrote or observed through barriers, acquire of what earlier releases published.
LATHE_DEVICE u32 atomic_add_acq_rel(u32* address, u32 x) {
  return simt.atomic_add(address, x, abi::SimtOrder::acq_rel);
}
LATHE_DEVICE u32 atomic_add_relaxed(u32* address, u32 x) {
  return simt.atomic_add(address, x, abi::SimtOrder::relaxed);
}
LATHE_DEVICE u32 load_acquire(const u32* address) {
  return simt.atomic_load(address, abi::SimtOrder::acquire);
}
LATHE_DEVICE u32 load_relaxed(const u32* address) {
  return simt.atomic_load(address, abi::SimtOrder::relaxed);
}
LATHE_DEVICE void store_release(u32* address, u32 x) {
  simt.atomic_store(address, x, abi::SimtOrder::release);
}
LATHE_DEVICE void store_relaxed(u32* address, u32 x) {
  simt.atomic_store(address, x, abi::SimtOrder::relaxed);
}
LATHE_DEVICE void fence_acq_rel() {
  simt.fence_acq_rel();
}
// Repeats `ready()` until it is true. Only legal in a grid whose blocks are all resident.
template <class F>
LATHE_DEVICE void spin_until(F&& ready) {
  while (!ready()) simt.spin_pause();
}

// ---- Arithmetic
// ------------------------------------------------------------------------------------------------------------------------
LATHE_DEVICE u32 float_bits(float x) {
  u32 bits;
  __builtin_memcpy(&bits, &x, sizeof(x));
  return bits;
}
LATHE_DEVICE float float_from_bits(u32 x) {
  float value;
  __builtin_memcpy(&value, &x, sizeof(x));
  return value;
}

// Zero of the same sign when subnormal: what .ftz does to operands and results.
LATHE_DEVICE float flush_subnormal(float x) {
  u32 bits = float_bits(x);
  return (bits & 0x7f800000u) == 0 ? float_from_bits(bits & 0x80000000u) : x;
}

LATHE_DEVICE float fma(float a, float b, float c) {
  return __builtin_fmaf(a, b, c);
}
// 2^x, flushing subnormal results to zero; 2^-inf = 0. About 2 ulp.
LATHE_DEVICE float ex2(float x) {
  return flush_subnormal(__builtin_exp2f(x));
}
LATHE_DEVICE float lg2(float x) {
  return __builtin_log2f(flush_subnormal(x));
}
// 1/x, about 1 ulp; 1/0 = inf.
LATHE_DEVICE float rcp(float x) {
  return flush_subnormal(1.0f / flush_subnormal(x));
}
// The larger operand; the other one when one is NaN. +0 is larger than -0.
LATHE_DEVICE float max(float a, float b) {
  if (a != a) return b;
  if (b != b) return a;
  if (a == b) return float_from_bits(float_bits(a) & float_bits(b));
  return a > b ? a : b;
}

// Nearest even, NaN becomes 0x7fff as in PTX.
LATHE_DEVICE u32 bf16_bits(float x) {
  u32 bits = float_bits(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}
LATHE_DEVICE u32 f16_bits(float x) {
  u32 bits = float_bits(x);
  u32 sign = (bits >> 16) & 0x8000;
  u32 magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fff;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00;  // 65520 and above round to infinity
  if (magnitude >= 0x38800000u) {                      // 2^-14: a normal f16
    u32 rebased = magnitude - (112u << 23);
    return sign | (rebased + 0xfff + ((rebased >> 13) & 1)) >> 13;
  }
  // Adding 0.5 aligns the value with the last place of a subnormal f16, and the addition rounds to nearest even.
  return sign | (float_bits(float_from_bits(magnitude) + 0.5f) - 0x3f000000u);
}
LATHE_DEVICE float f16_value(u32 bits) {
  u32 sign = (bits & 0x8000u) << 16;
  u32 magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return float_from_bits(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  if (magnitude >= 0x0400u) return float_from_bits(sign | ((magnitude << 13) + (112u << 23)));
  float subnormal = static_cast<float>(magnitude) * 0x1p-24f;
  return float_from_bits(sign | float_bits(subnormal));
}

// Two floats rounded to nearest even and packed, `low` in the lower half.
template <class T>
LATHE_DEVICE u32 pack2(float low, float high) {
  if constexpr (kSame<T, bf16>) {
    return bf16_bits(low) | bf16_bits(high) << 16;
  } else {
    static_assert(kSame<T, f16>, "pack2 takes bf16 or f16");
    return f16_bits(low) | f16_bits(high) << 16;
  }
}
// The float of the lower (half 0) or upper (half 1) 16 bits.
template <class T>
LATHE_DEVICE float unpack(u32 x, int half) {
  if constexpr (kSame<T, bf16>) {
    return float_from_bits(half == 0 ? x << 16 : x & 0xffff0000u);
  } else {
    static_assert(kSame<T, f16>, "unpack takes bf16 or f16");
    return f16_value(half == 0 ? x & 0xffffu : x >> 16);
  }
}

// Stops the launch with a fault; used by checked builds for what the caller promised and did not keep.
LATHE_DEVICE void trap() {
  simt.trap();
}

}  // namespace dev
