#line 1 "templates/abi/merge.h"
// What host and device agree on for the merge kernel (csrc/spec/merge_spec.h).


#line 1 "templates/abi/hooks.h"
// What host and device agree on for hooks (docs/expressions.md): what they take at run time. The same for every kernel that has
// hooks.


namespace lathe::abi {

constexpr int kMaxHookParams = 32;
constexpr int kMaxHookTensors = 16;
constexpr int kMaxHookAxes = 4;

// A tensor that hooks read. An index is within [0, extent) of its axis.
struct AttentionHookTensor {
  const void* data;
  long long stride[kMaxHookAxes];  // bytes
  int extent[kMaxHookAxes];
};

// What hooks take at run time, by slot (docs/expressions.md).
struct AttentionHookArgs {
  unsigned params[kMaxHookParams];  // bits of an i32, u32 or f32; 0 or 1 for bool
  AttentionHookTensor tensors[kMaxHookTensors];
};

}  // namespace lathe::abi
#line 5 "templates/abi/merge.h"

namespace lathe::abi {

struct alignas(64) MergeParams {
  const void* o;               // [num_states, rows, head_dim], rows = tokens * heads
  const float* lse;            // [num_states, rows]
  void* merged_o;              // [rows, head_dim]
  float* merged_lse;           // [rows]; may be null
  const int* num_rows;         // in device memory: one captured launch serves every batch size
  const int* num_states;       // in device memory
  long long state_stride_o;    // bytes between states
  long long state_stride_lse;  // bytes between states
  int num_heads;               // row r is token r / num_heads, head r % num_heads; at least 1
  AttentionHookArgs hooks;     // by slot
};

}  // namespace lathe::abi
#line 1 "templates/device/device.cuh"
// What every kernel uses, in one include. Beside it: device/collectives.cuh.


#line 1 "templates/device/fragment.cuh"
// Fragments: matrices spread over the registers of a warp. Kernel code never sees lanes; it visits elements and rows.
//
// Fragments are not copied and stay where they are from issue to wait: on arches whose matrix unit writes late, the hardware holds
// on to them.


#line 1 "templates/device/sm_80/primitives.cuh"
// Primitives of device code, PTX form, for every GPU from compute capability 8.0. templates/device/host/primitives.cuh is the twin:
// the same names and meaning on the host executor. Everything a kernel does to memory or to other threads goes through this file;
// PTX ISA section names are given where the meaning is not obvious.


#line 1 "templates/device/types.cuh"
// Scalar types of device code. No std or CUDA header is ever included: what a kernel needs is spelled out here.


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
#line 7 "templates/device/sm_80/primitives.cuh"

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
#line 8 "templates/device/fragment.cuh"

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
#line 1 "templates/device/gemm.cuh"
// Matrix products of one warp, as issue / commit / wait. With mma.sync a product is finished when it is issued; arches with an
// asynchronous matrix unit put their own gemm.cuh before this one, and kernels written to the protocol need no change.


#line 1 "templates/device/memory.cuh"
// Views of memory: the only way kernel code reaches it. A view is an address plus arithmetic; every access ends in a primitive, so
// that the host executor sees it.




namespace dev {

// ---- Global memory
// -------------------------------------------------------------------------------------------------------------------
LATHE_DEVICE const void* at(const void* base, i64 bytes) {
  return static_cast<const char*>(base) + bytes;
}
LATHE_DEVICE void* at(void* base, i64 bytes) {
  return static_cast<char*>(base) + bytes;
}

// A list of plain values of 4 bytes or a multiple of 16, then aligned to 16 bytes.
template <class T>
struct GlobalList {
  static_assert(sizeof(T) == 4 || sizeof(T) % 16 == 0, "larger values are moved 16 bytes at a time");
  const void* base;

