// Random masks in random tiles against dense evaluation, for the suites that differ in how many.
#pragma once

#include <cstdint>

namespace lathe::expr::testing {

struct TileCounts {
  int64_t masks = 0, tiles = 0, empty = 0, full = 0, partial = 0;
  int64_t missed = 0;   // tiles that are empty or full, and were called partial
  int64_t unsound = 0;  // tiles that were called empty or full and are not; each is printed, up to ten
};

/// Analyses and evaluates random tiles until there are `tiles` of them, and checks kv ranges of as many rows. Deterministic.
TileCounts compare_random_tiles(uint64_t seed, int64_t tiles);

}  // namespace lathe::expr::testing
