// Happens-before at work: how warps learn of each other (clock.h). Only when checking.
#pragma once

#include "lathe/runtime/simt/state.h"

namespace lathe::simt {

/// Fresh clocks for a block that starts, above all that were used in its place.
void begin_clocks(Block& block);
/// Orders everything the lanes of the calling lane's warp did so far before everything they will do.
void begin_epoch(Lane& lane);

/// Whether an earlier access is ordered before what `lane` does now; as_warp: before what any lane of its warp does now.
bool is_ordered(const Lane& lane, bool as_warp, uint32_t warp_of_grid, Stamp earlier);

/// A release by `lane`: all that is behind it and its own accesses so far. What it does next is not part of it.
PastPtr release(Lane& lane);

}  // namespace lathe::simt
