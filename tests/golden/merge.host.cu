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


#line 1 "templates/device/host/primitives.cuh"
// Primitives of device code, host form: the twin of device/sm_80/primitives.cuh, with the same names and meaning. Memory,
// collectives and barriers are calls into the executor (abi/simt.h), which sees every access; arithmetic is done here.
//
// Everything is always inlined, so that the return address of a call names the line of the kernel that made it.


#line 1 "templates/abi/simt.h"
// How a kernel built for the host reaches the executor that runs it: one table of functions, handed over once after loading.
// Shared by rendered host sources and by csrc/runtime/simt; plain types only.
//
// Growing it: append functions at the end. A kernel built against a shorter table keeps working; one built against a longer table
// is refused by `size`. Changing what exists takes a new kSimtVersion.


namespace lathe::abi {

constexpr unsigned kSimtVersion = 1;

enum class SimtType : unsigned { bf16, f16 };
enum class SimtOrder : unsigned { relaxed, acquire, release, acq_rel };

// Every function may switch to another thread of the grid before it returns, and does not return at all after a fault.
// The meaning of each is that of the primitive of its name in device/sm_80/primitives.cuh.
struct SimtApi {
  unsigned version;
  unsigned size;  // of this struct, in bytes

  unsigned (*thread_index)();
  unsigned (*block_index)();
  unsigned (*grid_size)();

  // bytes: 4, 8 or 16; global_load also 1 and 2.
  void (*shared_load)(unsigned offset, unsigned bytes, void* out);
  void (*shared_store)(unsigned offset, unsigned bytes, const void* value);
  void (*global_load)(const void* address, unsigned bytes, void* out);
  void (*global_store)(void* address, unsigned bytes, const void* value);

  void (*copy_async)(unsigned offset, const void* source, unsigned bytes, bool valid);
  void (*copy_async_commit)();
  void (*copy_async_wait)(unsigned pending);

  void (*warp_sync)();
  unsigned (*shuffle)(unsigned x, unsigned source_lane);
  unsigned (*shuffle_xor)(unsigned x, unsigned lane_mask);
  bool (*vote_any)(bool x);
  bool (*vote_all)(bool x);
  void (*load_matrix_x4)(unsigned* r, unsigned row_offset, bool transposed);
  void (*mma_m16n8k16)(SimtType type, float* d, const unsigned* a, unsigned b0, unsigned b1);

  void (*block_barrier)();
  void (*named_barrier)(unsigned id, unsigned threads);
  void (*named_barrier_arrive)(unsigned id, unsigned threads);

  unsigned (*atomic_add)(unsigned* address, unsigned x, SimtOrder order);
  unsigned (*atomic_load)(const unsigned* address, SimtOrder order);
  void (*atomic_store)(unsigned* address, unsigned x, SimtOrder order);
  void (*fence_acq_rel)();
  void (*spin_pause)();  // one failed test of spin_until

  void (*trap)();
};

}  // namespace lathe::abi
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
#line 9 "templates/device/host/primitives.cuh"

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

using Element = dev::bf16;
constexpr int kHeadDim = 128;
constexpr bool kLseLog2 = false;  // base 2, else natural
constexpr int kThreads = 256;

}  // namespace config

#line 1 "templates/kernels/merge/merge_rows.cuh"
// Every thread merges 8 columns of a row at a time, rows spread over the whole grid. Bound by reading the states once.


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
#line 2 "templates/kernels/merge/hooks.cuh"

namespace hooks {

constexpr bool kNormalizes = true;
constexpr bool kMask = false;
constexpr bool kMaskDiffersByHead = false;
constexpr bool kLogits = false;
constexpr bool kWeight = false;
constexpr bool kSink = false;
constexpr bool kOutput = false;
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
  return -dev::kInfinity;
}
LATHE_DEVICE float output([[maybe_unused]] const Args& args, [[maybe_unused]] const ElementInputs& in, float o, [[maybe_unused]] float lse) {
  return o;
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
