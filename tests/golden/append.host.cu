#line 1 "templates/abi/append.h"
// What host and device agree on for the append kernel (csrc/spec/append_spec.h). Strides are bytes.


#line 1 "templates/abi/kv_scales.h"
// What host and device agree on for keys and values that are codes of 8 bits.


namespace lathe::abi {

// fp32 factors or zero-points of keys or values: of a token and kv head, or of a kv head and channel. Strides are bytes; an axis
// that is not there has stride 0.
struct KvTable {
  void* data;
  long long stride_page, stride_token, stride_head, stride_channel;  // ragged: stride_page unused
};

// What codes stand for: (code - zero) * scale * token_scale * channel_scale.
struct KvScales {
  KvTable token_scale, channel_scale, zero;
  float scale;
};

}  // namespace lathe::abi
#line 5 "templates/abi/append.h"

namespace lathe::abi {

struct alignas(64) AppendParams {
  const void* q;  // null: no query is turned
  void* q_out;    // may be q
  const void* k;
  const void* v;
  void* k_cache;
  void* v_cache;                  // may lie inside k_cache
  const long long* slot_mapping;  // [tokens], negative: padding; null where tokens have requests and positions
  const int* batch_indices;       // [tokens], negative: padding
  const int* positions;           // [tokens]
  const int* kv_indptr;           // [batch + 1] of kv_indices; null: block tables
  const int* kv_indices;          // page ids, or block_table [batch, block_table_stride]
  const float* cos_sin;           // [positions, turned dimensions]: half of them cosines, then as many sines
  long long q_stride_token, q_stride_head;
  long long q_out_stride_token, q_out_stride_head;
  long long k_stride_token, k_stride_head;
  long long v_stride_token, v_stride_head;
  long long k_cache_stride_page, k_cache_stride_token, k_cache_stride_head;
  long long v_cache_stride_page, v_cache_stride_token, v_cache_stride_head;
  long long cos_sin_stride;
  KvScales k_scales, v_scales;  // scale is read of codes; the tables where the spec has them, those of tokens are written
  int num_tokens, num_qo_heads, num_kv_heads;
  int block_table_stride;
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
#line 1 "templates/kernels/shared/kv_tables.cuh"
// Tables of scales and zero-points of keys or values that are codes of 8 bits.




namespace kv {

using dev::i64;

enum class ZeroPoint { none, token, channel };

// How keys, or values, are held: elements as q's, or 8-bit codes with scales of tokens and channels and a zero-point.
template <class Type, bool token_scale, bool channel_scale, ZeroPoint zero>
struct Format {
  using Element = Type;
  static constexpr bool kTokenScale = token_scale;
  static constexpr bool kChannelScale = channel_scale;
  static constexpr ZeroPoint kZero = zero;
};

// Where a token lies in the pool: a page and its index in there or, ragged, page 0 and its row.
struct Place {
  int page, index;
};

// One kv head's entries of a table.
struct Table {
  const abi::KvTable& table;
  int kv_head;

  LATHE_DEVICE float of_channel(int channel) const { return floats(channel * table.stride_channel).load(0); }
  LATHE_DEVICE float of_token(Place at) const { return floats(token(at)).load(0); }
  LATHE_DEVICE void set_token(Place at, float x) const { floats(token(at)).store(0, x); }

