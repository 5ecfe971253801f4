#line 1 "templates/abi/attention.h"
// What host and device agree on for the attention kernel: the parameter block and the plan. Plain types only; included by rendered
// sources and by the library. All offsets and strides are bytes and 64-bit; counts and lengths are 32-bit.


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
#line 7 "templates/abi/attention.h"

namespace lathe::abi {

// One request of the batch; behind those of the batch, one for each shared tile (AttentionLinkedTile), whose `qo_begin` is its
// first AttentionSharedRow, `qo_len` how many it has, and `kv_len` so large that every row sees every key of its items.
struct AttentionRequest {
  int qo_begin;  // its first row in q, o and lse
  int qo_len;
  int kv_len;
  int kv_begin;  // ragged: its first row in k and v; paged: its first entry in kv_indices (the flat csr indices or block table)
};

// One unit of work of a thread block: a tile of packed query rows against a range of keys, for a run of heads one after another.
// Packed row r of a request is query r / G of head `head * G + r % G` (G = group_size when packed, else 1).
// Heads, partial rows and merge groups count from those of the block's replica, see AttentionPlanHeader.
struct AttentionWorkItem {
  int request;
  int head;       // the first: kv head when packed, else qo head
  int row_begin;  // first packed row of the tile
  int kv_begin;   // keys [kv_begin, kv_end) of the request; empty when no key is visible
  int kv_end;
  int partial_row;  // first row of this item's partial state, or -1: the item writes the result itself
  int merge_group;  // index of its merge group, or -1
  short num_heads;  // 1 when the item has a partial state
  signed char tile_class;
  signed char level;  // 0: rows of one request; 1: rows of several against keys that they share
};

// The items of one tile whose states are merged: it was split along the keys, or it is a linked tile. Part i has its state at rows
// first_row + i * (rows of the tile that exist). Whoever arrives last merges all parts in index order.
struct AttentionMergeGroup {
  int first_row;
  int num_parts;
};

// Linked tiles: where requests read keys together. A *shared tile* holds rows of several requests against keys that all of them
// see; a *leaf* holds the rows of one request against its own keys, and its result is merged from its own parts and from its rows'
// states in its shared tiles, in the order of its links. Whoever completes a shared tile arrives at all its leaves.
// The merge group of linked tile t and head h (of the replica) is t * replica_heads + h; those of other tiles follow.
struct AttentionLinkedTile {
  int first_row;   // leaf: its first packed row, counted over the whole batch (qo_begin * G + row); shared tile: 0
  int num_rows;    // rows that exist
  int first_link;  // links [first_link, first_link + num_links): of a leaf its shared tiles, of a shared tile its leaves
  int num_links;
};

// A leaf's rows in a shared tile.
struct AttentionLink {
  int tile;  // the linked tile at the other end
  int row;   // first of the leaf's rows in the shared tile
};

// One row of a shared tile.
struct AttentionSharedRow {
  int row;   // packed, counted over the whole batch
  int link;  // which of its tile's links it belongs to
};

// Where a mask of hooks leaves out keys, the keys of a row block are counted without them: keys kv_begin and kv_end of its items
// are places in the line of the tiles that any of its rows may see, whole tiles of the class's keys (the request's last tile may be
// short). The line is made of runs of neighbouring tiles.
struct AttentionKeyRun {
  int begin;     // its place in the line
  int kv_begin;  // its first key; a multiple of the class's keys
  int full;      // not 0: every row sees every key of the run
  int unused;
};

// Start of the plan in device memory; the lists follow at these byte offsets from the header's address (16-byte aligned).
//
// The heads fall into replicas, equal parts that are scheduled alike: there is one set of lists for all of them. Block c runs list
// c % num_lists for replica c / num_lists, whose heads, partial rows and merge groups begin at that many times the header's
// heads, partial_rows and groups; blocks past the last replica have nothing to do.
struct AttentionPlanHeader {
  int num_requests;  // shared tiles' included
  int num_items;
  int num_groups;  // of one replica, those of linked tiles first
  int num_lists;
  int num_replicas;
  int replica_heads;         // heads of one replica
  int replica_partial_rows;  // distance between two replicas' first partial rows
  int requests_offset;       // AttentionRequest[num_requests]
  int item_indptr_offset;    // int[num_lists + 1]: items of list l are [item_indptr[l], item_indptr[l + 1])
  int groups_offset;         // AttentionMergeGroup[num_groups]
  int items_offset;          // AttentionWorkItem[num_items]
  int num_linked;            // linked tiles; 0 where nothing is shared, and the three lists below are empty
  int linked_offset;         // AttentionLinkedTile[num_linked]
  int links_offset;          // AttentionLink[]
  int shared_rows_offset;    // AttentionSharedRow[]
  int first_blocks_offset;   // int[num_requests]: index of a request's first row block, or of each of its heads' where the mask of
                             // hooks differs by head, int[num_requests, heads]; these three only where a mask of hooks is
  int run_indptr_offset;     // int[row blocks + 1]: runs of row block i are [run_indptr[i], run_indptr[i + 1])
  int runs_offset;           // AttentionKeyRun[]
  int bytes;                 // of the whole plan
  int unused;                // whole 16 bytes
};

// Parameter block of the launch (at most 4 KB, 64-byte aligned). Holds no per-batch number.
struct alignas(64) AttentionParams {
  const void* q;
  const void* k;
  const void* v;  // may alias k
  void* o;
  float* lse;                // null unless the spec asks for it
  const int* kv_indices;     // page ids; null when ragged
  const void* plan;          // AttentionPlanHeader
  float* partial_o;          // [partial rows, head_dim_vo], normalised
  float* partial_lse;        // [partial rows], base 2
  unsigned* merge_counters;  // [replicas * groups], zero before the launch and after it
  long long q_stride_token, q_stride_head;
  long long o_stride_token, o_stride_head;
  long long k_stride_page, k_stride_token, k_stride_head;  // ragged: k_stride_page unused
  long long v_stride_page, v_stride_token, v_stride_head;
  long long lse_stride_token;   // bytes; heads are contiguous
  float sm_scale;               // > 0
  float soft_cap;               // > 0; read only when the spec has soft_cap
  int window;                   // >= 1; read only when the mask has a window
  int num_pages;                // pages in k and v; checked builds trap on page ids outside [0, num_pages)
  KvScales k_scales, v_scales;  // scale is read of codes, the tables where the spec has them
  AttentionHookArgs hooks;      // read only where the spec has hooks
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
#line 2 "templates/kernels/attention/hooks.cuh"

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
#line 6 "templates/kernels/attention/kernel.cu"

namespace config {

using Element = dev::bf16;         // q, and what the matrix unit takes
using OutElement = dev::bf16;  // o
// k or v as they lie in memory: elements as q's, or 8-bit codes with their scales (kernels/attention/kv_formats.cuh).
using KeyFormat =
    kv::Format<dev::bf16, false, false, kv::ZeroPoint::none>;
using ValueFormat =
    kv::Format<dev::bf16, false, false, kv::ZeroPoint::none>;
constexpr int kHeadDimQk = 128;
constexpr int kHeadDimVo = 128;
constexpr int kGroupSize = 4;   // qo heads per kv head
constexpr bool kPacked = true;         // the heads of a group share the rows of a tile
constexpr bool kPaged = true;
constexpr int kPageSize = 16;     // tokens; 1 when not paged
constexpr bool kCausal = true;
constexpr bool kWindow = false;
constexpr bool kSoftCap = false;
constexpr bool kWriteLse = true;
constexpr bool kLseLog2 = false;      // base 2, else natural
constexpr int kWarps = 8;
constexpr int kStages = 2;
constexpr int kEpilogueOffset = 2048;          // shared memory: control block, then tiles

template <int INDEX>
struct TileClass;

template <>
struct TileClass<0> {
  static constexpr int kRows = 128;
  static constexpr int kKeys = 64;
};
#line 34 "templates/kernels/attention/kernel.cu"
template <>
struct TileClass<1> {
  static constexpr int kRows = 16;
  static constexpr int kKeys = 128;
};

LATHE_DEVICE constexpr int tile_rows(int tile_class) {

  if (tile_class == 0) return 128;
#line 42 "templates/kernels/attention/kernel.cu"
  if (tile_class == 1) return 16;

  return 0;
}

}  // namespace config

#line 1 "templates/kernels/attention/run_item.cuh"
// One work item: a tile of packed query rows against a range of keys (FlashAttention-2, arXiv 2307.08691, with cp.async and
// mma.sync).
//
// Warps are a grid of kRows / 16 along the rows times groups along the keys: every group walks its own slice of each key tile, and
// the groups' states are merged once at the end. Tall tiles have one group, the 16-row tile of decoding has a group per warp, and
// between two tiles a group waits for nobody else.


#line 1 "templates/kernels/attention/epilogue.cuh"
// From the warps' accumulators to memory: warps that split the keys are merged, the result is normalised and written, either as the
// final output or as a partial state.


#line 1 "templates/kernels/attention/kv_formats.cuh"
// Keys and values as 8-bit codes c that stand for (c - zero) * scale, a scale being a product of one for all, one for each token
// and head, and one for each head and channel. The products are of the codes themselves; everything else is done where it costs
// least. With the tokens' scales t, the channels' s and zero-points z of tokens (those of channels leave the sums likewise):
//
//   <q, k_j> = t_j (sum_d q'_d c_jd - z_j sum_d q'_d),   q'_d = q_d s_d
//   o_d = s_d (sum_j w'_j c_jd - sum_j w'_j z_j),        w'_j = w_j t_j
//
// The channels' scales of keys go to the query, the tokens' scales of values to the weights; both are then rounded to elements.
//
// All of this is about codes that the products read. Where a hook key or value stands between, it makes elements of them first
// (vector_hooks.cuh), and the products are those of elements.


#line 1 "templates/device/gemm_codes.cuh"
// Matrix products of one warp whose right operand is 8-bit codes in shared memory. Codes become 16-bit elements in registers, on
// their way from shared memory to the matrix unit; both products arrange the operand so that no code changes its lane.


#line 1 "templates/device/host/codes.cuh"
// 8-bit codes become 16-bit floats, host form: the twin of device/sm_80/codes.cuh.




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
#line 7 "templates/device/gemm_codes.cuh"

namespace dev {

// Rows [0, rows) of the left operand of a product with codes, 16 columns at a time, from their own order to the one in which
// gemm_nt_issue meets the codes: where the matrix unit wants columns 2 t and 2 t + 1 together, and 2 t + 8 and 2 t + 9, it finds
// codes 4 t and 4 t + 2, and 4 t + 1 and 4 t + 3. Calls f(row, column, x[16]) in between. In place, by `threads` threads of which
// this one is `thread`; every other reader and writer is behind a barrier.
template <class T, int ROWS, int K, class F>
LATHE_DEVICE void order_for_codes(SharedTile<T, ROWS, K> tile, int rows, int thread, int threads, F&& f) {
#pragma unroll 1
  for (int i = thread; i < rows * (K / 16); i += threads) {
    const int row = i / (K / 16), step = i % (K / 16);
    const u32 at[2] = {tile.chunk_offset(row, 2 * step), tile.chunk_offset(row, 2 * step + 1)};
    float x[16];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Vec16 v = shared_load_vec16(at[half]);
#pragma unroll
      for (int c = 0; c < 8; ++c) x[8 * half + c] = unpack<T>(v.word[c / 2], c % 2);
    }
    f(row, 16 * step, x);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Vec16 v;
#pragma unroll
      for (int t = 0; t < 4; ++t) v.word[t] = pack2<T>(x[4 * t + half], x[4 * t + half + 2]);
      shared_store_vec16(at[half], v);
    }
  }
}

// Column of element `c` of word `word` of 16 columns that order_for_codes has put in order.
LATHE_DEVICE constexpr int column_for_codes(int word, int c) {
  return word % 4 * 4 + word / 4 + 2 * c;
}

// acc[16, N] += A[row_a .. row_a + 16, :] * B[row_b .. row_b + N, :]^T, both from shared memory with K along the rows, A as
// order_for_codes leaves it.
template <class T, class E, int N, int ROWS_A, int ROWS_B, int K>
LATHE_DEVICE void gemm_nt_issue(Accumulator<N>& acc, SharedTile<T, ROWS_A, K> a, int row_a, SharedTile<E, ROWS_B, K> b, int row_b) {
  static_assert(sizeof(E) == 1, "8-bit codes");
  constexpr int kPairs = K / 32, kPairsOfPanel = 4;  // a pair is 32 columns, two chunks of codes
  const int lane = static_cast<int>(lane_index());
  const TileRow<SharedTile<T, ROWS_A, K>> a_row(a, row_a + lane % 16, lane / 16);
  const auto products = [&](const TileRow<SharedTile<E, ROWS_B, K>>& b_row, int pair, int steps) {
    u32 af[2][4];
#pragma unroll
    for (int s = 0; s < steps; ++s) load_matrix_x4(af[s], a_row.chunk(2 * pair + s, 0));
#pragma unroll
    for (int n = 0; n < N / 16; ++n) {
      u32 bf[4];  // codes of rows 0-7, 16 columns and the next 16; then of rows 8-15
      load_matrix_x4(bf, b_row.chunk(pair, 16 * n));
#pragma unroll
      for (int s = 0; s < steps; ++s) {
        mma_m16n8k16<T>(acc.v[2 * n], af[s], widen<T, E, 0>(bf[s]), widen<T, E, 1>(bf[s]));
        mma_m16n8k16<T>(acc.v[2 * n + 1], af[s], widen<T, E, 0>(bf[s + 2]), widen<T, E, 1>(bf[s + 2]));
      }
    }
  };
  const int row = row_b + lane % 8 + lane / 16 * 8;
  const TileRow<SharedTile<E, ROWS_B, K>> b_row(b, row, lane / 8 % 2);
  // Rolled: widening makes long code.
#pragma unroll 1
  for (int panel = 0; panel < kPairs / kPairsOfPanel; ++panel) {
#pragma unroll
    for (int i = 0; i < kPairsOfPanel; ++i) products(b_row, kPairsOfPanel * panel + i, 2);
  }
#pragma unroll
  for (int pair = kPairs / kPairsOfPanel * kPairsOfPanel; pair < kPairs; ++pair) products(b_row, pair, 2);
  // The last of an odd number of chunks has no neighbour: both halves look at it.
  if constexpr (K % 32 != 0) products({b, row, 0}, kPairs, 1);
}

// acc[16, N] += A * B[row_b .. row_b + K, :], A in registers, B from shared memory with N along the rows. A transposing ldmatrix
// takes codes two by two: a lane gets columns 2 c and 2 c + 1 of two rows, and the even columns of 16 make one product, the odd
// ones the other.
template <class T, class E, int N, int K, int ROWS_B>
LATHE_DEVICE void gemm_nn_issue(Accumulator<N, Columns::quads>& acc, const Operand<T, K>& a, SharedTile<E, ROWS_B, N> b,
                                int row_b) {
  static_assert(sizeof(E) == 1, "8-bit codes");
  const int lane = static_cast<int>(lane_index());
  const auto products = [&](const TileRow<SharedTile<E, ROWS_B, N>>& b_row, int k, int pair, int chunks) {
    u32 bf[4];  // rows 0-7 and 8-15 of 16 columns, then of the next 16
    load_matrix_x4_transposed(bf, b_row.chunk(pair, 16 * k));
#pragma unroll
    for (int c = 0; c < chunks; ++c) {
      const int n = 2 * (2 * pair + c);
      mma_m16n8k16<T>(acc.v[n], a.v[k], widen<T, E, 0>(bf[2 * c]), widen<T, E, 0>(bf[2 * c + 1]));
      mma_m16n8k16<T>(acc.v[n + 1], a.v[k], widen<T, E, 1>(bf[2 * c]), widen<T, E, 1>(bf[2 * c + 1]));
    }
  };
  const TileRow<SharedTile<E, ROWS_B, N>> b_row(b, row_b + lane % 16, lane / 16);
#pragma unroll
  for (int k = 0; k < K / 16; ++k) {
#pragma unroll
    for (int pair = 0; pair < N / 32; ++pair) products(b_row, k, pair, 2);
    if constexpr (N % 32 != 0) products({b, row_b + lane % 16, 0}, k, N / 32, 1);
  }
}

}  // namespace dev
#line 1 "templates/kernels/attention/problem.cuh"
// What one work item is about: where its rows and keys lie, and which keys each row may see.




