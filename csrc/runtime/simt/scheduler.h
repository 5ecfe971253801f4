// Who runs next. All of it concerns the calling OS thread's worker only.
#pragma once

#include <bit>

#include "lathe/runtime/simt/state.h"

namespace lathe::simt {

/// Runs blocks of `grid` on this OS thread until none is left or somebody faults. `resident`: how many blocks at a time.
Status run_blocks(Worker& worker, Grid& grid, uint32_t resident);

/// The next ready lane of `warp`, from a point that changes from one collective to the next.
inline Lane& pick(Warp& warp) {
  const uint32_t turn = warp.rotation;
  const auto first = static_cast<uint32_t>(std::countr_zero(std::rotr(warp.ready, static_cast<int>(turn))));
  return warp.lanes[(first + turn) % kLanes];
}

/// Lets `lane` wait while `next` runs.
inline void hand_over(Lane& lane, Lane& next) {
  current_lane = &next;
  switch_fibre(&lane.fibre, &next.fibre);
}

/// Lets `lane` wait until it is made ready, while any ready warp goes on; its own, too, if that is queued.
void yield_to_any(Lane& lane);

/// Lets `lane`, which has put itself into its warp's waiting or spinning set, wait until it is made ready. The warp's other lanes
/// go first: they are what it waits for, as a rule.
inline void suspend(Lane& lane) {
  Warp& warp = *lane.warp;
  if (warp.ready != 0) {
    hand_over(lane, pick(warp));
  } else {
    yield_to_any(lane);
  }
}

/// Makes every lane of `warp`, which stands in a barrier, ready.
void release_warp(Warp& warp);
/// Remembers the fault, unless there is one already, and ends the launch. The stacks of all threads are dropped as they are, so a
/// call must leave nothing to be destroyed behind: `what` comes from a function that has returned.
[[noreturn]] void fault(Lane& lane, Fault what);

/// One step of `lane`: what the limit on steps counts.
[[noreturn]] void fault_step_limit(Lane& lane, uint32_t site);
inline void step(Lane& lane, uint32_t site) {
  if (--lane.warp->block->worker->budget < 0) [[unlikely]]
    fault_step_limit(lane, site);
}

/// Where in the module `address` (a return address) lies.
inline uint32_t site_of(const Lane& lane, const void* address) {
  return static_cast<uint32_t>(static_cast<const char*>(address) - lane.warp->block->worker->module_base);
}

/// "block 3, thread 17".
std::string describe(const Lane& lane);
/// "lanes 0-3 7"; "all lanes".
std::string lanes_text(uint32_t lanes);

}  // namespace lathe::simt