 private:
  LATHE_DEVICE i64 token(Place at) const { return at.page * table.stride_page + at.index * table.stride_token; }
  LATHE_DEVICE dev::GlobalFloats floats(i64 offset) const {
    return {static_cast<float*>(dev::at(table.data, offset + kv_head * table.stride_head))};
  }
};

}  // namespace kv
#line 5 "templates/kernels/append/kernel.cu"

namespace config {

using Element = dev::bf16;          // q, k and v as they come
// k or v as the cache has them.
using KeyFormat =
    kv::Format<dev::e4m3, true, false, kv::ZeroPoint::none>;
using ValueFormat =
    kv::Format<dev::i8, true, true, kv::ZeroPoint::token>;
constexpr int kHeadDimQk = 128;
constexpr int kHeadDimVo = 128;
constexpr int kTurnedDims = 128;        // of q and k, by rotary embeddings; 0: none
constexpr bool kInterleaved = false;      // pairs are neighbours, else halves apart
constexpr bool kSlots = true;                  // tokens are placed by slots, else by request and position
constexpr int kPageSize = 16;
constexpr int kWarps = 8;

}  // namespace config

#line 1 "templates/kernels/append/append_vectors.cuh"
// Every warp takes groups of vectors, spread over the whole grid: first those of q, then k's, then v's. Bound by reading them and
// writing the cache once.


#line 1 "templates/kernels/append/rope.cuh"
// Rotary embeddings by a table of cosines and sines (csrc/spec/expr/rope.h makes it).


#line 1 "templates/kernels/append/vector.cuh"
// A vector is one head of one token. The lanes of a warp take 8 elements each, so that several short vectors share a warp.





namespace append {

using dev::i64;
using dev::u32;

// Lanes of a vector of DIM elements: a power of two.
template <int DIM>
constexpr int kLanesOf = DIM > 128  ? 32
                         : DIM > 64 ? 16
                         : DIM > 32 ? 8
                         : DIM > 16 ? 4
                                    : 2;

// Which 8 elements this lane has.
struct Vector {
  int token, head;
  int chunk;    // elements [8 chunk, 8 chunk + 8)
  bool exists;  // as such; a lane without elements only takes part in what its warp does together

  // Of those of the warp's group `group` of vectors: `heads` for each token.
  template <int DIM>
  LATHE_DEVICE static Vector of_lane(i64 group, int tokens, int heads) {
    constexpr int kLanes = kLanesOf<DIM>;
    const int lane = static_cast<int>(dev::lane_index());
    const i64 index = group * (dev::kWarpSize / kLanes) + lane / kLanes;
    const bool exists = index < static_cast<i64>(tokens) * heads;
    const int at = exists ? static_cast<int>(index) : 0;
    return {at / heads, at % heads, lane % kLanes, exists && lane % kLanes < DIM / 8};
  }
};
// Groups of vectors, one for a warp at a time.
template <int DIM>
LATHE_DEVICE i64 num_groups(int tokens, int heads) {
  constexpr int kVectors = dev::kWarpSize / kLanesOf<DIM>;
  return (static_cast<i64>(tokens) * heads + kVectors - 1) / kVectors;
}

constexpr kv::Place kPadding{-1, 0};  // of tokens that go nowhere

LATHE_DEVICE kv::Place place_of(const abi::AppendParams& params, int token) {
  if constexpr (config::kSlots) {
    const dev::Vec8 bits = dev::global_load_vec8(params.slot_mapping + token);
    const i64 slot = static_cast<i64>(static_cast<dev::u64>(bits.word[1]) << 32 | bits.word[0]);
    if (slot < 0) return kPadding;
    return {static_cast<int>(slot / config::kPageSize), static_cast<int>(slot % config::kPageSize)};
  } else {
    const int request = dev::GlobalList<int>{params.batch_indices}.load(token);
    if (request < 0) return kPadding;
    const u32 position = static_cast<u32>(dev::GlobalList<int>{params.positions}.load(token));
    const i64 first = params.kv_indptr != nullptr ? dev::GlobalList<int>{params.kv_indptr}.load(request)
                                                  : static_cast<i64>(request) * params.block_table_stride;
    const int page = dev::GlobalList<int>{params.kv_indices}.load(first + position / config::kPageSize);
    return {page, static_cast<int>(position % config::kPageSize)};
  }
}

}  // namespace append
#line 5 "templates/kernels/append/rope.cuh"

namespace append {

// 8 elements as they come: those of the lane, and those that are turned together with them.
struct Elements {
  dev::Vec16 own, pair;
};

// By all lanes of a vector's group.
template <int LANES>
LATHE_DEVICE Elements with_pairs(const dev::Vec16& own, const Vector& at) {
  Elements x{own, own};
  constexpr int kHalf = config::kTurnedDims / 2 / 8;  // in lanes
  if constexpr (config::kTurnedDims > 0 && !config::kInterleaved) {
    const int lane = static_cast<int>(dev::lane_index());
    const int other = at.chunk < kHalf ? lane + kHalf : at.chunk < 2 * kHalf ? lane - kHalf : lane;
#pragma unroll
    for (int i = 0; i < 4; ++i) x.pair.word[i] = dev::shuffle(own.word[i], static_cast<u32>(other));
  }
  return x;
}

// The lane's elements, turned by the token's position, as fp32.
LATHE_DEVICE void turn(const Elements& elements, const Vector& at, const abi::AppendParams& params, float (&x)[8]) {
  using config::Element;
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = dev::unpack<Element>(elements.own.word[i / 2], i % 2);
  if constexpr (config::kTurnedDims == 0) return;
  constexpr int kHalf = config::kTurnedDims / 2;
  if (!at.exists || 8 * at.chunk >= config::kTurnedDims) return;
  const int position = dev::GlobalList<int>{params.positions}.load(at.token);
  const dev::GlobalFloats row{
      const_cast<float*>(static_cast<const float*>(dev::at(params.cos_sin, position * params.cos_sin_stride)))};
  if constexpr (config::kInterleaved) {
    float cosine[4], sine[4];
    row.load4(4 * at.chunk, cosine);
    row.load4(kHalf + 4 * at.chunk, sine);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float a = x[2 * i], b = x[2 * i + 1];
      x[2 * i] = dev::fma(a, cosine[i], -sine[i] * b);
      x[2 * i + 1] = dev::fma(b, cosine[i], sine[i] * a);
    }
  } else {
    const bool first = 8 * at.chunk < kHalf;
    const int column = first ? 8 * at.chunk : 8 * at.chunk - kHalf;
    float cosine[8], sine[8];
    dev::load8(row, column, cosine);
    dev::load8(row, kHalf + column, sine);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float pair = dev::unpack<Element>(elements.pair.word[i / 2], i % 2);
      x[i] = dev::fma(x[i], cosine[i], sine[i] * (first ? -pair : pair));
    }
  }
}

}  // namespace append
#line 1 "templates/kernels/append/store_vector.cuh"
// From a vector in fp32 to what the cache has: elements, or codes with the scale that they ask for.