namespace attention {

using config::Element;
using dev::i64;
using dev::u32;

// The plan in device memory, written by the planner (csrc/plan) before the launch, as one replica of its lists sees it. The header
// and what follows from it are found anew by each function that needs them: they would otherwise take registers from the main loop.
struct Plan {
  using Header = abi::AttentionPlanHeader;
  using Field = dev::IntMember<Header>;
  const void* base;
  int list, replica;  // of this block; past the last replica there is nothing to do

  LATHE_DEVICE explicit Plan(const abi::AttentionParams& params) : base(params.plan) {
    const int block = static_cast<int>(dev::block_index()), num_lists = header(&Header::num_lists);
    replica = block / num_lists;
    list = block - replica * num_lists;
  }

  LATHE_DEVICE int header(Field field) const { return dev::load_member<Header>(base, field); }
  LATHE_DEVICE int item_begin() const { return at<int>(&Header::item_indptr_offset, list); }
  LATHE_DEVICE int item_end() const { return at<int>(&Header::item_indptr_offset, list + 1); }
  LATHE_DEVICE abi::AttentionWorkItem item(int i) const {
    abi::AttentionWorkItem item = at<abi::AttentionWorkItem>(&Header::items_offset, i);
    item.head += replica * header(&Header::replica_heads);
    if (item.partial_row >= 0) item.partial_row += replica * header(&Header::replica_partial_rows);
    return item;
  }
  // Parts of an item, for those who need no more: the whole of it is more code, and a longer compile.
  struct ItemKind {
    short num_heads;
    signed char tile_class, level;
  };
  LATHE_DEVICE ItemKind item_kind(int i) const {
    constexpr int kOffset = sizeof(abi::AttentionWorkItem) - sizeof(ItemKind);
    static_assert(kOffset == 7 * sizeof(int), "an item is seven ints and its kind");
    return dev::GlobalList<ItemKind>{dev::at(item_address(i), kOffset)}.load(0);
  }
  LATHE_DEVICE bool item_is_partial(int i) const {
    return dev::load_member<abi::AttentionWorkItem>(item_address(i), &abi::AttentionWorkItem::partial_row) >= 0;
  }
  LATHE_DEVICE abi::AttentionRequest request(int i) const { return at<abi::AttentionRequest>(&Header::requests_offset, i); }
  LATHE_DEVICE abi::AttentionMergeGroup group(int i) const {
    const Pair group = pair(&Header::groups_offset, i);
    return {group.first + replica * header(&Header::replica_partial_rows), group.second};
  }
  LATHE_DEVICE int counter_index(int group) const { return replica * header(&Header::num_groups) + group; }

  // Which linked tile merge group `group` is of; num_linked or more where it is of none.
  LATHE_DEVICE int linked_index(int group) const { return group / header(&Header::replica_heads); }
  LATHE_DEVICE abi::AttentionLinkedTile linked_tile(int i) const { return at<abi::AttentionLinkedTile>(&Header::linked_offset, i); }
  // The merge group of linked tile `i` for `head` of the replica.
  LATHE_DEVICE int linked_group(int i, int head) const { return i * header(&Header::replica_heads) + head; }
  LATHE_DEVICE abi::AttentionLink link(int i) const {
    const Pair link = pair(&Header::links_offset, i);
    return {link.first, link.second};
  }
  // Runs of the keys that a row block's tiles may see, where a mask of hooks leaves others out.
  LATHE_DEVICE int first_block(int request, int head) const {
    const int i = hooks::kMaskDiffersByHead ? request * header(&Header::replica_heads) + head : request;
    return at<int>(&Header::first_blocks_offset, i);
  }
  LATHE_DEVICE int first_run(int block) const { return at<int>(&Header::run_indptr_offset, block); }
  LATHE_DEVICE abi::AttentionKeyRun run(int i) const { return at<abi::AttentionKeyRun>(&Header::runs_offset, i); }
  LATHE_DEVICE abi::AttentionSharedRow shared_row(int i) const {
    const Pair row = pair(&Header::shared_rows_offset, i);
    return {row.first, row.second};
  }

