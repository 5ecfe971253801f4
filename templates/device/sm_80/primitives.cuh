// Primitives of device code, PTX form, for every GPU from compute capability 8.0. templates/device/host/primitives.cuh is the twin:
// the same names and meaning on the host executor. Everything a kernel does to memory or to other threads goes through this file;
// PTX ISA section names are given where the meaning is not obvious.
#pragma once

#include "device/types.cuh"

#define LATHE_DEVICE __device__ __forceinline__
// A function that is called: for long code that is used in many places and off the critical path.
#define LATHE_DEVICE_CALL __device__ __noinline__

// Defines the kernel `name` with one parameter block `params` of type Params (trivially copyable, at most 4 KB).
#define LATHE_KERNEL(name, Params, threads) \
  extern "C" __global__ void __launch_bounds__(threads, 1) name(const __grid_constant__ Params params)

namespace dev {

// ---- Where am I
// ------------------------------------------------------------------------------------------------------------------
LATHE_DEVICE u32 thread_index() {
  return threadIdx.x;
}  // within the block
LATHE_DEVICE u32 block_index() {
  return blockIdx.x;
}  // within the grid
LATHE_DEVICE u32 grid_size() {
  return gridDim.x;
}  // blocks
LATHE_DEVICE u32 lane_index() {
  return threadIdx.x % 32;
}
// The same in all lanes of a warp, and known by the compiler to be so.
LATHE_DEVICE u32 warp_index() {
  return __shfl_sync(0xffffffffu, threadIdx.x / 32, 0);
}

// ---- Shared memory: 32-bit byte offsets from the start of the block's dynamic shared memory, which is 1024-byte aligned
// ------------
extern __shared__ __align__(1024) unsigned char shared_memory[];
LATHE_DEVICE u32 shared_base() {
  return static_cast<u32>(__cvta_generic_to_shared(shared_memory));
}

LATHE_DEVICE u32 shared_load_u32(u32 offset) {
  u32 x;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(x) : "r"(shared_base() + offset) : "memory");
  return x;
}
LATHE_DEVICE Vec8 shared_load_vec8(u32 offset) {
  Vec8 x;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(x.word[0]), "=r"(x.word[1]) : "r"(shared_base() + offset) : "memory");
  return x;
}
LATHE_DEVICE Vec16 shared_load_vec16(u32 offset) {
  Vec16 x;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(x.word[0]), "=r"(x.word[1]), "=r"(x.word[2]), "=r"(x.word[3])
               : "r"(shared_base() + offset)
               : "memory");
  return x;
}
LATHE_DEVICE void shared_store_u32(u32 offset, u32 x) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(shared_base() + offset), "r"(x) : "memory");
}
LATHE_DEVICE void shared_store_vec8(u32 offset, Vec8 x) {
  asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(shared_base() + offset), "r"(x.word[0]), "r"(x.word[1]) : "memory");
}
LATHE_DEVICE void shared_store_vec16(u32 offset, Vec16 x) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(shared_base() + offset), "r"(x.word[0]), "r"(x.word[1]),
               "r"(x.word[2]), "r"(x.word[3])
               : "memory");
}