#line 1 "templates/device/to_codes.cuh"
// Fp32 becomes codes of 8 bits, by arithmetic that every arch and the host have.


#line 1 "templates/device/host/math.cuh"
// Functions of fp32 that hooks may use, host form: the twin of device/sm_80/math.cuh.




namespace dev {

LATHE_DEVICE float exp(float a) {
  return __builtin_expf(a);
}
LATHE_DEVICE float exp2(float a) {
  return __builtin_exp2f(a);
}
LATHE_DEVICE float log(float a) {
  return __builtin_logf(a);
}
LATHE_DEVICE float log2(float a) {
  return __builtin_log2f(a);
}
LATHE_DEVICE float sqrt(float a) {
  return __builtin_sqrtf(a);
}
LATHE_DEVICE float rsqrt(float a) {
  return 1.0f / __builtin_sqrtf(a);
}
LATHE_DEVICE float tanh(float a) {
  return __builtin_tanhf(a);
}
// Called, not inlined, like the next three: they are long, and a hook is printed once for each element that a thread holds.
LATHE_DEVICE_CALL float erf(float a) {
  return __builtin_erff(a);
}
LATHE_DEVICE_CALL float sin(float a) {
  return __builtin_sinf(a);
}
LATHE_DEVICE_CALL float cos(float a) {
  return __builtin_cosf(a);
}
LATHE_DEVICE_CALL float acos(float a) {
  return __builtin_acosf(a);
}
LATHE_DEVICE float floor(float a) {
  return __builtin_floorf(a);
}
// The smaller operand; the other one when one is NaN. -0 is smaller than +0.
LATHE_DEVICE float min(float a, float b) {
  return -max(-a, -b);
}
LATHE_DEVICE float abs(float a) {
  return __builtin_fabsf(a);
}
LATHE_DEVICE int popc(u32 word) {
  return __builtin_popcount(word);
}

}  // namespace dev
#line 6 "templates/device/to_codes.cuh"

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
#line 6 "templates/kernels/append/store_vector.cuh"