 private:
  LATHE_DEVICE const void* item_address(int i) const {
    return dev::at(base, header(&Header::items_offset) + static_cast<i64>(i) * static_cast<i64>(sizeof(abi::AttentionWorkItem)));
  }
  struct Pair {
    int first, second;
  };
  LATHE_DEVICE Pair pair(Field offset, int i) const {
    const dev::GlobalList<int> list{dev::at(base, header(offset) + static_cast<i64>(i) * 8)};
    return {list.load(0), list.load(1)};
  }
  template <class T>
  LATHE_DEVICE T at(Field offset, int i) const {
    return dev::GlobalList<T>{dev::at(base, header(offset))}.load(i);
  }
};

// Packed row `row`, counted over the whole batch, of `item_head` (kv head when packed, else qo head) as the caller knows it.
struct QueryRow {
  static constexpr int kHeadsPerRow = config::kPacked ? config::kGroupSize : 1;  // qo heads that share the rows of a tile
  int token;                                                                     // in q, o and lse
  int head;                                                                      // qo head

  LATHE_DEVICE QueryRow(int row, int item_head) : token(row / kHeadsPerRow), head(item_head * kHeadsPerRow + row % kHeadsPerRow) {}
};

// An item with its request.
struct Problem {
  abi::AttentionWorkItem item;
  abi::AttentionRequest request;

  static constexpr int kHeadsPerRow = QueryRow::kHeadsPerRow;

  // Head `n` of item `i`. Like the plan, read anew by each function that needs it.
  LATHE_DEVICE static Problem read(const Plan& plan, int i, int n) {
    Problem problem;
    problem.item = plan.item(i);
    problem.item.head += n;
    problem.request = plan.request(problem.item.request);
    return problem;
  }

  // Rows of the item's tile that exist, of the `tile_rows` of its class.
  LATHE_DEVICE int num_rows(int tile_rows) const {
    const int left = (item.level == 0 ? request.qo_len * kHeadsPerRow : request.qo_len) - item.row_begin;
    return left < tile_rows ? left : tile_rows;
  }
  // Row `row` of the tile, of those that exist, as a packed row of the batch.
  LATHE_DEVICE int batch_row(const Plan& plan, int row) const {
    if (item.level == 0) return request.qo_begin * kHeadsPerRow + item.row_begin + row;
    return plan.shared_row(request.qo_begin + row).row;
  }
  // What hooks see of a row of the tile, of those that exist, and of a key of the request.
  LATHE_DEVICE hooks::TileInputs hook_tile() const {
    return {item.request, request.qo_len, request.kv_len, config::kGroupSize, item.level};
  }
  LATHE_DEVICE hooks::RowInputs hook_row(int row) const {
    const QueryRow at(item.row_begin + row, item.head);
    return {at.head, at.head / config::kGroupSize, at.token, request.qo_begin + at.token};
  }
  // Where a key of the request lies.
  LATHE_DEVICE kv::Place place_of(const abi::AttentionParams& params, int key) const {
    if constexpr (config::kPaged) {
      const u32 at = static_cast<u32>(key);  // not negative, which spares the corrections of signed division
      const int page = dev::GlobalList<int>{params.kv_indices}.load(static_cast<i64>(request.kv_begin) + at / config::kPageSize);
      return {page, static_cast<int>(at % config::kPageSize)};
    } else {
      return {0, request.kv_begin + key};
    }
  }
  LATHE_DEVICE hooks::ColumnInputs hook_column(const abi::AttentionParams& params, int key) const {
    const kv::Place at = place_of(params, key);
    return {key, at.page * config::kPageSize + at.index};
  }

  LATHE_DEVICE int kv_head() const { return config::kPacked ? item.head : item.head / config::kGroupSize; }

  // Row `row` of the tile sees exactly the keys [first_key, end_key) of the item, of those that a mask of hooks shows it. Both rise
  // with the row.
  LATHE_DEVICE int q_position(int row) const { return (item.row_begin + row) / kHeadsPerRow + request.kv_len - request.qo_len; }
  LATHE_DEVICE int first_key(int row, int window) const {
    if constexpr (hooks::kMask) return 0;
    if constexpr (!config::kWindow) return item.kv_begin;
    // In 64 bits: a window as wide as the integers is how callers say "no window".
    const i64 first = static_cast<i64>(q_position(row)) - window + 1;
    return first > item.kv_begin ? static_cast<int>(first) : item.kv_begin;
  }
  LATHE_DEVICE int end_key(int row) const {
    if constexpr (hooks::kMask) return request.kv_len;
    if constexpr (!config::kCausal) return item.kv_end;
    const int end = q_position(row) + 1;
    return end < item.kv_end ? end : item.kv_end;
  }
};

// Keys of an item's tiles. With a mask of hooks an item's kv_begin and kv_end are places in the line of keys that its rows may see
// (abi::AttentionKeyRun), else keys. Looked up from front to back.
class KeyLine {
 public:
  LATHE_DEVICE KeyLine(const abi::AttentionParams& params, const Problem& problem, int tile_rows) {
    if constexpr (hooks::kMask) {
      const Plan plan(params);
      const int block = plan.first_block(problem.item.request, problem.item.head) + problem.item.row_begin / tile_rows;
      last_ = plan.first_run(block + 1) - 1;
      // The last run that begins at or before the item.
      int low = plan.first_run(block), high = last_;
      while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (plan.run(middle).begin <= problem.item.kv_begin) {
          low = middle;
        } else {
          high = middle - 1;
        }
      }
      enter(plan, low);
    }
  }

  // First key of the tile at `place`, which is not before the last one asked for.
  LATHE_DEVICE int key(const abi::AttentionParams& params, int place) {
    if constexpr (hooks::kMask) {
      while (place >= end_) enter(Plan(params), index_ + 1);
    }
    return place + shift_;
  }
  // Whether every row sees every key of that tile, as far as the mask of hooks goes.
  LATHE_DEVICE bool full() const { return full_; }

 private:
  LATHE_DEVICE void enter(const Plan& plan, int index) {
    index_ = index;
    end_ = 0x7fffffff;
    if (index > last_) return;  // an item without a key
    const abi::AttentionKeyRun run = plan.run(index);
    shift_ = run.kv_begin - run.begin;
    full_ = run.full != 0;
    if (index < last_) end_ = plan.run(index + 1).begin;
  }

  int index_ = 0, last_ = 0, end_ = 0, shift_ = 0;
  bool full_ = !hooks::kMask;
};

}  // namespace attention
#line 1 "templates/kernels/attention/query_sums.cuh"
// Sums over the elements of queries, each by the warp that multiplies them.


#line 1 "templates/kernels/attention/control.cuh"
// The control block at the start of shared memory, in front of the tiles.




namespace attention {

using dev::u32;

struct Control {
  static constexpr int kRows = config::kWarps * dev::kFragmentRows;  // fp32 rows of all warps; no tile has more
  dev::SharedFloats max{0};                                          // [kRows], raw score units
  dev::SharedFloats sum{kRows * 4};                                  // [kRows], relative to its own maximum
  dev::SharedFloats debt{kRows * 8};                                 // [kRows], likewise (kernels/attention/kv_formats.cuh)
  // Of a row's query, in the main loop (kernels/attention/query_sums.cuh): its state takes their place at the end.
  dev::SharedFloats query_sum{0}, query_norm{kRows * 4};  // [kRows]
  static_assert(kRows * 12 + 4 <= config::kEpilogueOffset, "the control block ends where the tiles begin");

  // Whether the block arrived last at the leaf of a link; -1: at its own merge group. Takes the place of the debts, which are
  // settled.
  LATHE_DEVICE u32 completes(int link) const { return kRows * 8 + 4 + static_cast<u32>(link) * 4; }
};

}  // namespace attention
#line 6 "templates/kernels/attention/query_sums.cuh"

namespace attention {

// For each of the warp's rows, the first of which is row `row_begin` of the tile: adds up its elements x by
// sum = add(sum, x, step, word, c), where x is element c of word `word` of the row's 16 columns from 16 * step on.
template <class TILE, class F>
LATHE_DEVICE void add_up_queries(dev::Row<float>& sums, TILE tile, int row_begin, F&& add) {
  constexpr int kLanes = 4;  // that share a row
  dev::for_each_row(
      [&](int row, float& sum) {
        sum = 0.0f;
#pragma unroll 1
        for (int step = static_cast<int>(dev::lane_index()) % kLanes; step < TILE::kCols / 16; step += kLanes) {
#pragma unroll 1
          for (int word = 0; word < 8; ++word) {
            const u32 x = dev::shared_load_u32(tile.chunk_offset(row_begin + row, 2 * step + word / 4) + word % 4 * 4);
#pragma unroll
            for (int c = 0; c < 2; ++c) sum = add(sum, dev::unpack<Element>(x, c), step, word, c);
          }
        }
      },
      sums);
  dev::row_add_lanes(sums);
}

// What the hook logits sees of the warp's queries, as the hook query leaves them: kept in shared memory, each warp's own, as the
// registers are the products'. The tile may change after the next barrier.
template <class TILE>
LATHE_DEVICE void keep_query_sums(TILE tile, int row_begin) {
  const Control control;
  const int slot = static_cast<int>(dev::warp_index()) * dev::kFragmentRows;
  dev::Row<float> sums;
  if constexpr (hooks::kQuerySum) {
    add_up_queries(sums, tile, row_begin, [](float sum, float x, int, int, int) { return sum + x; });
    dev::for_each_row(
        [&](int row, float& x) {
          if (dev::leads_row()) control.query_sum.store(slot + row, x);
        },
        sums);
  }
  if constexpr (hooks::kQueryNorm) {
    add_up_queries(sums, tile, row_begin, [](float sum, float x, int, int, int) { return dev::fma(x, x, sum); });
    dev::for_each_row(
        [&](int row, float& x) {
          if (dev::leads_row()) control.query_norm.store(slot + row, hooks::query_norm(x));
        },
        sums);
  }
  dev::warp_sync();
}

// Adds them to what hooks see of the warp's row `row`.
LATHE_DEVICE void add_query_sums([[maybe_unused]] hooks::RowInputs& in, [[maybe_unused]] int row) {
  [[maybe_unused]] const int at = static_cast<int>(dev::warp_index()) * dev::kFragmentRows + row;
  if constexpr (hooks::kQuerySum) in.qsum = Control().query_sum.load(at);
  if constexpr (hooks::kQueryNorm) in.qnorm = Control().query_norm.load(at);
}

}  // namespace attention
#line 17 "templates/kernels/attention/kv_formats.cuh"