  LATHE_DEVICE T load(i64 index) const {
    const void* address = at(base, index * static_cast<i64>(sizeof(T)));
    if constexpr (sizeof(T) == 4) {
      return __builtin_bit_cast(T, global_load_u32(address));
    } else {
      struct Words {
        Vec16 part[sizeof(T) / 16];
      } words;
#pragma unroll
      for (int i = 0; i < static_cast<int>(sizeof(T) / 16); ++i) words.part[i] = global_load_vec16(at(address, 16 * i));
      return __builtin_bit_cast(T, words);
    }
  }
};

// One int of a structure in global memory.
template <class T>
using IntMember = int T::*;
template <class T>
LATHE_DEVICE int load_member(const void* base, IntMember<T> member) {
  return __builtin_bit_cast(int, global_load_u32(&(static_cast<const T*>(base)->*member)));
}

// A list that is also written.
template <class T>
struct MutableList {
  void* base;

  LATHE_DEVICE T load(i64 index) const { return GlobalList<T>{base}.load(index); }
  LATHE_DEVICE void store(i64 index, const T& value) const {
    void* address = at(base, index * static_cast<i64>(sizeof(T)));
    if constexpr (sizeof(T) == 4) {
      global_store_u32(address, __builtin_bit_cast(u32, value));
    } else {
      struct Words {
        Vec16 part[sizeof(T) / 16];
      };
      const Words words = __builtin_bit_cast(Words, value);
#pragma unroll
      for (int i = 0; i < static_cast<int>(sizeof(T) / 16); ++i) global_store_vec16(at(address, 16 * i), words.part[i]);
    }
  }
};

// Fp32 values; the index counts floats.
struct GlobalFloats {
  float* base;
  LATHE_DEVICE float load(i64 index) const { return float_from_bits(global_load_u32(at(base, index * 4))); }
  LATHE_DEVICE void store(i64 index, float x) const { global_store_u32(at(base, index * 4), float_bits(x)); }
  // Four at once; index is a multiple of 4 and the base 16-byte aligned.
  LATHE_DEVICE void load4(i64 index, float (&x)[4]) const {
    const Vec16 v = global_load_vec16(at(base, index * 4));
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = float_from_bits(v.word[i]);
  }
  LATHE_DEVICE void store4(i64 index, const float (&x)[4]) const {
    Vec16 v;
#pragma unroll
    for (int i = 0; i < 4; ++i) v.word[i] = float_bits(x[i]);
    global_store_vec16(at(base, index * 4), v);
  }
};

// Eight at once, as load4 and store4.
LATHE_DEVICE void load8(GlobalFloats list, i64 index, float (&x)[8]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float part[4];
    list.load4(index + 4 * half, part);
#pragma unroll
    for (int i = 0; i < 4; ++i) x[4 * half + i] = part[i];
  }
}
LATHE_DEVICE void store8(GlobalFloats list, i64 index, const float (&x)[8]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float part[4] = {x[4 * half], x[4 * half + 1], x[4 * half + 2], x[4 * half + 3]};
    list.store4(index + 4 * half, part);
  }
}

// A counter that blocks share.
struct Counter {
  u32* base;
  i64 index;
  LATHE_DEVICE u32 add_acq_rel(u32 x) const { return atomic_add_acq_rel(address(), x); }
  LATHE_DEVICE void store_relaxed(u32 x) const { dev::store_relaxed(address(), x); }

 private:
  LATHE_DEVICE u32* address() const { return static_cast<u32*>(at(static_cast<void*>(base), index * 4)); }
};

// Eight 16-bit elements from or to fp32, one 16-byte access.
template <class T>
LATHE_DEVICE void global_load8(const void* address, float (&x)[8]) {
  const Vec16 v = global_load_vec16(address);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    x[2 * i] = unpack<T>(v.word[i], 0);
    x[2 * i + 1] = unpack<T>(v.word[i], 1);
  }
}
template <class T>
LATHE_DEVICE void global_store8(void* address, const float (&x)[8]) {
  Vec16 v;
#pragma unroll
  for (int i = 0; i < 4; ++i) v.word[i] = pack2<T>(x[2 * i], x[2 * i + 1]);
  global_store_vec16(address, v);
}

// ---- Shared memory
// -------------------------------------------------------------------------------------------------------------------
struct SharedFloats {
  u32 offset;  // bytes
  LATHE_DEVICE float load(u32 index) const { return float_from_bits(shared_load_u32(offset + 4 * index)); }
  LATHE_DEVICE void store(u32 index, float x) const { shared_store_u32(offset + 4 * index, float_bits(x)); }
};

