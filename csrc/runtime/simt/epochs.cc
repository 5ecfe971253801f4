#include "lathe/runtime/simt/epochs.h"

#include <algorithm>

#include "lathe/runtime/simt/scheduler.h"

namespace lathe::simt {
namespace {

Fault out_of_clocks() {
  return {"too many synchronisations in one block for the race checks; run without them", {}};
}

}  // namespace

void begin_clocks(Block& block) {
  uint32_t top = block.base_clock;
  for (const auto& warp : block.warps) top = std::max(top, warp->top);
  if (top > Stamp::kMaxClock / 2) {
    block.shared.forget();
    top = 0;
  }
  block.base_clock = top + 1;
  for (auto& warp : block.warps) {
    warp->epoch = warp->top = block.base_clock;
    warp->known.fill(block.base_clock - 1);
    warp->remote = nullptr;
    for (Lane& lane : warp->lanes) lane.clock = block.base_clock;
  }
}

void begin_epoch(Lane& lane) {
  Warp& warp = *lane.warp;
  if (warp.top >= Stamp::kMaxClock - kLanes) fault(lane, out_of_clocks());
  warp.known[warp.index] = warp.top;
  warp.epoch = ++warp.top;
  for (Lane& each : warp.lanes) {
    each.clock = warp.epoch;
    if (each.acquired == nullptr) continue;
    warp.remote = joined(warp.remote, each.acquired);
    each.acquired = nullptr;
  }
}

bool is_ordered(const Lane& lane, bool as_warp, uint32_t warp_of_grid, Stamp earlier) {
  const Warp& warp = *lane.warp;
  const auto warps = static_cast<uint32_t>(warp.block->warps.size());
  const uint32_t first = warp.block->index * warps;
  if (warp_of_grid >= first && warp_of_grid < first + warps) {
    const uint32_t other = warp_of_grid - first;
    if (earlier.clock() <= warp.known[other]) return true;
    if (other == warp.index) return !as_warp && earlier.lane() == static_cast<int>(lane.index);
  }
  return covers(warp.remote, warp_of_grid, earlier.lane(), earlier.clock()) ||
         (!as_warp && covers(lane.acquired, warp_of_grid, earlier.lane(), earlier.clock()));
}

PastPtr release(Lane& lane) {
  Warp& warp = *lane.warp;
  const auto warps = static_cast<uint32_t>(warp.block->warps.size());
  auto here = std::make_shared<Past>();
  here->reserve(warps);
  for (uint32_t w = 0; w < warps; ++w) here->emplace_back(warp.block->index * warps + w, Reach{warp.known[w], 0, 0});
  Reach& own = (*here)[warp.index].second;
  own.lanes = 1u << lane.index;
  own.released = lane.clock;
  if (lane.clock >= Stamp::kMaxClock) fault(lane, out_of_clocks());
  warp.top = std::max(warp.top, ++lane.clock);
  return joined(joined(here, warp.remote), lane.acquired);
}

}  // namespace lathe::simt