namespace attention {

using kv::ZeroPoint;

// What the products read: keys, or values, as they lie in memory, or elements where a hook has changed them.
template <class STORED, bool CHANGED>
struct InProducts {
  using Format = STORED;
};
template <class STORED>
struct InProducts<STORED, true> {
  using Format = kv::Format<Element, false, false, ZeroPoint::none>;
};
using KeyFormat = InProducts<config::KeyFormat, hooks::kKey>::Format;
using ValueFormat = InProducts<config::ValueFormat, hooks::kValue>::Format;

template <class FORMAT>
constexpr bool kCodes = sizeof(typename FORMAT::Element) == 1;
template <class FORMAT>
constexpr bool kHasZero = FORMAT::kZero != ZeroPoint::none;

// Columns of the output as the values' format leaves them.
constexpr dev::Columns kOutputColumns = kCodes<ValueFormat> ? dev::Columns::quads : dev::Columns::pairs;

// A power of two near a code's largest value: weights times scales times this are about as large as the values themselves, so that
// they keep their digits in an element. Codes of e5m2 have f16's range and often no scale at all.
template <class E>
constexpr float kCodeUnit = dev::kSame<E, dev::e4m3> ? 256.0f
                            : dev::kSame<E, dev::i8> ? 128.0f
                                                     : 1.0f;

// What a score is multiplied with: sm_scale, and the scale of all keys.
LATHE_DEVICE float score_scale(const abi::AttentionParams& params) {
  return kCodes<KeyFormat> ? params.sm_scale * params.k_scales.scale : params.sm_scale;
}

// Scales and zero-points of N tokens, spread over the lanes of a warp; 1 where the format has none. Read well before they are used.
template <class FORMAT, int N>
class TokenScales {
 public:
  LATHE_DEVICE TokenScales(const abi::AttentionParams& params, const abi::KvScales& scales, const Problem& problem, int first_key) {
    if constexpr (!kHasScale && !kHasZeroPoint) return;
    // Keys past the item's last one are seen as that one: what they come to is never used, but must be a number.
    const int last = (hooks::kMask ? problem.request.kv_len : problem.item.kv_end) - 1;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int key = first_key + dev::kWarpSize * i + static_cast<int>(dev::lane_index());
      const kv::Place at = problem.place_of(params, key < last ? key : last);
      if constexpr (kHasScale) scale_[i] = kv::Table{scales.token_scale, problem.kv_head()}.of_token(at);
      if constexpr (kHasZeroPoint) zero_[i] = kv::Table{scales.zero, problem.kv_head()}.of_token(at);
    }
  }

  struct Values {
    float scale = 1.0f, zero = 1.0f;
  };
  // By all lanes, each for a column of its own within the same 8.
  LATHE_DEVICE Values operator()(int column) const {
    Values out;
    if constexpr (kHasScale) out.scale = of_lane(scale_[column / dev::kWarpSize], column);
    if constexpr (kHasZeroPoint) out.zero = of_lane(zero_[column / dev::kWarpSize], column);
    return out;
  }

 private:
  static constexpr bool kHasScale = FORMAT::kTokenScale, kHasZeroPoint = FORMAT::kZero == ZeroPoint::token;
  static constexpr int kEach = (N + dev::kWarpSize - 1) / dev::kWarpSize;
  LATHE_DEVICE static float of_lane(float x, int column) {
    return dev::float_from_bits(dev::shuffle(dev::float_bits(x), static_cast<u32>(column) % dev::kWarpSize));
  }

  float scale_[kEach], zero_[kEach];
};

// Multiplies queries by their channels' scales and puts them in the order that codes of keys ask for. By the whole block.
template <class TILE>
LATHE_DEVICE void fold_query_scales(TILE tile, const abi::AttentionParams& params, const Problem& problem) {
  const kv::Table scale{params.k_scales.channel_scale, problem.kv_head()};
  dev::order_for_codes(tile, problem.num_rows(TILE::kRows), static_cast<int>(dev::thread_index()), config::kWarps * dev::kWarpSize,
                       [&](int, int column, float(&x)[16]) {
                         if constexpr (KeyFormat::kChannelScale) {
#pragma unroll
                           for (int d = 0; d < 16; ++d) x[d] *= scale.of_channel(column + d);
                         }
                       });
}

// What a warp's rows owe to the keys' zero-points: sum_d q'_d, or with zero-points of channels sum_d q'_d z_d. Of queries that
// fold_query_scales has dealt with.
template <class TILE>
LATHE_DEVICE void sum_queries(dev::Row<float>& sums, TILE tile, int row_begin, const abi::AttentionParams& params,
                              const Problem& problem) {
  const kv::Table zero{params.k_scales.zero, problem.kv_head()};
  add_up_queries(sums, tile, row_begin, [&](float sum, float x, int step, int word, int c) {
    float z = 1.0f;
    if constexpr (KeyFormat::kZero == ZeroPoint::channel) z = zero.of_channel(16 * step + dev::column_for_codes(word, c));
    return dev::fma(x, z, sum);
  });
}

// Makes scores of the products with codes, but for score_scale.
template <int N>
LATHE_DEVICE void apply_key_scales(dev::Accumulator<N>& scores, dev::Row<float>& query_sums,
                                   const TokenScales<KeyFormat, N>& tokens) {
  if constexpr (!KeyFormat::kTokenScale && !kHasZero<KeyFormat>) return;
  dev::for_each_by_column(
      scores, tokens,
      [&](float& s, const auto& column, float query_sum) {
        if constexpr (kHasZero<KeyFormat>) s = dev::fma(-query_sum, column.zero, s);
        if constexpr (KeyFormat::kTokenScale) s *= column.scale;
      },
      query_sums);
}

// What the rows' outputs owe to the values' zero-points so far: sum_j w'_j z_j, or with zero-points of channels sum_j w'_j, of this
// lane's columns only until finish().
struct ValueDebt {
  dev::Row<float> owed;

  LATHE_DEVICE ValueDebt() {
    dev::for_each_row([](int, float& x) { x = 0.0f; }, owed);
  }
  LATHE_DEVICE void shrink(dev::Row<float>& factor) {
    if constexpr (!kHasZero<ValueFormat>) return;
    dev::for_each_row([](int, float& x, float f) { x *= f; }, owed, factor);
  }

  // Makes w' of weights, and adds what they owe.
  template <int N>
  LATHE_DEVICE void apply_scales(dev::Accumulator<N>& weights, const TokenScales<ValueFormat, N>& tokens) {
    if constexpr (!ValueFormat::kTokenScale && !kHasZero<ValueFormat>) return;
    dev::for_each_by_column(
        weights, tokens,
        [&](float& w, const auto& column, float& debt) {
          if constexpr (ValueFormat::kTokenScale) w *= column.scale * kCodeUnit<ValueFormat::Element>;
          if constexpr (kHasZero<ValueFormat>) {
            w = dev::unpack<Element>(dev::pack2<Element>(w, 0.0f), 0);  // as the product will have it
            debt = dev::fma(w, column.zero, debt);
          }
        },
        owed);
  }

  LATHE_DEVICE void finish() {
    if constexpr (kHasZero<ValueFormat>) dev::row_add_lanes(owed);
  }
};

// Makes output of 8 columns of a row's products with codes, the first of which is `channel`.
LATHE_DEVICE void apply_value_scales(float (&x)[8], float debt, int channel, const abi::AttentionParams& params, int kv_head) {
  if constexpr (!kCodes<ValueFormat>) return;
  constexpr float kUnit = ValueFormat::kTokenScale ? 1.0f / kCodeUnit<ValueFormat::Element> : 1.0f;
  const kv::Table scale{params.v_scales.channel_scale, kv_head}, zero{params.v_scales.zero, kv_head};
#pragma unroll
  for (int c = 0; c < 8; ++c) {
    if constexpr (kHasZero<ValueFormat>)
      x[c] = dev::fma(-debt, ValueFormat::kZero == ZeroPoint::channel ? zero.of_channel(channel + c) : 1.0f, x[c]);
    x[c] *= params.v_scales.scale * kUnit;
    if constexpr (ValueFormat::kChannelScale) x[c] *= scale.of_channel(channel + c);
  }
}

}  // namespace attention
#line 1 "templates/kernels/attention/merge_parts.cuh"
// Where the parts of a tile come together, and where a request's own keys meet those that it shares: whoever arrives last at a
// merge group merges its states and writes the final rows.


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
#line 9 "templates/kernels/attention/merge_parts.cuh"