// ROWS x STRIDE fp32 values of which the first columns are used. A stride of 8 modulo 16 spreads the rows of a fragment over all
// banks.
template <int STRIDE>
struct SharedRows {
  static_assert(STRIDE % 16 == 8, "rows of a fragment would meet in the same banks");
  u32 offset;  // bytes
  LATHE_DEVICE void store2(int row, int column, float x, float y) const {
    shared_store_vec8(offset + static_cast<u32>(row * STRIDE + column) * 4, Vec8{{float_bits(x), float_bits(y)}});
  }
  LATHE_DEVICE void load4(int row, int column, float (&x)[4]) const {
    const Vec16 v = shared_load_vec16(offset + static_cast<u32>(row * STRIDE + column) * 4);
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = float_from_bits(v.word[i]);
  }
};

// ROWS x COLS elements of 16 or 8 bits in panels: a panel is ROWS rows of 128 bytes, and the 16-byte chunk c of row r lies at chunk
// c ^ (r % 8) of its row. This is the 128-byte swizzle of TMA and wgmma (PTX ISA, "Swizzling modes"), so later loaders and matrix
// instructions find the same bytes. `offset` is a multiple of 1024.
template <class T, int ROWS, int COLS>
struct SharedTile {
  static_assert(ROWS % 8 == 0 && COLS % 16 == 0, "a tile is made of 8-row swizzle atoms and 16-column matrix steps");
  static constexpr int kRows = ROWS;
  static constexpr int kCols = COLS;
  static constexpr int kChunks = COLS * static_cast<int>(sizeof(T)) / 16;  // 16-byte chunks of a row
  static constexpr int kPanels = (kChunks + 7) / 8;
  static constexpr u32 kPanelBytes = ROWS * 128;
  static constexpr u32 kBytes = kPanels * kPanelBytes;
  u32 offset;

  LATHE_DEVICE u32 chunk_offset(int row, int chunk) const {
    return offset + static_cast<u32>(chunk / 8) * kPanelBytes + static_cast<u32>(row * 128 + ((chunk ^ row) & 7) * 16);
  }
};

// What one lane needs to address pairs of 16-byte chunks along one row of a tile: the swizzle of a row repeats every panel, so four
// terms cover all its columns and every address is one addition (and an immediate) away.
template <class Tile>
struct TileRow {
  u32 base;
  u32 term[4];

  // The row `row`, looking at the left (half 0) or right (half 1) 16-byte chunk of each pair.
  LATHE_DEVICE TileRow(Tile tile, int row, int half) : base(tile.offset + static_cast<u32>(row) * 128) {
#pragma unroll
    for (int i = 0; i < 4; ++i) term[i] = static_cast<u32>(((2 * i + half) ^ row) & 7) * 16;
  }
  // Byte offset of the chunk of pair `step`, `down` rows below; `down` is a multiple of 8. A pair is 16 columns of 16 bits, or 32
  // of 8.
  LATHE_DEVICE u32 chunk(int step, int down) const {
    return base + static_cast<u32>(step / 4) * Tile::kPanelBytes + static_cast<u32>(down) * 128 + term[step % 4];
  }
};

}  // namespace dev
#line 7 "templates/device/gemm.cuh"