// ---- Global memory: plain (weak) accesses of 4, 8 or 16 bytes, aligned to their size; loads of 1 and 2 bytes too
// --------------------
LATHE_DEVICE u32 global_load_u8(const void* address) {
  u32 x;
  asm volatile("ld.global.u8 %0, [%1];" : "=r"(x) : "l"(address) : "memory");
  return x;
}
LATHE_DEVICE u32 global_load_u16(const void* address) {
  u16 x;
  asm volatile("ld.global.u16 %0, [%1];" : "=h"(x) : "l"(address) : "memory");
  return x;
}
LATHE_DEVICE u32 global_load_u32(const void* address) {
  u32 x;
  asm volatile("ld.global.u32 %0, [%1];" : "=r"(x) : "l"(address) : "memory");
  return x;
}
LATHE_DEVICE Vec8 global_load_vec8(const void* address) {
  Vec8 x;
  asm volatile("ld.global.v2.u32 {%0, %1}, [%2];" : "=r"(x.word[0]), "=r"(x.word[1]) : "l"(address) : "memory");
  return x;
}
LATHE_DEVICE Vec16 global_load_vec16(const void* address) {
  Vec16 x;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(x.word[0]), "=r"(x.word[1]), "=r"(x.word[2]), "=r"(x.word[3])
               : "l"(address)
               : "memory");
  return x;
}
LATHE_DEVICE void global_store_u32(void* address, u32 x) {
  asm volatile("st.global.u32 [%0], %1;" ::"l"(address), "r"(x) : "memory");
}
LATHE_DEVICE void global_store_vec8(void* address, Vec8 x) {
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(address), "r"(x.word[0]), "r"(x.word[1]) : "memory");
}
LATHE_DEVICE void global_store_vec16(void* address, Vec16 x) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(address), "r"(x.word[0]), "r"(x.word[1]), "r"(x.word[2]),
               "r"(x.word[3])
               : "memory");
}

// ---- Asynchronous copies (PTX: cp.async)
// --------------------------------------------------------------------------------------------- Copies 16 bytes from global to
// shared memory, or writes 16 zero bytes when !valid; then `source` is not read and may be anything. The destination counts as
// being written until a wait of the issuing thread covers the copy's group.
LATHE_DEVICE void copy_async_16(u32 offset, const void* source, bool valid) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_base() + offset), "l"(source),
               "r"(valid ? 16 : 0)
               : "memory");
}
// Closes the calling thread's group of copies; an empty group is legal.
LATHE_DEVICE void copy_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Returns when at most PENDING of the calling thread's youngest groups are unfinished. Other threads see the data after a barrier.
template <int PENDING>
LATHE_DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// ---- Warp collectives: all 32 lanes call them together
// --------------------------------------------------------------------------------- Orders the memory accesses of the warp's lanes
// (PTX: bar.warp.sync).
LATHE_DEVICE void warp_sync() {
  __syncwarp(0xffffffffu);
}
// They exchange registers and order no memory.
LATHE_DEVICE u32 shuffle(u32 x, u32 source_lane) {
  return __shfl_sync(0xffffffffu, x, source_lane);
}
LATHE_DEVICE u32 shuffle_xor(u32 x, u32 lane_mask) {
  return __shfl_xor_sync(0xffffffffu, x, lane_mask);
}
LATHE_DEVICE bool vote_any(bool x) {
  return __any_sync(0xffffffffu, x);
}
LATHE_DEVICE bool vote_all(bool x) {
  return __all_sync(0xffffffffu, x);
}

// Four 8x8 matrices of 16-bit elements from shared memory; lanes 8i..8i+7 give the row offsets (16-byte aligned) of matrix i.
// Without transposition lane l gets elements 2(l%4), 2(l%4)+1 of row l/4 of each; with it, of column l/4 (PTX: ldmatrix).
LATHE_DEVICE void load_matrix_x4(u32 (&r)[4], u32 row_offset) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_base() + row_offset)
               : "memory");
}
LATHE_DEVICE void load_matrix_x4_transposed(u32 (&r)[4], u32 row_offset) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_base() + row_offset)
               : "memory");
}