namespace attention {

// Writes 8 columns of one final row, and its lse with the first of them.
LATHE_DEVICE void write_output(const abi::AttentionParams& params, const QueryRow& at, int chunk, float (&o)[8], float lse) {
  hooks::ElementInputs in{};
  in.row.h = at.head, in.row.tok = at.token;
  hooks::finish_row(params.hooks, in, chunk, o, lse);
  dev::global_store8<config::OutElement>(
      dev::at(params.o, at.token * params.o_stride_token + at.head * params.o_stride_head + chunk * 16), o);
  if constexpr (config::kWriteLse) {
    if (chunk == 0) {
      if constexpr (hooks::kLseTransform) {
        if (lse != -dev::kInfinity) lse = hooks::lse_transform(params.hooks, in, lse * dev::kLn2) * dev::kLog2E;
      }
      const dev::GlobalFloats out{static_cast<float*>(dev::at(params.lse, at.token * params.lse_stride_token))};
      out.store(at.head, config::kLseLog2 ? lse : lse * dev::kLn2);
    }
  }
}

// Calls f(row, chunk) for rows [0, num_rows) of a tile and every 8 columns of them, spread over the block.
template <class F>
LATHE_DEVICE void for_each_chunk(int num_rows, F&& f) {
  constexpr int kChunks = config::kHeadDimVo / 8;
  constexpr int kThreads = config::kWarps * dev::kWarpSize;
  // Rolled, like every loop outside the main one: it runs once per item, and unrolling it would cost a quarter of the compile time.
#pragma unroll 1
  for (int i = static_cast<int>(dev::thread_index()); i < num_rows * kChunks; i += kThreads) f(i / kChunks, i % kChunks);
}

// Arrives at a merge group that waits for `expected` arrivals; true for the last. By one thread: the barriers around it carry the
// other threads' writes and reads (PTX ISA, "Memory Consistency Model", causality order).
LATHE_DEVICE bool arrives_last(const abi::AttentionParams& params, const Plan& plan, int group, int expected) {
  const dev::Counter counter{params.merge_counters, plan.counter_index(group)};
  if (counter.add_acq_rel(1) != static_cast<u32>(expected) - 1) return false;
  counter.store_relaxed(0);  // for the next launch
  return true;
}

// The final row that a row of the item's tile belongs to: of the tile itself or, where that is shared, of one of its leaves.
struct MergedRow {
  int group;  // merge group of the tile ...
  int row;    // ... and row of that tile
  abi::AttentionLinkedTile tile;

  // Calls f(partial row) for each of its states: its tile's own parts, then those of its shared tiles.
  template <class F>
  LATHE_DEVICE void for_each_state(const Plan& plan, int head, F&& f) const {
#pragma unroll 1
    for (int l = -1; l < tile.num_links; ++l) {
      int of_group = group, at = row, num_rows = tile.num_rows;
      if (l >= 0) {
        const abi::AttentionLink link = plan.link(tile.first_link + l);
        of_group = plan.linked_group(link.tile, head);
        at += link.row;
        num_rows = plan.linked_tile(link.tile).num_rows;
      }
      const abi::AttentionMergeGroup parts = plan.group(of_group);
#pragma unroll 1
      for (int part = 0; part < parts.num_parts; ++part)
        f(static_cast<i64>(parts.first_row) + static_cast<i64>(part) * num_rows + at);
    }
  }
};

// Merges what item `item`'s partial state, written by all threads, completes: its own tile or, if that is shared and complete,
// those of its leaves that waited for it alone.
// Called, not inlined: most items do not come here, and the compiler is done sooner.
LATHE_DEVICE_CALL void merge_if_last(const abi::AttentionParams& params, int item) {
  constexpr int kThreads = config::kWarps * dev::kWarpSize;
  const Plan plan(params);
  const Problem problem = Problem::read(plan, item, 0);
  const Control control;
  const int group = problem.item.merge_group;
  const bool shared = problem.item.level != 0;
  const int num_rows = problem.num_rows(config::tile_rows(problem.item.tile_class));
  abi::AttentionLinkedTile tile{0, num_rows, 0, 0};
  const int index = plan.linked_index(group);
  if (index < plan.header(&Plan::Header::num_linked)) tile = plan.linked_tile(index);
  const int head = group - plan.linked_group(index, 0);  // of the replica, where the tile is linked
  dev::block_barrier();
  // At its own merge group, as link -1; then, of a shared tile that is complete, at those of its leaves.
  int end = 0;
#pragma unroll 1
  for (int begin = -1;; begin = 0) {
#pragma unroll 1
    for (int l = begin + static_cast<int>(dev::thread_index()); l < end; l += kThreads) {
      int at = group, links = shared ? 0 : tile.num_links;
      if (l >= 0) {
        const int leaf = plan.link(tile.first_link + l).tile;
        at = plan.linked_group(leaf, head);
        links = plan.linked_tile(leaf).num_links;
      }
      const bool last = arrives_last(params, plan, at, plan.group(at).num_parts + links);
      dev::shared_store_u32(control.completes(l), last ? 1 : 0);
    }
    dev::block_barrier();
    if (dev::shared_load_u32(control.completes(-1)) == 0) return;
    if (!shared || begin == 0) break;
    end = tile.num_links;
  }

  const dev::GlobalFloats partial_o{params.partial_o};
  const dev::GlobalFloats partial_lse{params.partial_lse};
  for_each_chunk(num_rows, [&](int row, int chunk) {
    MergedRow merged{group, row, tile};
    int batch_row = 0;
    if (shared) {
      const abi::AttentionSharedRow from = plan.shared_row(problem.request.qo_begin + row);
      if (dev::shared_load_u32(control.completes(from.link)) == 0) return;
      const abi::AttentionLink link = plan.link(tile.first_link + from.link);
      merged.group = plan.linked_group(link.tile, head);
      merged.row = row - link.row;
      merged.tile = plan.linked_tile(link.tile);
      batch_row = from.row;
    } else {
      batch_row = problem.batch_row(plan, row);
    }
    float o[8];
    const auto states = [&](auto&& f) { merged.for_each_state(plan, head, f); };
    const auto values = [&](i64 state, float(&x)[8]) { dev::load8(partial_o, state * config::kHeadDimVo + chunk * 8, x); };
    float lse = 0.0f;
    if constexpr (hooks::kNormalizes) {
      lse = merge::merge_states(
          states, [&](i64 state) { return partial_lse.load(state); }, values, o);
    } else {
      merge::add_states(states, values, o);
    }
    write_output(params, QueryRow(batch_row, problem.item.head), chunk, o, lse);
  });
}

}  // namespace attention
#line 1 "templates/kernels/attention/softmax.cuh"
// Online softmax over tiles of scores (Milakov and Gimelshein, arXiv 1805.02867), in base 2.
//
// The running maximum m stays in raw score units; weights are 2^(scale * (s - m)) with scale = sm_scale * log2(e), one fma and one
// ex2 each.





namespace attention {

// Factor that turns raw scores into base-2 exponents. With a soft-cap or a hook the scores already carry their scale.
LATHE_DEVICE float exponent_scale(const abi::AttentionParams& params) {
  return config::kSoftCap || hooks::kLogits ? dev::kLog2E : score_scale(params) * dev::kLog2E;
}

// cap * tanh(x / cap), by tanh(y) = 1 - 2 / (1 + e^(2 y)).
LATHE_DEVICE float soft_cap(float x, float inverse_cap, float cap) {
  const float e = dev::ex2(2.0f * dev::kLog2E * inverse_cap * x);
  return dev::fma(-2.0f * cap, dev::rcp(1.0f + e), cap);
}

// What hooks know of the warp's 16 rows, the first of which is row `row_begin` of the tile, and of the N keys from `first_key` on.
// Rows that do not exist are seen as the last one that does, and keys as the request's last: what they come to is never used.
// Each lane looks up the pages of a few keys, which the others get from it: a look-up for each column would take the registers that
// the products need.
template <int N>
struct HookView {
  static constexpr int kEach = config::kPaged ? (N + dev::kWarpSize - 1) / dev::kWarpSize : 0;  // of a lane

  const abi::AttentionParams& params;
  const Problem& problem;
  const int first_key;
  const hooks::Tile tile;
  dev::Row<hooks::Row> rows;
  int slots[kEach + 1];

  LATHE_DEVICE HookView(const abi::AttentionParams& par, const Problem& prob, int row_begin, int key)
      : params(par), problem(prob), first_key(key), tile(hooks::tile(par.hooks, prob.hook_tile())) {
    const int last = problem.num_rows(1 << 30) - 1;
    dev::for_each_row(
        [&](int row, hooks::Row& r) {
          hooks::RowInputs in = problem.hook_row(row_begin + row < last ? row_begin + row : last);
          add_query_sums(in, row);
          r = hooks::row(params.hooks, tile, in);
        },
        rows);
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      slots[i] = problem.hook_column(params, inside(first_key + dev::kWarpSize * i + static_cast<int>(dev::lane_index()))).slot;
  }
  // By all lanes, each for a column of its own within the same 8.
  LATHE_DEVICE hooks::Column column(int column) const {
    hooks::ColumnInputs in{inside(first_key + column), 0};
    if constexpr (config::kPaged) {
      const u32 lane = static_cast<u32>(column) % dev::kWarpSize;
      in.slot = static_cast<int>(dev::shuffle(static_cast<u32>(slots[column / dev::kWarpSize]), lane));
    } else {
      in.slot = problem.hook_column(params, in.kv).slot;
    }
    return hooks::column(params.hooks, tile, in);
  }