namespace dev {

// acc[16, N] += A[row_a .. row_a + 16, :] * B[row_b .. row_b + N, :]^T, both from shared memory with K along the rows.
template <class T, int N, int ROWS_A, int ROWS_B, int K>
LATHE_DEVICE void gemm_nt_issue(Accumulator<N>& acc, SharedTile<T, ROWS_A, K> a, int row_a, SharedTile<T, ROWS_B, K> b, int row_b) {
  const int lane = static_cast<int>(lane_index());
  // ldmatrix order of A: rows 0-7 and 8-15 of the left 8 columns, then of the right 8; of B: columns left and right of rows 0-7,
  // then of 8-15.
  const TileRow<SharedTile<T, ROWS_A, K>> a_row(a, row_a + lane % 16, lane / 16);
  const TileRow<SharedTile<T, ROWS_B, K>> b_row(b, row_b + lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
  for (int k = 0; k < K / 16; ++k) {
    u32 af[4];
    load_matrix_x4(af, a_row.chunk(k, 0));
#pragma unroll
    for (int n = 0; n < N / 16; ++n) {
      u32 bf[4];
      load_matrix_x4(bf, b_row.chunk(k, 16 * n));
      mma_m16n8k16<T>(acc.v[2 * n], af, bf[0], bf[1]);
      mma_m16n8k16<T>(acc.v[2 * n + 1], af, bf[2], bf[3]);
    }
  }
}

// acc[16, N] += A * B[row_b .. row_b + K, :], A in registers, B from shared memory with N along the rows.
template <class T, int N, int K, int ROWS_B>
LATHE_DEVICE void gemm_nn_issue(Accumulator<N>& acc, const Operand<T, K>& a, SharedTile<T, ROWS_B, N> b, int row_b) {
  const int lane = static_cast<int>(lane_index());
  // Transposing ldmatrix order: rows 0-7 and 8-15 of the left 8 columns, then of the right 8.
  const TileRow<SharedTile<T, ROWS_B, N>> b_row(b, row_b + lane % 16, lane / 16);
#pragma unroll
  for (int k = 0; k < K / 16; ++k) {
#pragma unroll
    for (int n = 0; n < N / 16; ++n) {
      u32 bf[4];
      load_matrix_x4_transposed(bf, b_row.chunk(n, 16 * k));
      mma_m16n8k16<T>(acc.v[2 * n], a.v[k], bf[0], bf[1]);
      mma_m16n8k16<T>(acc.v[2 * n + 1], a.v[k], bf[2], bf[3]);
    }
  }
}

// Closes the products issued so far.
LATHE_DEVICE void gemm_commit() {}

// Returns when at most PENDING committed products are unfinished; only then may their fragments and tiles be touched.
template <int PENDING>
LATHE_DEVICE void gemm_wait() {}

}  // namespace dev
#line 1 "templates/device/pipeline.cuh"
// Groups of threads and the pipeline that feeds them.




namespace dev {

// WARPS consecutive warps of a block of BLOCK_WARPS that work together. Barrier ids: group i uses 1 + i.
template <int WARPS, int BLOCK_WARPS>
struct Group {
  static_assert(BLOCK_WARPS % WARPS == 0, "a block is divided into equal groups");
  static constexpr int kThreads = WARPS * kWarpSize;
  static constexpr int kGroups = BLOCK_WARPS / WARPS;

  LATHE_DEVICE int index() const { return static_cast<int>(warp_index()) / WARPS; }
  LATHE_DEVICE int warp() const { return static_cast<int>(warp_index()) % WARPS; }
  LATHE_DEVICE int thread() const { return static_cast<int>(thread_index()) % kThreads; }
  // Waits for the group and orders its memory accesses.
  LATHE_DEVICE void sync() const {
    if constexpr (WARPS == 1) {
      warp_sync();
    } else if constexpr (WARPS == BLOCK_WARPS) {
      block_barrier();
    } else {
      named_barrier(1 + static_cast<u32>(index()), kThreads);
    }
  }
};

// A first-in first-out line of asynchronous loads into stages of shared memory, loaded and used by the same group. IN_FLIGHT loads
// are under way when a wait begins. Every thread makes the same calls in the same order:
//   acquire, copies, commit   - a load joins the line
//   wait                      - the oldest load has landed and all threads of the group see it
//   release                   - the group is done with the oldest stage it waited for
// With cp.async the producers are the consumers, so two calls cost nothing here: the barrier inside wait() proves that every thread
// has released the stages of earlier waits, and acquire() of such a stage needs no more. Arches with separate producers count
// phases instead.
template <class GROUP, int IN_FLIGHT>
struct Pipeline {
  GROUP group;

