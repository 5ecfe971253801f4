// How a kernel built for the host reaches the executor that runs it: one table of functions, handed over once after loading.
// Shared by rendered host sources and by csrc/runtime/simt; plain types only.
//
// Growing it: append functions at the end. A kernel built against a shorter table keeps working; one built against a longer table
// is refused by `size`. Changing what exists takes a new kSimtVersion.
#pragma once

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