 private:
  LATHE_DEVICE int inside(int key) const {
    const int last = problem.request.kv_len - 1;
    return key < last ? key : last;
  }
};

// What a key that a row must not see has for a score.
constexpr float kMasked = hooks::kNormalizes ? -dev::kInfinity : 0.0f;

// The hooks logits and mask, the latter only where `judges`.
template <int N>
LATHE_DEVICE void apply_score_hooks(dev::Accumulator<N>& scores, const abi::AttentionParams& params, const Problem& problem,
                                    int row_begin, int first_key, bool judges) {
  if (!hooks::kLogits && !judges) return;
  HookView<N> view(params, problem, row_begin, first_key);
  if constexpr (hooks::kLogits) {
    dev::for_each_by_column(
        scores, [&](int column) { return view.column(column); },
        [&](float& s, const hooks::Column& column, const hooks::Row& row) {
          if constexpr (kCodes<KeyFormat>) s *= params.k_scales.scale;
          s = hooks::logit(params.hooks, view.tile, row, column, s, s * params.sm_scale);
        },
        view.rows);
  }
  if constexpr (hooks::kMask) {
    if (!judges) return;
    dev::for_each_by_column(
        scores, [&](int column) { return view.column(column); },
        [&](float& s, const hooks::Column& column, const hooks::Row& row) {
          s = hooks::visible(params.hooks, view.tile, row, column) ? s : kMasked;
        },
        view.rows);
  }
}

// The hook weight, on weights of the keys from `first_key` on.
template <int N>
LATHE_DEVICE void apply_weight_hook(dev::Accumulator<N>& weights, const abi::AttentionParams& params, const Problem& problem,
                                    int row_begin, int first_key) {
  HookView<N> view(params, problem, row_begin, first_key);
  dev::for_each_by_column(
      weights, [&](int column) { return view.column(column); },
      [&](float& w, const hooks::Column& column, const hooks::Row& row) {
        w = hooks::weight(params.hooks, view.tile, row, column, w);
      },
      view.rows);
}

// Scores of the keys [first_key, first_key + N) for the warp's 16 rows, the first of which is row `row_begin` of the tile: applies
// the soft-cap or the hooks, and gives keys that a row must not see the score -inf. Where `full`, the mask of hooks hides none.
template <int N>
LATHE_DEVICE void shape_scores(dev::Accumulator<N>& scores, const abi::AttentionParams& params, const Problem& problem,
                               int row_begin, int first_key, bool full) {
  if constexpr (config::kSoftCap) {
    const float inverse_cap = score_scale(params) / params.soft_cap;
    dev::for_each(scores, [&](float& s, int, int) { s = soft_cap(s, inverse_cap, params.soft_cap); });
  }
  apply_score_hooks(scores, params, problem, row_begin, first_key, !full);  // after the cap, which would give hidden keys a score
  const int last_row = row_begin + dev::kFragmentRows - 1;
  const bool all_visible = problem.first_key(last_row, params.window) <= first_key && first_key + N <= problem.end_key(row_begin);
  if (all_visible) return;
  dev::Row<int> first, end;
  dev::for_each_row(
      [&](int row, int& f, int& e) {
        f = problem.first_key(row_begin + row, params.window) - first_key;
        e = problem.end_key(row_begin + row) - first_key;
      },
      first, end);
  dev::for_each(
      scores,
      [](float& s, int, int column, int f, int e) {
        const bool begun = !config::kWindow || column >= f;  // else the item's first key is every row's
        s = begun && column < e ? s : kMasked;
      },
      first, end);
}

// Maximum and sum of a warp's rows so far.
struct Softmax {
  dev::Row<float> max;
  dev::Row<float> sum;  // of this lane's columns only, until finish()

  LATHE_DEVICE Softmax() {
    // Without a normalizer the sums stay relative to 2^0.
    dev::for_each_row([](int, float& m, float& l) { m = hooks::kNormalizes ? -dev::kInfinity : 0.0f, l = 0.0f; }, max, sum);
  }

  // Turns scores into weights relative to the new maximum and gives the factor by which earlier results shrink.
  template <int N>
  LATHE_DEVICE void update(dev::Accumulator<N>& scores, dev::Row<float>& shrink, float scale) {
    dev::Row<float> offset = max;  // becomes -scale * m, with 0 in place of m while no key was visible
    dev::row_max(max, scores);
    dev::for_each_row(
        [&](int, float& m, float& l, float& o, float& a) {
          const float base = m == -dev::kInfinity ? 0.0f : m;
          a = dev::ex2((o - base) * scale);
          o = -base * scale;
          l *= a;
        },
        max, sum, offset, shrink);
    dev::for_each(
        scores,
        [&](float& s, int, int, float o, float& l) {
          s = dev::ex2(dev::fma(s, scale, o));
          l += s;
        },
        offset, sum);
  }

  LATHE_DEVICE void finish() { dev::row_add_lanes(sum); }
};

}  // namespace attention
#line 9 "templates/kernels/attention/epilogue.cuh"

namespace attention {

// What the warps of a tile left in shared memory: rows of each group, behind each other.
constexpr int kStagingStride = config::kHeadDimVo + 8;
using Staging = dev::SharedRows<kStagingStride>;

// Merges the groups' rows of head `head` of item `index`, and writes the result.
// Called, not inlined: it is off the main loop, the same for every tile class, and the compiler is done sooner.
LATHE_DEVICE_CALL void write_rows(const abi::AttentionParams& params, int index, int head, int tile_rows, int groups) {
  const Control control;
  const Staging staging{config::kEpilogueOffset};
  const float scale = exponent_scale(params);
  const Plan plan(params);
  const Problem problem = Problem::read(plan, index, head);
  for_each_chunk(problem.num_rows(tile_rows), [&](int row, int chunk) {
    float top = -dev::kInfinity;
#pragma unroll 1
    for (int g = 0; g < groups; ++g) top = dev::max(top, control.max.load(g * tile_rows + row));
    float sum = 0.0f, owed = 0.0f;
    float x[8] = {};
#pragma unroll 1
    for (int g = 0; g < groups; ++g) {
      const int from = g * tile_rows + row;
      const float m = control.max.load(from);
      const float weight = m == -dev::kInfinity ? 0.0f : dev::ex2((m - top) * scale);
      sum += control.sum.load(from) * weight;
      if constexpr (kHasZero<ValueFormat>) owed += control.debt.load(from) * weight;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float part[4];
        staging.load4(from, chunk * 8 + half * 4, part);
#pragma unroll
        for (int c = 0; c < 4; ++c) x[half * 4 + c] += part[c] * weight;
      }
    }
    apply_value_scales(x, owed, chunk * 8, params, problem.kv_head());
    float lse = 0.0f;
    if constexpr (hooks::kNormalizes) {
      const bool empty = sum == 0.0f;  // no visible key
      const float inverse = empty ? 0.0f : dev::rcp(sum);
      lse = empty ? -dev::kInfinity : dev::fma(top, scale, dev::lg2(sum));
#pragma unroll
      for (int c = 0; c < 8; ++c) x[c] *= inverse;
    }
    if (problem.item.partial_row < 0) {
      write_output(params, QueryRow(problem.batch_row(plan, row), problem.item.head), chunk, x, lse);
    } else {
      const i64 at = static_cast<i64>(problem.item.partial_row) + row;
      dev::store8(dev::GlobalFloats{params.partial_o}, at * config::kHeadDimVo + chunk * 8, x);
      if (chunk == 0) dev::GlobalFloats{params.partial_lse}.store(at, lse);
    }
  });
}

// Finishes head `head` of item `index`. Every warp holds 16 rows of o (not normalised) and their softmax state; warps of different
// groups hold the same rows for different keys. `group` is this warp's group, `row_begin` its first row.
template <class C, int GROUPS>
LATHE_DEVICE void finish_item(dev::Accumulator<config::kHeadDimVo, kOutputColumns>& o, Softmax& softmax, ValueDebt& debt,
                              const abi::AttentionParams& params, int index, int head, int group, int row_begin) {
  const Control control;
  const Staging staging{config::kEpilogueOffset};
  const int slot = group * C::kRows + row_begin;  // this warp's first row in the control block and in the staging area

  softmax.finish();
  debt.finish();
  dev::block_barrier();  // also: no warp reads the tiles any more, and the staging area may take their place
  dev::for_each_row(
      [&](int row, float& m, float& l, float owed) {
        if (!dev::leads_row()) return;
        control.max.store(slot + row, m);
        control.sum.store(slot + row, l);
        if constexpr (kHasZero<ValueFormat>) control.debt.store(slot + row, owed);
      },
      softmax.max, softmax.sum, debt.owed);
  dev::for_each_pair(o, [&](float& x, float& y, int row, int column) { staging.store2(slot + row, column, x, y); });
  dev::block_barrier();

  write_rows(params, index, head, C::kRows, GROUPS);
}

}  // namespace attention
#line 1 "templates/kernels/attention/loader.cuh"
// Moves queries, keys and values from global to shared memory, 16 bytes at a time. Rows that do not exist are written as zeros: a
// zero value times a zero weight is zero, while whatever an unused slot holds might be a NaN.




namespace attention {

// The tile of queries, loaded by the whole block.
template <int ROWS>
LATHE_DEVICE void load_queries(dev::SharedTile<Element, ROWS, config::kHeadDimQk> tile, const abi::AttentionParams& params,
                               const Problem& problem) {
  const Plan plan(params);
  constexpr int kThreads = config::kWarps * dev::kWarpSize;
  const int num_rows = problem.num_rows(ROWS);
#pragma unroll 1
  for (int i = static_cast<int>(dev::thread_index()); i < ROWS * tile.kChunks; i += kThreads) {
    const int row = i / tile.kChunks;
    const int chunk = i % tile.kChunks;
    const bool exists = row < num_rows;
    const QueryRow at(exists ? problem.batch_row(plan, row) : 0, problem.item.head);
    const i64 offset = at.token * params.q_stride_token + at.head * params.q_stride_head + chunk * 16;
    dev::copy_async_16(tile.chunk_offset(row, chunk), dev::at(params.q, offset), exists);
  }
}

// Loads one group's KEYS rows of the key and value tiles, tile after tile. Eight threads share a row; each thread keeps the page
// ids of its rows one tile ahead, so that no copy waits for the page list.
template <class GROUP, int KEYS>
class KvLoader {
 public:
  // Tile t begins at place first + t * tile_keys of the item's keys; the group's rows of it are [group_keys, group_keys + KEYS).
  LATHE_DEVICE KvLoader(const abi::AttentionParams& params, const Problem& problem, GROUP group, const KeyLine& line,
                        int group_keys, int tile_keys)
      : params_(params), problem_(problem), thread_(group.thread()), line_(line), group_keys_(group_keys), tile_keys_(tile_keys) {}