namespace append {

template <class FORMAT>
constexpr bool kCodes = sizeof(typename FORMAT::Element) == 1;

// Of what a token's scale is made of: its inverse stays a number.
constexpr float kLeastRange = 1e-30f, kMostRange = 1.5e38f;

// Divides by what is given: the scale of all, and the channels'.
template <class FORMAT>
LATHE_DEVICE void apply_given_scales(float (&x)[8], const abi::KvScales& scales, const Vector& at) {
  const float inverse = dev::rcp(scales.scale);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if constexpr (FORMAT::kChannelScale) {
      if (at.exists) x[i] *= dev::rcp(scales.scale * kv::Table{scales.channel_scale, at.head}.of_channel(8 * at.chunk + i));
    } else {
      x[i] *= inverse;
    }
  }
}

// Divides by the token's scale, which is made of the vector and stored, as is its zero-point; adds that. By all lanes.
template <class FORMAT, int LANES>
LATHE_DEVICE void apply_made_scale(float (&x)[8], const abi::KvScales& scales, const Vector& at, kv::Place place) {
  constexpr bool kZero = FORMAT::kZero == kv::ZeroPoint::token;
  float low = 0.0f, high = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    low = dev::min(low, kZero ? x[i] : 0.0f);
    high = dev::max(high, kZero ? x[i] : dev::abs(x[i]));
  }
#pragma unroll
  for (dev::u32 mask = LANES / 2; mask > 0; mask /= 2) {
    low = dev::min(low, dev::float_from_bits(dev::shuffle_xor(dev::float_bits(low), mask)));
    high = dev::max(high, dev::float_from_bits(dev::shuffle_xor(dev::float_bits(high), mask)));
  }
  low = dev::max(low, -kMostRange);
  const float range = dev::min(high, kMostRange) - low;
  const float scale =
      range == 0.0f ? 1.0f
                    : dev::max(range, kLeastRange) * (kZero ? 1.0f / 255 : 1.0f / dev::kLargestCode<typename FORMAT::Element>);
  const float inverse = dev::rcp(scale);
  // Rounded as codes are, so that a 0 stays one.
  const float zero = kZero ? dev::floor(-128.0f - low * inverse + 0.5f) : 0.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = dev::fma(x[i], inverse, zero);
  if (at.exists && at.chunk == 0) {
    kv::Table{scales.token_scale, at.head}.set_token(place, scale);
    if constexpr (kZero) kv::Table{scales.zero, at.head}.set_token(place, zero);
  }
}

// Stores 8 elements of a vector at `address`. By all lanes.
template <class FORMAT, int LANES>
LATHE_DEVICE void store_vector(float (&x)[8], void* address, const abi::KvScales& scales, const Vector& at, kv::Place place) {
  using Stored = typename FORMAT::Element;
  if constexpr (!kCodes<FORMAT>) {
    if (at.exists) dev::global_store8<Stored>(address, x);
    return;
  } else {
    apply_given_scales<FORMAT>(x, scales, at);
    if constexpr (FORMAT::kTokenScale) apply_made_scale<FORMAT, LANES>(x, scales, at, place);
    if constexpr (FORMAT::kZero == kv::ZeroPoint::channel) {
#pragma unroll
      for (int i = 0; i < 8; ++i)
        if (at.exists) x[i] += kv::Table{scales.zero, at.head}.of_channel(8 * at.chunk + i);
    }
    if (at.exists) dev::global_store8_codes<Stored>(address, x);
  }
}

}  // namespace append
#line 7 "templates/kernels/append/append_vectors.cuh"

