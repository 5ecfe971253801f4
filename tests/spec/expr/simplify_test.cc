#include "lathe/spec/expr/simplify.h"

#include <gtest/gtest.h>

#include "expression_cases.h"
#include "lathe/testing/seed.h"

namespace lathe::expr {
namespace {

using testing::Rng;

TEST(Simplify, KeepsTheValueOfRandomExpressions) {
  Rng rng(lathe::testing::seed());
  testing::CaseCounts counts;
  for (int i = 0; i < 20'000; ++i) ASSERT_EQ(testing::check_rewriting(rng, counts), "") << lathe::testing::repeat_command();
  EXPECT_GT(counts.smaller, 5'000) << "hardly anything was simplified";
}

TEST(Simplify, IsStable) {
  constexpr int kCases = 5'000;
  constexpr int kAllowed = 5;  // params that nothing tells apart may trade places
  Rng rng(lathe::testing::seed());
  int changed = 0;
  for (int i = 0; i < kCases; ++i) {
    const Hook hook = i % 2 == 0 ? Hook::mask : Hook::logits;
    const Hooks once = canonicalise(testing::random_hooks(rng, hook, 1 + static_cast<int>(rng() % 16)));
    changed += canonical_bytes(once) != canonical_bytes(canonicalise(once)) ? 1 : 0;
  }
  EXPECT_LE(changed, kAllowed) << lathe::testing::repeat_command();
}

}  // namespace
}  // namespace lathe::expr
