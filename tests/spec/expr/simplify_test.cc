#include "lathe/spec/expr/simplify.h"

#include <gtest/gtest.h>

#include "examples.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/print.h"
#include "lathe/testing/seed.h"
#include "random_hooks.h"

namespace lathe::expr {
namespace {

using testing::RandomEnvironment;
using testing::RenamedEnvironment;
using testing::Rng;
using testing::same_value;

/// Evaluates `original` and what became of it under the same random environments.
void expect_equal_values(const Hooks& original, const Hooks& rewritten, Hook hook, Rng& rng, int environments) {
  const Id a = original.root(hook), b = rewritten.root(hook);
  for (int i = 0; i < environments; ++i) {
    const RandomEnvironment environment(original, rng, hook);
    const RenamedEnvironment renamed(rewritten, original, environment);
    const Value x = interpret(original, a, environment), y = interpret(rewritten, b, renamed);
    ASSERT_TRUE(same_value(info(hook).type, x, y)) << to_text(original, a, 4096) << "\nbecame\n"
                                                   << to_text(rewritten, b, 4096) << "\nvalues " << x.i << " " << x.f << " and "
                                                   << y.i << " " << y.f << "\nrepeat with " << lathe::testing::repeat_command();
  }
}

TEST(Simplify, KeepsTheValueOfRandomExpressions) {
  constexpr std::array kTried{Hook::mask, Hook::logits, Hook::q_pos, Hook::weight, Hook::output, Hook::query};
  Rng rng(lathe::testing::seed());
  size_t smaller = 0;
  for (int i = 0; i < 20'000; ++i) {
    const Hook hook = kTried[rng() % kTried.size()];
    const Hooks original = testing::random_hooks(rng, hook, 1 + static_cast<int>(rng() % 24));
    const Hooks simple = simplify(original);
    // A map is replaced in every other hook; it is looked at as it stands here.
    if (hook == Hook::q_pos) continue;
    expect_equal_values(original, simple, hook, rng, 8);
    expect_equal_values(original, canonicalise(original), hook, rng, 2);
    if (HasFatalFailure()) return;
    smaller += simple.graph.size() < original.graph.size() ? 1 : 0;
  }
  EXPECT_GT(smaller, 5'000u) << "hardly anything was simplified";
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