  LATHE_DEVICE void acquire() const {}
  LATHE_DEVICE void commit() const { copy_async_commit(); }
  LATHE_DEVICE void wait() const {
    copy_async_wait<IN_FLIGHT - 1>();
    group.sync();
  }
  LATHE_DEVICE void release() const {}
};

}  // namespace dev
#line 4 "templates/kernels/merge/kernel.cu"

namespace config {

using Element = dev::f16;
constexpr int kHeadDim = 64;
constexpr bool kLseLog2 = true;  // base 2, else natural
constexpr int kThreads = 256;

}  // namespace config

#line 1 "templates/kernels/merge/merge_rows.cuh"
// Every thread merges 8 columns of a row at a time, rows spread over the whole grid. Bound by reading the states once.


#line 1 "templates/device/expressions.cuh"
// What printed hooks call (csrc/spec/expr/device_source.cc lists it): integer arithmetic without undefined cases, functions of
// fp32, elements of tensors. The meaning of each is that of csrc/spec/expr/graph.h.


#line 1 "templates/device/sm_80/math.cuh"
// Functions of fp32 that hooks may use, PTX form: full-range, as accurate as CUDA's own (CUDA Math API, "Single Precision
// Mathematical Functions"), because a hook's value is judged against double. device/host/math.cuh is the twin.




namespace dev {

LATHE_DEVICE float exp(float a) {
  return ::expf(a);
}
LATHE_DEVICE float exp2(float a) {
  return ::exp2f(a);
}
LATHE_DEVICE float log(float a) {
  return ::logf(a);
}
LATHE_DEVICE float log2(float a) {
  return ::log2f(a);
}
LATHE_DEVICE float sqrt(float a) {
  return ::sqrtf(a);
}
LATHE_DEVICE float rsqrt(float a) {
  return ::rsqrtf(a);
}
LATHE_DEVICE float tanh(float a) {
  return ::tanhf(a);
}
// Called, not inlined, like the next three: they are long, and a hook is printed once for each element that a thread holds.
LATHE_DEVICE_CALL float erf(float a) {
  return ::erff(a);
}
LATHE_DEVICE_CALL float sin(float a) {
  return ::sinf(a);
}
LATHE_DEVICE_CALL float cos(float a) {
  return ::cosf(a);
}
LATHE_DEVICE_CALL float acos(float a) {
  return ::acosf(a);
}
LATHE_DEVICE float floor(float a) {
  return ::floorf(a);
}
// The smaller operand; the other one when one is NaN.
LATHE_DEVICE float min(float a, float b) {
  return ::fminf(a, b);
}
LATHE_DEVICE float abs(float a) {
  return ::fabsf(a);
}
LATHE_DEVICE int popc(u32 word) {
  return ::__popc(word);
}

}  // namespace dev
#line 8 "templates/device/expressions.cuh"

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
#line 1 "templates/kernels/shared/hook_inputs.cuh"
// What hooks see: integers of the tile, of a row and of a key (docs/expressions.md). The hooks themselves are printed for each spec
// (csrc/spec/expr/device_hooks.h).





namespace hooks {

using Args = abi::AttentionHookArgs;

struct TileInputs {
  int b, qo_len, kv_len, group, level;
};
struct RowInputs {
  int h, hk, q, tok;
  float qsum = 0.0f, qnorm = 0.0f;  // of the hook logits
};
struct ColumnInputs {
  int kv, slot;
};
// Of hooks that are evaluated in one step; what they do not use may be anything.
struct ElementInputs {
  TileInputs tile;
  RowInputs row;
  ColumnInputs column;
  int d;
};

}  // namespace hooks
#line 3 "templates/kernels/merge/hooks.cuh"

namespace hooks {

constexpr bool kNormalizes = true;
constexpr bool kMask = false;
constexpr bool kMaskDiffersByHead = false;
constexpr bool kLogits = false;
constexpr bool kWeight = false;
constexpr bool kSink = true;
constexpr bool kOutput = true;
constexpr bool kLseTransform = false;
constexpr bool kQuery = false;
constexpr bool kKey = false;
constexpr bool kValue = false;
constexpr bool kQuerySum = false;
constexpr bool kQueryNorm = false;
constexpr bool kRotaryInterleaved = false;
constexpr int kRotaryDims = 0;
LATHE_DEVICE float query_norm(float squares) {
  return squares;
}
struct Tile {
  TileInputs in;
};
LATHE_DEVICE Tile tile([[maybe_unused]] const Args& args, const TileInputs& in) {
  return {in};
}
struct Row {
  RowInputs in;
};
LATHE_DEVICE Row row([[maybe_unused]] const Args& args, [[maybe_unused]] const Tile& tile, const RowInputs& in) {
  return {in};
}
struct Column {
  ColumnInputs in;
};
LATHE_DEVICE Column column([[maybe_unused]] const Args& args, [[maybe_unused]] const Tile& tile, const ColumnInputs& in) {
  return {in};
}
LATHE_DEVICE bool visible([[maybe_unused]] const Args& args, [[maybe_unused]] const Tile& tile, [[maybe_unused]] const Row& row, [[maybe_unused]] const Column& column) {
  return true;
}
LATHE_DEVICE float logit([[maybe_unused]] const Args& args, [[maybe_unused]] const Tile& tile, [[maybe_unused]] const Row& row, [[maybe_unused]] const Column& column, [[maybe_unused]] float dot, float score) {
  return score;
}
LATHE_DEVICE float weight([[maybe_unused]] const Args& args, [[maybe_unused]] const Tile& tile, [[maybe_unused]] const Row& row, [[maybe_unused]] const Column& column, float w) {
  return w;
}
LATHE_DEVICE float query([[maybe_unused]] const Args& args, [[maybe_unused]] const ElementInputs& in, float x, [[maybe_unused]] float rot_x) {
  return x;
}
LATHE_DEVICE float key([[maybe_unused]] const Args& args, [[maybe_unused]] const ElementInputs& in, float x, [[maybe_unused]] float rot_x) {
  return x;
}
LATHE_DEVICE float value([[maybe_unused]] const Args& args, [[maybe_unused]] const ElementInputs& in, float x, [[maybe_unused]] float rot_x) {
  return x;
}
LATHE_DEVICE float sink([[maybe_unused]] const Args& args, [[maybe_unused]] const ElementInputs& in) {
  const int h = in.row.h;
  const dev::HookTensor<dev::f32> t0{args.tensors[0]};
  const float v0 = dev::read(t0, h);
  return v0;
}
LATHE_DEVICE float output([[maybe_unused]] const Args& args, [[maybe_unused]] const ElementInputs& in, float o, [[maybe_unused]] float lse) {
  const int h = in.row.h;
  const int tok = in.row.tok;
  const int d = in.d;
  const dev::HookTensor<dev::bf16> t1{args.tensors[1]};
  const float v0 = dev::read(t1, tok, h, d);
  const float v1 = dev::sigmoid(v0);
  const float v2 = o * v1;
  return v2;
}
LATHE_DEVICE float lse_transform([[maybe_unused]] const Args& args, [[maybe_unused]] const ElementInputs& in, float lse) {
  return lse;
}

}  // namespace hooks
#line 1 "templates/kernels/shared/finish_row.cuh"
// What hooks make of a row when all of its states are merged: the sink, counted once however the keys were split, then `output`.
// Follows the printed hooks (csrc/spec/expr/device_hooks.h).




namespace hooks {

// Adds the sink of a final row to its lse (base 2) and shrinks 8 columns of it accordingly: a logit without a value.
LATHE_DEVICE void add_sink(const Args& args, const ElementInputs& at, float (&o)[8], float& lse) {
  const float logit = sink(args, at) * dev::kLog2E;
  const float top = dev::max(lse, logit);
  if (top == -dev::kInfinity) return;  // neither a key nor a sink
  const float own = dev::ex2(lse - top), sum = own + dev::ex2(logit - top), factor = own * dev::rcp(sum);
  lse = top + dev::lg2(sum);
#pragma unroll
  for (int c = 0; c < 8; ++c) o[c] *= factor;
}

// Finishes 8 columns of the row that `at` names by head and token; `lse` is in base 2.
LATHE_DEVICE void finish_row(const Args& args, ElementInputs& at, int chunk, float (&o)[8], float& lse) {
  if constexpr (kSink) add_sink(args, at, o, lse);
  if constexpr (kOutput) {
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      at.d = chunk * 8 + c;
      o[c] = output(args, at, o[c], lse * dev::kLn2);
    }
  }
}

}  // namespace hooks
#line 1 "templates/kernels/shared/merge_states.cuh"
// Merging partial attention states over disjoint keys: lse = log2 sum 2^lse_i, o = sum 2^(lse_i - lse) o_i, always in index order,
// so that equal parts give equal bits.


