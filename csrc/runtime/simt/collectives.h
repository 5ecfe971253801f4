// What the lanes of a warp do together: they meet, and the last to come does it for all.
#pragma once

#include "lathe/runtime/simt/state.h"

namespace lathe::simt {

/// The calling lane, whose operands are in place, takes part in `call` from `site`; returns when it is done. Faults when lanes of
/// the warp are at different calls, or one has ended.
void meet(Lane& lane, Call call, uint32_t site);

/// The warp of `lane`, all of whose lanes have met, comes to a barrier (barriers.cc). Returns when the calling lane may go on.
void arrive_at_barrier(Lane& lane);

}  // namespace lathe::simt