// d += a * b with a 16x16, b 16x8, d 16x8, fp32 accumulation. Fragment layouts: PTX ISA, "Matrix fragments for mma.m16n8k16".
template <class T>
LATHE_DEVICE void mma_m16n8k16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  static_assert(kSame<T, bf16> || kSame<T, f16>, "mma.m16n8k16 takes bf16 or f16");
  if constexpr (kSame<T, bf16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

// ---- Barriers
// ------------------------------------------------------------------------------------------------------------------------ All
// threads of the block; orders their shared and global accesses among them.
LATHE_DEVICE void block_barrier() {
  __syncthreads();
}
// Barrier `id` (1..15) for `threads` threads, whole warps. The arriving form does not wait.
LATHE_DEVICE void named_barrier(u32 id, u32 threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
LATHE_DEVICE void named_barrier_arrive(u32 id, u32 threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// ---- Atomics and fences between blocks, at the scope of the GPU (PTX: Memory Consistency Model)
// ------------------------------------------ Returns the old value; release of what this thread wrote or observed through barriers,
// acquire of what earlier releases published.
LATHE_DEVICE u32 atomic_add_acq_rel(u32* address, u32 x) {
  u32 old;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;" : "=r"(old) : "l"(address), "r"(x) : "memory");
  return old;
}
LATHE_DEVICE u32 atomic_add_relaxed(u32* address, u32 x) {
  u32 old;
  asm volatile("atom.relaxed.gpu.global.add.u32 %0, [%1], %2;" : "=r"(old) : "l"(address), "r"(x) : "memory");
  return old;
}
LATHE_DEVICE u32 load_acquire(const u32* address) {
  u32 x;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(x) : "l"(address) : "memory");
  return x;
}
LATHE_DEVICE u32 load_relaxed(const u32* address) {
  u32 x;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(x) : "l"(address) : "memory");
  return x;
}
LATHE_DEVICE void store_release(u32* address, u32 x) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(address), "r"(x) : "memory");
}
LATHE_DEVICE void store_relaxed(u32* address, u32 x) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(address), "r"(x) : "memory");
}
LATHE_DEVICE void fence_acq_rel() {
  asm volatile("fence.acq_rel.gpu;" ::: "memory");
}
// Repeats `ready()` until it is true. Only legal in a grid whose blocks are all resident.
template <class F>
LATHE_DEVICE void spin_until(F&& ready) {
  while (!ready()) __nanosleep(20);
}

// ---- Arithmetic
// ------------------------------------------------------------------------------------------------------------------------
LATHE_DEVICE float fma(float a, float b, float c) {
  float d;
  asm("fma.rn.f32 %0, %1, %2, %3;" : "=f"(d) : "f"(a), "f"(b), "f"(c));
  return d;
}
// 2^x, flushing subnormal results to zero; 2^-inf = 0. About 2 ulp.
LATHE_DEVICE float ex2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
LATHE_DEVICE float lg2(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// 1/x, about 1 ulp; 1/0 = inf.
LATHE_DEVICE float rcp(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// The larger operand; the other one when one is NaN.
LATHE_DEVICE float max(float a, float b) {
  float c;
  asm("max.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
  return c;
}
// A move of its own: by a cast that it sees through the compiler makes accumulators integers, cast in each round of the main loop.
LATHE_DEVICE u32 float_bits(float x) {
  u32 y;
  asm("mov.b32 %0, %1;" : "=r"(y) : "f"(x));
  return y;
}
LATHE_DEVICE float float_from_bits(u32 x) {
  return __uint_as_float(x);
}

// Two floats rounded to nearest even and packed, `low` in the lower half.
template <class T>
LATHE_DEVICE u32 pack2(float low, float high) {
  u32 x;
  if constexpr (kSame<T, bf16>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(high), "f"(low));
  } else {
    static_assert(kSame<T, f16>, "pack2 takes bf16 or f16");
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(high), "f"(low));
  }
  return x;
}
// The float of the lower (half 0) or upper (half 1) 16 bits.
template <class T>
LATHE_DEVICE float unpack(u32 x, int half) {
  if constexpr (kSame<T, bf16>) {
    return __uint_as_float(half == 0 ? x << 16 : x & 0xffff0000u);
  } else {
    static_assert(kSame<T, f16>, "unpack takes bf16 or f16");
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(static_cast<u16>(half == 0 ? x : x >> 16)));
    return y;
  }
}

// Stops the launch with a fault; used by checked builds for what the caller promised and did not keep.
LATHE_DEVICE void trap() {
  asm volatile("trap;");
}

}  // namespace dev