namespace merge {

// Merges 8 columns of one row. `states(f)` calls f(i) for the states of the row in their order; lse_of(i) is the base-2 lse of
// state i, values_of(i, x) reads its 8 columns. Writes the merged columns to `o` and returns the merged lse; without any key o = 0
// and lse = -inf.
template <class STATES, class LSE, class VALUES>
LATHE_DEVICE float merge_states(STATES&& states, LSE&& lse_of, VALUES&& values_of, float (&o)[8]) {
  float top = -dev::kInfinity, sum = 0.0f;  // of the states so far; the sum and o are relative to 2^top
#pragma unroll
  for (int c = 0; c < 8; ++c) o[c] = 0.0f;
  states([&](dev::i64 i) {
    const float lse = lse_of(i);
    if (lse == -dev::kInfinity) return;  // without a key, and may hold anything
    const float higher = dev::max(top, lse);
    const float shrink = dev::ex2(top - higher);
    const float weight = dev::ex2(lse - higher);
    float x[8];
    values_of(i, x);
    sum = dev::fma(sum, shrink, weight);
#pragma unroll
    for (int c = 0; c < 8; ++c) o[c] = dev::fma(weight, x[c], o[c] * shrink);
    top = higher;
  });
  if (sum == 0.0f) return -dev::kInfinity;
  const float inverse = dev::rcp(sum);
#pragma unroll
  for (int c = 0; c < 8; ++c) o[c] *= inverse;
  return top + dev::lg2(sum);
}

// The same of states that are not normalised: their sum.
template <class STATES, class VALUES>
LATHE_DEVICE void add_states(STATES&& states, VALUES&& values_of, float (&o)[8]) {
#pragma unroll
  for (int c = 0; c < 8; ++c) o[c] = 0.0f;
  states([&](dev::i64 i) {
    float x[8];
    values_of(i, x);
#pragma unroll
    for (int c = 0; c < 8; ++c) o[c] += x[c];
  });
}

}  // namespace merge
#line 7 "templates/kernels/merge/merge_rows.cuh"