namespace append {

LATHE_DEVICE dev::Vec16 load_elements(const void* base, i64 stride_token, i64 stride_head, const Vector& at) {
  if (!at.exists) return {};
  return dev::global_load_vec16(dev::at(base, at.token * stride_token + at.head * stride_head + 16 * at.chunk));
}

// One head of q of a token that is no padding, turned.
LATHE_DEVICE void turn_query(const abi::AppendParams& params, i64 group) {
  constexpr int kDim = config::kHeadDimQk;
  Vector at = Vector::of_lane<kDim>(group, params.num_tokens, params.num_qo_heads);
  at.exists = at.exists && place_of(params, at.token).page >= 0;
  const dev::Vec16 own = load_elements(params.q, params.q_stride_token, params.q_stride_head, at);
  float x[8];
  turn(with_pairs<kLanesOf<kDim>>(own, at), at, params, x);
  if (at.exists) {
    dev::global_store8<config::Element>(
        dev::at(params.q_out, at.token * params.q_out_stride_token + at.head * params.q_out_stride_head + 16 * at.chunk), x);
  }
}

LATHE_DEVICE void append_key(const abi::AppendParams& params, i64 group) {
  constexpr int kDim = config::kHeadDimQk;
  constexpr i64 kChunkBytes = 8 * sizeof(config::KeyFormat::Element);
  Vector at = Vector::of_lane<kDim>(group, params.num_tokens, params.num_kv_heads);
  const kv::Place place = place_of(params, at.token);
  at.exists = at.exists && place.page >= 0;
  const dev::Vec16 own = load_elements(params.k, params.k_stride_token, params.k_stride_head, at);
  float x[8];
  turn(with_pairs<kLanesOf<kDim>>(own, at), at, params, x);
  store_vector<config::KeyFormat, kLanesOf<kDim>>(
      x,
      dev::at(params.k_cache, place.page * params.k_cache_stride_page + place.index * params.k_cache_stride_token +
                                  at.head * params.k_cache_stride_head + at.chunk * kChunkBytes),
      params.k_scales, at, place);
}

LATHE_DEVICE void append_value(const abi::AppendParams& params, i64 group) {
  constexpr int kDim = config::kHeadDimVo;
  constexpr i64 kChunkBytes = 8 * sizeof(config::ValueFormat::Element);
  Vector at = Vector::of_lane<kDim>(group, params.num_tokens, params.num_kv_heads);
  const kv::Place place = place_of(params, at.token);
  at.exists = at.exists && place.page >= 0;
  const dev::Vec16 own = load_elements(params.v, params.v_stride_token, params.v_stride_head, at);
  float x[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = dev::unpack<config::Element>(own.word[i / 2], i % 2);
  store_vector<config::ValueFormat, kLanesOf<kDim>>(
      x,
      dev::at(params.v_cache, place.page * params.v_cache_stride_page + place.index * params.v_cache_stride_token +
                                  at.head * params.v_cache_stride_head + at.chunk * kChunkBytes),
      params.v_scales, at, place);
}

LATHE_DEVICE void append_vectors(const abi::AppendParams& params) {
  const i64 queries =
      params.q == nullptr || config::kTurnedDims == 0 ? 0 : num_groups<config::kHeadDimQk>(params.num_tokens, params.num_qo_heads);
  const i64 keys = num_groups<config::kHeadDimQk>(params.num_tokens, params.num_kv_heads);
  const i64 values = num_groups<config::kHeadDimVo>(params.num_tokens, params.num_kv_heads);
  const i64 step = static_cast<i64>(dev::grid_size()) * config::kWarps;
  for (i64 i = static_cast<i64>(dev::block_index()) * config::kWarps + dev::warp_index(); i < queries + keys + values; i += step) {
    if (i < queries) {
      turn_query(params, i);
    } else if (i < queries + keys) {
      append_key(params, i - queries);
    } else {
      append_value(params, i - queries - keys);
    }
  }
}

}  // namespace append
#line 25 "templates/kernels/append/kernel.cu"

LATHE_KERNEL(append_kernel, abi::AppendParams, config::kWarps * dev::kWarpSize) {
  append::append_vectors(params);
}
