// Block-wide and named barriers. Whole warps come to them; the last one lets all go on, each knowing what the others did before.
#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "lathe/runtime/simt/collectives.h"
#include "lathe/runtime/simt/epochs.h"
#include "lathe/runtime/simt/scheduler.h"

namespace lathe::simt {
namespace {

Fault disagreement(const Lane& lane, const Lane& other) {
  return {fmt::format(
              "divergence: lanes of one warp name different barriers: {} barrier {} for {} threads, {} barrier {} for {} threads",
              describe(other), other.x, other.y, describe(lane), lane.x, lane.y),
          {{"they are", lane.warp->site}}};
}

Fault bad_barrier(const Lane& lane) {
  return {fmt::format("bad barrier: id {} for {} threads; ids are 1 to {}, threads a multiple of {} up to the block's {}", lane.x,
                      lane.y, kBarriers - 1, kLanes, lane.warp->block->warps.size() * kLanes),
          {{describe(lane) + " comes to it", lane.warp->site}}};
}

Fault count_differs(const Lane& lane, const Barrier& barrier) {
  return {fmt::format("divergence: barrier {} is used for {} and for {} threads at once", lane.x, barrier.expected, lane.y),
          {{fmt::format("{} comes to it for {}", describe(lane), lane.y), lane.warp->site},
           {fmt::format("another warp came for {}", barrier.expected), barrier.site}}};
}

Fault came_twice(const Lane& lane, const Barrier& barrier) {
  return {fmt::format("barrier {} is met twice by warp {} of block {} before it completes", lane.x, lane.warp->index,
                      lane.warp->block->index),
          {{describe(lane) + " comes again", lane.warp->site}, {"the first warp came", barrier.site}}};
}

Fault others_ended(const Lane& lane) {
  return {fmt::format("divergence: {} comes to block_barrier after other warps of its block ended", describe(lane)),
          {{"it is", lane.warp->site}}};
}

Fault too_many(const Lane& lane) {
  return {fmt::format("barrier {} for {} threads is met by more", lane.x, lane.y),
          {{describe(lane) + " comes last", lane.warp->site}}};
}

void take_part(Barrier& barrier, Lane& lane) {
  begin_epoch(lane);
  const Warp& warp = *lane.warp;
  for (size_t w = 0; w < kMaxWarps; ++w) barrier.known[w] = std::max(barrier.known[w], warp.known[w]);
  barrier.remote = joined(barrier.remote, warp.remote);
}

void learn(Warp& warp, const Barrier& barrier) {
  for (size_t w = 0; w < kMaxWarps; ++w) warp.known[w] = std::max(warp.known[w], barrier.known[w]);
  warp.remote = joined(warp.remote, barrier.remote);
}

}  // namespace

void arrive_at_barrier(Lane& lane) {
  Warp& warp = *lane.warp;
  Block& block = *warp.block;
  Worker& worker = *block.worker;
  const auto block_threads = static_cast<uint32_t>(block.warps.size()) * kLanes;
  if (warp.call == Call::block_barrier) {
    if (block.live_warps != block.warps.size()) fault(lane, others_ended(lane));
    for (Lane& each : warp.lanes) each.x = 0, each.y = block_threads;
  } else {
    for (const Lane& each : warp.lanes) {
      if (each.x != lane.x || each.y != lane.y) fault(lane, disagreement(lane, each));
    }
    if (lane.x == 0 || lane.x >= kBarriers || lane.y == 0 || lane.y % kLanes != 0 || lane.y > block_threads) {
      fault(lane, bad_barrier(lane));
    }
  }
  Barrier& barrier = block.barriers[lane.x];
  const uint32_t bit = 1u << warp.index;
  if (barrier.expected == 0) {
    barrier.expected = lane.y;
    barrier.site = warp.site;
  }
  if (barrier.expected != lane.y) fault(lane, count_differs(lane, barrier));
  if ((barrier.arrived & bit) != 0) fault(lane, came_twice(lane, barrier));
  barrier.arrived |= bit;
  const bool waits = warp.call != Call::named_barrier_arrive;
  if (waits) barrier.waiting |= bit;
  if (worker.grid->check) take_part(barrier, lane);

  const auto arrived = static_cast<uint32_t>(std::popcount(barrier.arrived)) * kLanes;
  if (arrived > barrier.expected) fault(lane, too_many(lane));
  if (!waits) {
    warp.waiting = 0;
    warp.ready = kAllLanes;
  }
  if (arrived < barrier.expected) {
    if (waits) suspend(lane);
    return;
  }
  ++worker.counters.block_barriers;
  ++worker.events;
  for (uint32_t w = 0; w < block.warps.size(); ++w) {
    if ((barrier.waiting >> w & 1) == 0) continue;
    if (worker.grid->check) learn(*block.warps[w], barrier);
    release_warp(*block.warps[w]);
  }
  barrier = {};
  if (waits) yield_to_any(lane);
}

}  // namespace lathe::simt