  // Fetches the page ids of tile `t` for the copies that follow.
  LATHE_DEVICE void prefetch(int t) {
    const int place = problem_.item.kv_begin + t * tile_keys_;
    next_key_ = line_.key(params_, place) + group_keys_;
    left_ = problem_.item.kv_end - place - group_keys_;
    if constexpr (config::kPaged) {
      const dev::GlobalList<int> pages{params_.kv_indices};
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        const int key = next_key_ + row_of(step);
        page_[step] = exists(step) ? pages.load(static_cast<i64>(problem_.request.kv_begin) + page_of(key)) : 0;
      }
    }
  }

  // Copies the prefetched tile's rows into `tile`, from row `row_begin` on.
  template <class TILE>
  LATHE_DEVICE void copy_keys(TILE tile, int row_begin) const {
    copy(tile, row_begin, params_.k, params_.k_stride_page, params_.k_stride_token, params_.k_stride_head);
  }
  template <class TILE>
  LATHE_DEVICE void copy_values(TILE tile, int row_begin) const {
    copy(tile, row_begin, params_.v, params_.v_stride_page, params_.v_stride_token, params_.v_stride_head);
  }

 private:
  static constexpr int kThreadsPerRow = 8;
  static constexpr int kRowsPerStep = GROUP::kThreads / kThreadsPerRow;
  static constexpr int kSteps = (KEYS + kRowsPerStep - 1) / kRowsPerStep;

  // Keys are not negative; saying so spares the corrections of signed division.
  LATHE_DEVICE static i64 page_of(int key) {
    return static_cast<u32>(key) / config::kPageSize;
  }
  LATHE_DEVICE static i64 token_of(int key) {
    return static_cast<u32>(key) % config::kPageSize;
  }
  LATHE_DEVICE int row_of(int step) const {
    return thread_ / kThreadsPerRow + step * kRowsPerStep;
  }
  LATHE_DEVICE bool exists(int step) const {
    return row_of(step) < KEYS && row_of(step) < left_;
  }

  template <class TILE>
  LATHE_DEVICE void copy(TILE tile, int row_begin, const void* base, i64 stride_page, i64 stride_token, i64 stride_head) const {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      if (KEYS % kRowsPerStep != 0 && row_of(step) >= KEYS) break;
      const int key = next_key_ + row_of(step);
      i64 offset = problem_.kv_head() * stride_head;
      if constexpr (config::kPaged) {
        offset += static_cast<i64>(page_[step]) * stride_page + token_of(key) * stride_token;
      } else {
        offset += (static_cast<i64>(problem_.request.kv_begin) + key) * stride_token;
      }
#pragma unroll
      for (int panel = 0; panel < tile.kPanels; ++panel) {
        const int chunk = panel * 8 + thread_ % kThreadsPerRow;
        if (tile.kChunks % 8 != 0 && chunk >= tile.kChunks) break;
        dev::copy_async_16(tile.chunk_offset(row_begin + row_of(step), chunk), dev::at(base, offset + chunk * 16), exists(step));
      }
    }
  }

  const abi::AttentionParams& params_;
  const Problem& problem_;
  int thread_;
  KeyLine line_;
  int group_keys_;
  int tile_keys_;
  int next_key_ = 0;  // the group's first key of the prefetched tile ...
  int left_ = 0;      // ... and how many keys of the item there are from it on
  int page_[config::kPaged ? kSteps : 1];
};

}  // namespace attention
#line 1 "templates/kernels/attention/vector_hooks.cuh"
// Hooks of whole vectors: query, key and value change tiles in shared memory before the products read them. Elements change in
// place; codes become the elements of another tile.





namespace attention {

// Which element of a vector is the rotary partner of element d, and its sign in rot(x) (Su et al., arXiv 2104.09864): dimensions
// [0, dims) fall into pairs (d, d + dims / 2) or (2 i, 2 i + 1); the rest has none.
template <int COLS>
struct RotaryPairs {
  static constexpr int kDims = hooks::kRotaryDims == 0 ? COLS : hooks::kRotaryDims;
  static constexpr int kDistance = hooks::kRotaryInterleaved ? 1 : kDims / 2;
  static_assert(kDims <= COLS && kDims % 16 == 0, "pairs of whole words");

  // The first of word `word`'s two columns in the line of first halves; its partners are kDistance further.
  LATHE_DEVICE static int column(int word) {
    if (hooks::kRotaryInterleaved) return 4 * word;
    const int pairs = kDims / 4;  // words that hold first halves
    return word < pairs ? 2 * word : kDims + 4 * (word - pairs);
  }
};

// Elements, or codes, `column` and `column + 1` of a row; `column` is even.
template <class E, int ROWS, int COLS>
LATHE_DEVICE void load_pair(dev::SharedTile<E, ROWS, COLS> tile, int row, int column, float (&x)[2]) {
  if constexpr (sizeof(E) == 1) {
    const u32 word = dev::shared_load_u32(tile.chunk_offset(row, column / 16) + static_cast<u32>(column % 16 / 4) * 4);
    const u32 codes = word >> (column % 4 * 8);
    x[0] = dev::unpack<Element>(dev::widen<Element, E, 0>(codes), 0);
    x[1] = dev::unpack<Element>(dev::widen<Element, E, 1>(codes), 0);
  } else {
    const u32 word = dev::shared_load_u32(tile.chunk_offset(row, column / 8) + static_cast<u32>(column % 8) * 2);
    x[0] = dev::unpack<E>(word, 0), x[1] = dev::unpack<E>(word, 1);
  }
}
template <class E, int ROWS, int COLS>
LATHE_DEVICE void store_pair(dev::SharedTile<E, ROWS, COLS> tile, int row, int column, float x, float y) {
  dev::shared_store_u32(tile.chunk_offset(row, column / 8) + static_cast<u32>(column % 8) * 2, dev::pack2<E>(x, y));
}

// What elements stand for: themselves.
struct Plain {
  LATHE_DEVICE float operator()(int, float x) const { return x; }
};
// What codes of one key or value stand for.
template <class FORMAT>
class CodeMeaning {
 public:
  LATHE_DEVICE CodeMeaning(const abi::AttentionParams& params, const abi::KvScales& scales, const Problem& problem, int key)
      : scales_(scales), kv_head_(problem.kv_head()), scale_(scales.scale) {
    if constexpr (!FORMAT::kTokenScale && FORMAT::kZero != ZeroPoint::token) return;
    const kv::Place at = problem.place_of(params, key);
    if constexpr (FORMAT::kTokenScale) scale_ *= kv::Table{scales.token_scale, kv_head_}.of_token(at);
    if constexpr (FORMAT::kZero == ZeroPoint::token) zero_ = kv::Table{scales.zero, kv_head_}.of_token(at);
  }
  LATHE_DEVICE float operator()(int d, float code) const {
    float x = code - (FORMAT::kZero == ZeroPoint::channel ? kv::Table{scales_.zero, kv_head_}.of_channel(d) : zero_);
    x *= scale_;
    if constexpr (FORMAT::kChannelScale) x *= kv::Table{scales_.channel_scale, kv_head_}.of_channel(d);
    return x;
  }