namespace merge {

LATHE_DEVICE void merge_rows(const abi::MergeParams& params) {
  using dev::i64;
  constexpr int kChunks = config::kHeadDim / 8;
  constexpr float kToLog2 = config::kLseLog2 ? 1.0f : dev::kLog2E;
  constexpr float kFromLog2 = config::kLseLog2 ? 1.0f : dev::kLn2;
  const int num_rows = dev::GlobalList<int>{params.num_rows}.load(0);
  const int num_states = dev::GlobalList<int>{params.num_states}.load(0);
  const i64 step = static_cast<i64>(dev::grid_size()) * config::kThreads;
  for (i64 i = static_cast<i64>(dev::block_index()) * config::kThreads + dev::thread_index();
       i < static_cast<i64>(num_rows) * kChunks; i += step) {
    const int row = static_cast<int>(i / kChunks), chunk = static_cast<int>(i % kChunks);
    const i64 row_bytes = static_cast<i64>(row) * config::kHeadDim * 2 + chunk * 16;
    float o[8];
    float lse = merge_states(
        [&](auto&& f) {
#pragma unroll 1
          for (int state = 0; state < num_states; ++state) f(state);
        },
        [&](i64 state) { return dev::GlobalList<float>{dev::at(params.lse, state * params.state_stride_lse)}.load(row) * kToLog2; },
        [&](i64 state, float(&x)[8]) {
          dev::global_load8<config::Element>(dev::at(params.o, state * params.state_stride_o + row_bytes), x);
        },
        o);
    hooks::ElementInputs at{};
    at.row.h = row % params.num_heads, at.row.tok = row / params.num_heads;
    hooks::finish_row(params.hooks, at, chunk, o, lse);
    dev::global_store8<config::Element>(dev::at(params.merged_o, row_bytes), o);
    if (chunk == 0 && params.merged_lse != nullptr) dev::GlobalFloats{params.merged_lse}.store(row, lse * kFromLog2);
  }
}

}  // namespace merge
#line 15 "templates/kernels/merge/kernel.cu"

LATHE_KERNEL(merge_kernel, abi::MergeParams, config::kThreads) {
  merge::merge_rows(params);
}
