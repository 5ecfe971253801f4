// What the executor keeps of a launch, a block, a warp and a lane. Plain state; the rules are in the files named at each part.
//
// One OS thread (a Worker) runs a set of resident blocks; their threads are fibres that switch to one another directly and never
// move to another OS thread. Only Grid is shared between workers.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "lathe/runtime/device.h"
#include "lathe/runtime/simt/clock.h"
#include "lathe/runtime/simt/fibre.h"
#include "lathe/runtime/simt/global_memory.h"
#include "lathe/runtime/simt/shared_memory.h"

namespace lathe::simt {

struct Block;
struct Warp;
struct Worker;
class Module;

constexpr uint32_t kLanes = 32;
constexpr uint32_t kAllLanes = 0xffffffffu;
constexpr uint32_t kMaxWarps = 32;  // of a block
constexpr uint32_t kBarriers = 16;  // barrier 0 is block_barrier

/// What the lanes of a warp do together.
enum class Call : uint8_t {
  none,
  warp_sync,
  shuffle,
  shuffle_xor,
  vote_any,
  vote_all,
  load_matrix,
  load_matrix_transposed,
  mma_bf16,
  mma_f16,
  block_barrier,
  named_barrier,
  named_barrier_arrive,
};
/// The primitive's name, for reports.
const char* name_of(Call call);

/// A copy whose effect is still to come (async_copy.cc).
struct Copy {
  uint32_t offset;
  uint32_t group;
  const void* source;  // null: zeros
  uint32_t site;
};

/// One thread of a block.
struct Lane {
  Fibre fibre;
  Warp* warp = nullptr;
  uint32_t index = 0;   // within the warp
  uint32_t thread = 0;  // within the block

  // Operands of the collective it stands in; x is also the result.
  uint32_t x = 0, y = 0;
  uint32_t* r = nullptr;
  const uint32_t* a = nullptr;
  float* d = nullptr;
  uint32_t spin_site = 0;

  std::vector<Copy> copies;  // in the order of issue
  uint32_t closed_groups = 0;

  // Only when checking.
  uint32_t clock = 0;                  // of its next access
  PastPtr acquired;                    // what it alone learnt; the warp's from the next epoch on
  PastPtr seen;                        // what relaxed loads saw, until a fence makes it count
  PastPtr fenced;                      // what its last fence lets relaxed stores publish
  std::vector<SharedAccess> accesses;  // since the last collective (bank_conflicts.h)
};

struct Warp {
  Block* block = nullptr;
  uint32_t index = 0;  // within the block

  // Every lane is in one of ready (or running), waiting (in `call`), spinning, done.
  uint32_t ready = 0, waiting = 0, spinning = 0, done = 0;
  Call call = Call::none;
  uint32_t site = 0;      // of `call`
  uint32_t rotation = 0;  // which ready lane goes next
  bool queued = false;    // in Worker::ready

  // Only when checking (clock.h). known[w]: epochs of warp w of this block that are behind this warp; of itself, all but the
  // current.
  uint32_t epoch = 0, top = 0;  // the current epoch's first clock, the largest clock of a lane
  std::array<uint32_t, kMaxWarps> known{};
  PastPtr remote;

  std::unique_ptr<StackSlab> stacks;
  std::array<Lane, kLanes> lanes;

  ~Warp() {
    for (Lane& lane : lanes) retire_fibre(lane.fibre);
  }
};

/// Barriers of a block (barriers.cc).
struct Barrier {
  uint32_t expected = 0;  // threads; 0: nobody has come yet
  uint32_t arrived = 0;   // warps, as masks
  uint32_t waiting = 0;
  uint32_t site = 0;  // of the first to come
  std::array<uint32_t, kMaxWarps> known{};
  PastPtr remote;
};

/// A block that is resident, or the place of one.
struct Block {
  Worker* worker = nullptr;
  uint32_t index = 0;  // within the grid
  uint32_t live_warps = 0;
  std::vector<std::unique_ptr<Warp>> warps;
  std::array<Barrier, kBarriers> barriers;
  SharedMemory shared;
  uint32_t base_clock = 1;  // larger than any clock of the blocks that were here before
};

/// One line of a report: who did what, and where.
struct Party {
  std::string text;
  uint32_t site = 0;  // 0: none
};
struct Fault {
  std::string what;
  std::vector<Party> parties;
};

/// A launch, as its workers see it.
struct Grid {
  const Module* module = nullptr;
  void (*entry)(const void* params) = nullptr;
  const void* params = nullptr;
  uint32_t blocks = 0, warps = 0;  // warps: of a block
  uint32_t shared_bytes = 0;
  bool check = false, resident = false;
  GlobalMemory memory;
  std::vector<uint32_t> order;  // of starting the blocks
  std::atomic<uint32_t> next{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;  // of fault
  std::unique_ptr<Fault> fault;
};

struct WorkerCounters {
  uint64_t matrix_instructions = 0, idle_matrix_instructions = 0, block_barriers = 0, warp_collectives = 0, async_copies = 0;
  uint64_t shared_accesses = 0, shared_bank_conflicts = 0;
};

/// One OS thread's share of a launch, kept between launches for its stacks and buffers (scheduler.h).
struct Worker {
  Fibre main;
  Grid* grid = nullptr;
  const char* module_base = nullptr;
  std::vector<std::unique_ptr<Block>> places;
  uint32_t resident = 0;  // places in use; the blocks in them come first

  std::vector<Warp*> ready;
  std::vector<Warp*> spinners;
  uint64_t events = 0;       // whatever may end a spin
  uint64_t events_seen = 0;  // when the spinners were last let run
  int64_t budget = 0;        // steps left
  std::mt19937_64 random;

  WorkerCounters counters;
  Traffic traffic;
};

/// The lane that runs on this OS thread; null outside a launch. Kernel code calls into the executor without any argument that could
/// carry it.
extern constinit thread_local Lane* current_lane __attribute__((tls_model("initial-exec")));

inline uint32_t global_index(const Warp& warp) {
  return warp.block->index * static_cast<uint32_t>(warp.block->warps.size()) + warp.index;
}

}  // namespace lathe::simt
