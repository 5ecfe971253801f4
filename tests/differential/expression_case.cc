#include "cases.h"
#include "lathe/expr_testing/expression_cases.h"
#include "lathe/expr_testing/tile_soundness.h"

namespace lathe::testing {

std::string expression_case(uint64_t seed) {
  namespace cases = expr::testing;
  constexpr int64_t kTiles = 24;  // of one mask
  cases::Rng rng(seed);
  cases::CaseCounts counts;
  for (const auto check : {cases::check_rewriting, cases::check_forms, cases::check_ranges, cases::check_mutated_text}) {
    if (std::string wrong = check(rng, counts); !wrong.empty()) return wrong;
  }
  const cases::TileCounts tiles = cases::compare_random_tiles(rng(), kTiles);
  return tiles.unsound == 0 ? "" : std::to_string(tiles.unsound) + " tiles are called empty or full and are not";
}

}  // namespace lathe::testing
