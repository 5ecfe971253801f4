#include <gtest/gtest.h>

#include <iostream>

#include "lathe/testing/seed.h"
#include "tile_soundness.h"

namespace lathe::expr {
namespace {

TEST(TilesFull, AMillionRandomOnesAreSound) {
  const testing::TileCounts counts = testing::compare_random_tiles(lathe::testing::seed(), 1'200'000);
  std::cout << counts.masks << " masks, " << counts.tiles << " tiles: " << counts.empty << " empty, " << counts.full << " full, "
            << counts.partial << " partial, of which " << counts.missed << " are not\n";
  EXPECT_EQ(counts.unsound, 0);
}

}  // namespace
}  // namespace lathe::expr