 private:
  const abi::KvScales& scales_;
  int kv_head_;
  float scale_, zero_ = 0.0f;
};

// Writes y = f(row, d, x, rot_x) to rows [row_begin, row_begin + rows) of `to`, where x is what the element of `from` at that place
// stands for: meaning_of(row)(d, element). `from` and `to` may be one tile. By `threads` threads of which this one is `thread`;
// every other reader and writer is behind a barrier. Four elements at a time: two pairs, with the partners of both.
template <class FROM, class T, int ROWS, int COLS, class M, class F>
LATHE_DEVICE void transform_rows(FROM from, dev::SharedTile<T, ROWS, COLS> to, int row_begin, int rows, int thread, int threads,
                                 M&& meaning_of, F&& f) {
  using Pairs = RotaryPairs<COLS>;
#pragma unroll 1
  for (int i = thread; i < rows * (COLS / 4); i += threads) {
    const int row = row_begin + i / (COLS / 4);
    const int first = Pairs::column(i % (COLS / 4));
    const bool apart = !hooks::kRotaryInterleaved && first < Pairs::kDims;  // the second word holds the first one's partners
    const int second = apart ? first + Pairs::kDistance : first + 2;
    const auto meaning = meaning_of(row);
    float a[2], b[2];
    load_pair(from, row, first, a);
    load_pair(from, row, second, b);
    const float x[4] = {meaning(first, a[0]), meaning(first + 1, a[1]), meaning(second, b[0]), meaning(second + 1, b[1])};
    float rot[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (apart) {
      rot[0] = -x[2], rot[1] = -x[3], rot[2] = x[0], rot[3] = x[1];
    } else if (first < Pairs::kDims) {
      rot[0] = -x[1], rot[1] = x[0];
      if (second < Pairs::kDims) rot[2] = -x[3], rot[3] = x[2];
    }
    float y[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) y[c] = f(row, (c < 2 ? first : second) + c % 2, x[c], rot[c]);
    store_pair(to, row, first, y[0], y[1]);
    store_pair(to, row, second, y[2], y[3]);
  }
}

// The hook query, on the tile of queries, by the whole block.
template <class TILE>
LATHE_DEVICE void transform_queries(TILE tile, const abi::AttentionParams& params, const Problem& problem) {
  hooks::ElementInputs in{};
  in.tile = problem.hook_tile();
  transform_rows(
      tile, tile, 0, problem.num_rows(TILE::kRows), static_cast<int>(dev::thread_index()), config::kWarps * dev::kWarpSize,
      [](int) { return Plain{}; },
      [&](int row, int d, float x, float rot_x) {
        in.row = problem.hook_row(row);
        in.d = d;
        return hooks::query(params.hooks, in, x, rot_x);
      });
}

// The hook key or value, on `rows` rows of a tile from `row_begin` on, which hold the keys from `first_key` on; by their group. Of
// FORMAT they are in `from`, elements in `to`.
template <class FORMAT, class GROUP, class FROM, class TO, class F>
LATHE_DEVICE void transform_keys(GROUP group, FROM from, TO to, int row_begin, int rows, const abi::AttentionParams& params,
                                 [[maybe_unused]] const abi::KvScales& scales, const Problem& problem, int first_key, F&& hook) {
  hooks::ElementInputs in{};
  in.tile = problem.hook_tile();
  in.row.hk = problem.kv_head();
  const int left = problem.request.kv_len - first_key;
  if constexpr (kCodes<FORMAT>) {
    const auto key_of = [&](int row) { return first_key + row - row_begin; };
    const int last = problem.request.kv_len - 1;
    transform_rows(
        from, to, row_begin, rows, group.thread(), GROUP::kThreads,
        [&](int row) { return CodeMeaning<FORMAT>(params, scales, problem, key_of(row) < last ? key_of(row) : last); },
        [&](int row, int d, float x, float rot_x) {
          if (key_of(row) > last) return 0.0f;  // rows that do not exist are zeros
          in.column = problem.hook_column(params, key_of(row));
          in.d = d;
          return hook(in, x, rot_x);
        });
  } else {
    transform_rows(
        from, to, row_begin, rows < left ? rows : left, group.thread(), GROUP::kThreads, [](int) { return Plain{}; },
        [&](int row, int d, float x, float rot_x) {
          in.column = problem.hook_column(params, first_key + row - row_begin);
          in.d = d;
          return hook(in, x, rot_x);
        });
  }
}

}  // namespace attention
#line 15 "templates/kernels/attention/run_item.cuh"

namespace attention {

template <class C>
LATHE_DEVICE void run_item(const abi::AttentionParams& params, int index, int head) {
  constexpr int kStages = config::kStages;
  constexpr int kInFlight = 2 * kStages - 1;  // loads of keys and values under way when a wait begins
  using Group = dev::Group<C::kRows / dev::kFragmentRows, config::kWarps>;
  constexpr int kKeys = C::kKeys / Group::kGroups;  // keys of a tile that one group takes
  static_assert(kKeys % 16 == 0, "a group takes whole matrix steps of keys");
  using QTile = dev::SharedTile<Element, C::kRows, config::kHeadDimQk>;
  using KTile = dev::SharedTile<config::KeyFormat::Element, C::kKeys, config::kHeadDimQk>;
  using VTile = dev::SharedTile<config::ValueFormat::Element, C::kKeys, config::kHeadDimVo>;
  constexpr u32 kKBase = config::kEpilogueOffset + QTile::kBytes;
  constexpr u32 kVBase = kKBase + kStages * KTile::kBytes;
  constexpr u32 kChangedBase = kVBase + kStages * VTile::kBytes;

  const Problem problem = Problem::read(Plan(params), index, head);
  const abi::AttentionWorkItem& item = problem.item;
  const Group group;
  const int group_keys = group.index() * kKeys;             // first of the group's rows in a key tile
  const int row_begin = group.warp() * dev::kFragmentRows;  // first of the warp's rows in the query tile
  const int num_tiles = (item.kv_end - item.kv_begin + C::kKeys - 1) / C::kKeys;
  const QTile q_tile{config::kEpilogueOffset};
  const auto k_tile = [](int t) { return KTile{kKBase + static_cast<u32>(t % kStages) * KTile::kBytes}; };
  const auto v_tile = [](int t) { return VTile{kVBase + static_cast<u32>(t % kStages) * VTile::kBytes}; };
  // What the products read: those tiles, or the elements that a hook has made of their codes. There is one tile of these: keys and
  // values take turns, and each turn begins with a wait.
  const auto keys = [&](int t) {
    if constexpr (kCodes<KeyFormat> == kCodes<config::KeyFormat>) {
      return k_tile(t);
    } else {
      return dev::SharedTile<Element, C::kKeys, config::kHeadDimQk>{kChangedBase};
    }
  };
  const auto values = [&](int t) {
    if constexpr (kCodes<ValueFormat> == kCodes<config::ValueFormat>) {
      return v_tile(t);
    } else {
      return dev::SharedTile<Element, C::kKeys, config::kHeadDimVo>{kChangedBase};
    }
  };

  KeyLine line(params, problem, C::kRows);
  KvLoader<Group, kKeys> loader(params, problem, group, line, group_keys, C::kKeys);
  const dev::Pipeline<Group, kInFlight> pipeline{group};
  // The line of loads is (K0 V0) K1 V1 ...; before the first and past the last tile it holds empty ones, so that every wait counts
  // alike.
  const auto load_keys = [&](int t) {
    pipeline.acquire();
    if (t < num_tiles) loader.copy_keys(k_tile(t), group_keys);
    pipeline.commit();
  };
  const auto load_values = [&](int t) {
    pipeline.acquire();
    if (t >= 0 && t < num_tiles) loader.copy_values(v_tile(t), group_keys);
    pipeline.commit();
  };

  load_queries(q_tile, params, problem);
  const float scale = exponent_scale(params);
  Softmax softmax;
  dev::Accumulator<config::kHeadDimVo, kOutputColumns> o;
  dev::clear(o);
  dev::Row<float> query_sums;
  ValueDebt debt;
  // Loads run kStages tiles ahead of the products, which begin at tile 0.
#pragma unroll 1
  for (int t = -kStages; t < num_tiles; ++t) {
    const bool filling = t < 0;
    if (!filling) pipeline.wait();     // K t; and V t - 1 is done with
    if (t == 0) dev::block_barrier();  // the queries, loaded by the whole block before K 0
    if constexpr (hooks::kQuery) {
      if (t == 0) {
        transform_queries(q_tile, params, problem);
        dev::block_barrier();
      }
    }
    if constexpr (hooks::kQuerySum || hooks::kQueryNorm) {
      if (t == 0) {
        keep_query_sums(q_tile, row_begin);
        if constexpr (kCodes<KeyFormat>) dev::block_barrier();  // before they are scaled
      }
    }
    if constexpr (kCodes<KeyFormat>) {
      if (t == 0) {
        fold_query_scales(q_tile, params, problem);
        dev::block_barrier();
        if constexpr (kHasZero<KeyFormat>) sum_queries(query_sums, q_tile, row_begin, params, problem);
      }
    }
    load_values(t + kStages - 1);
    loader.prefetch(t + kStages);

    dev::Operand<Element, kKeys> weights;
    if (!filling) {
      const int first_key = line.key(params, item.kv_begin + t * C::kKeys) + group_keys;
      if constexpr (hooks::kKey) {
        transform_keys<config::KeyFormat>(
            group, k_tile(t), keys(t), group_keys, kKeys, params, params.k_scales, problem, first_key,
            [&](const hooks::ElementInputs& in, float x, float rot_x) { return hooks::key(params.hooks, in, x, rot_x); });
        group.sync();
      }
      const TokenScales<KeyFormat, kKeys> key_scales(params, params.k_scales, problem, first_key);
      const TokenScales<ValueFormat, kKeys> value_scales(params, params.v_scales, problem, first_key);
      dev::Accumulator<kKeys> scores;
      dev::clear(scores);
      dev::gemm_nt_issue(scores, q_tile, row_begin, keys(t), group_keys);
      dev::gemm_commit();
      dev::gemm_wait<0>();
      pipeline.release();

      apply_key_scales(scores, query_sums, key_scales);
      shape_scores(scores, params, problem, row_begin, first_key, line.full());
      if constexpr (hooks::kNormalizes) {
        dev::Row<float> shrink;
        softmax.update(scores, shrink, scale);
        dev::scale_rows(o, shrink);
        debt.shrink(shrink);
      }
      if constexpr (hooks::kWeight) apply_weight_hook(scores, params, problem, row_begin, first_key);
      debt.apply_scales(scores, value_scales);
      dev::round_to_operand(weights, scores);

      pipeline.wait();  // V t; and K t is done with
      if constexpr (hooks::kValue) {
        transform_keys<config::ValueFormat>(
            group, v_tile(t), values(t), group_keys, kKeys, params, params.v_scales, problem, first_key,
            [&](const hooks::ElementInputs& in, float x, float rot_x) { return hooks::value(params.hooks, in, x, rot_x); });
        group.sync();
      }
    }
    load_keys(t + kStages);
    if (filling) continue;

    dev::gemm_nn_issue(o, weights, values(t), group_keys);
    dev::gemm_commit();
    dev::gemm_wait<0>();
    pipeline.release();
  }
  dev::copy_async_wait<0>();  // without a tile nobody has waited for the queries
  finish_item<C, Group::kGroups>(o, softmax, debt, params, index, head, group.index(), row_begin);
}

}  // namespace attention
#line 50 "templates/kernels/attention/kernel.cu"

LATHE_KERNEL(attention_kernel, abi::AttentionParams, config::kWarps * dev::kWarpSize) {
  using attention::Plan;
  if (Plan(params).replica >= Plan(params).header(&Plan::Header::num_replicas)) return;
  for (int i = Plan(params).item_begin(); i < Plan(params).item_end(); ++i) {
    for (int n = 0; n < Plan(params).item_kind(i).num_heads; ++n) {
      switch (Plan(params).item_kind(i).tile_class) {

        case 0:
          attention::run_item<config::TileClass<0>>(params, i, n);
          break;
#line 58 "templates/kernels/attention/kernel.cu"
        case 1:
          attention::run_item<config::TileClass<1>>(params, i, n);
          break;

        default:
          dev::trap();
      }
      if (Plan(params).item_is_partial(i)) attention::merge_if_last(params, i);
      dev::block_barrier();  // the next tile takes this one's place in shared memory
    }
  }
}
