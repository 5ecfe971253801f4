#include "lathe/spec/expr/parse.h"

#include <gtest/gtest.h>

#include "examples.h"
#include "expression_cases.h"
#include "lathe/spec/expr/print.h"
#include "lathe/testing/seed.h"

namespace lathe::expr {
namespace {

using testing::kExamples;
using testing::Rng;

TEST(ParseExamples, RoundTrip) {
  for (const auto& example : kExamples) {
    SCOPED_TRACE(example.name);
    Result<Hooks> hooks = parse(example.text);
    ASSERT_TRUE(hooks.ok()) << hooks.status().to_string();
    const std::string text = to_text(*hooks);
    Result<Hooks> again = parse(text);
    ASSERT_TRUE(again.ok()) << again.status().to_string();
    EXPECT_TRUE(*again == *hooks) << text << to_text(*again);
    EXPECT_EQ(to_text(*again), text);
  }
}

/// Whatever can be built prints as text, and as JSON, that reads back as the same value. Hooks that check() refuses cannot be read.
TEST(RandomHooks, RoundTrip) {
  Rng rng(lathe::testing::seed());
  testing::CaseCounts counts;
  for (int i = 0; i < 20'000; ++i) ASSERT_EQ(testing::check_forms(rng, counts), "") << lathe::testing::repeat_command();
  EXPECT_GT(counts.read, 1'000);
}

TEST(Parse, OperatorsBindAsDocumented) {
  const std::pair<const char*, const char*> same[] = {
      {"mask = kv & 1 == 0", "mask = (kv & 1) == 0"},
      {"mask = kv | q & 3 ^ 1 < 9", "mask = (kv | ((q & 3) ^ 1)) < 9"},
      {"mask = kv + q * 2 << 1 < 9", "mask = ((kv + (q * 2)) << 1) < 9"},
      {"mask = kv - q - 1 < 9", "mask = ((kv - q) - 1) < 9"},
      {"mask = kv // 4 % 3 * 2 < 9", "mask = (((kv // 4) % 3) * 2) < 9"},
      {"mask = kv < 3 || q < 3 && h < 3", "mask = (kv < 3) || ((q < 3) && (h < 3))"},
      {"mask = kv < 3 == q < 3", "mask = (kv < 3) == (q < 3)"},
      {"mask = !(kv < 3) && -kv < 3", "mask = (!(kv < 3)) && ((-kv) < 3)"},
      {"mask = kv < 3 ? q < 3 : h < 3 ? true : q < 1", "mask = (kv < 3) ? (q < 3) : ((h < 3) ? true : (q < 1))"},
  };
  for (const auto& [a, b] : same) {
    const Result<Hooks> x = parse(a), y = parse(b);
    ASSERT_TRUE(x.ok()) << a << x.status().to_string();
    ASSERT_TRUE(y.ok()) << b << y.status().to_string();
    EXPECT_TRUE(*x == *y) << a << "\n" << to_text(*x) << to_text(*y);
  }
}

}  // namespace
}  // namespace lathe::expr
