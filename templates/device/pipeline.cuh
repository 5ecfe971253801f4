// Groups of threads and the pipeline that feeds them.
#pragma once

#include "device/primitives.cuh"

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
