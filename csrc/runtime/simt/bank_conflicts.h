// Shared-memory bank conflicts: 32 banks of 4 bytes. A warp's access of 8 bytes a lane goes in half-warps, of 16 bytes in
// quarter-warps; ldmatrix goes in its four groups of 8 rows. Each such phase ideally takes one pass; one more for every further
// word in its fullest bank.
#pragma once

#include <cstdint>
#include <span>

#include "lathe/runtime/simt/state.h"

namespace lathe::simt {

/// Passes beyond the first that reading or writing `bytes` at each of `offsets` takes together.
uint32_t extra_passes(std::span<const uint32_t> offsets, uint32_t bytes);

/// Counts the plain accesses of the warp's lanes since it last met, and forgets them. The n-th access from one place of the kernel,
/// on every lane that got there, is one access of the warp.
void count_conflicts(Warp& warp);

/// Counts one ldmatrix.
void count_matrix_rows(Warp& warp, const std::array<uint32_t, kLanes>& rows);

}  // namespace lathe::simt
