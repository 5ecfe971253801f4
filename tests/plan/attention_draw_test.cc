#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <sstream>

#include "plan_cases.h"

namespace lathe::testing {
namespace {

using ::testing::HasSubstr;

AttentionPlan planned(const PlanShape& shape, RandomBatch lengths) {
  OwnedBatch owned(std::move(lengths));
  Result<AttentionPlan> plan = plan_attention(shape, owned.view());
  EXPECT_TRUE(plan.ok());
  return *plan;
}

// Characters, not bytes: every byte but the continuations of UTF-8.
size_t width_of(const std::string& line) {
  return static_cast<size_t>(
      std::count_if(line.begin(), line.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

TEST(Draw, NeverWiderThanAsked) {
  std::mt19937_64 rng(1);
  for (int trial = 0; trial < 300; ++trial) {
    PlanShape shape = random_shape(rng);
    shape.spec.split_kv.mode = SplitMode::automatic;
    AttentionPlan plan = planned(shape, random_batch(rng, {}));
    for (int columns : {40, 72, 120}) {
      std::istringstream text(draw(shape, plan, columns));
      for (std::string line; std::getline(text, line);) ASSERT_LE(width_of(line), static_cast<size_t>(columns)) << line;
    }
  }
}

TEST(Draw, ShowsLoadSplitsAndTheLongestBlock) {
  RandomBatch lengths;
  lengths.add(1, 60'000);
  for (int b = 0; b < 12; ++b) lengths.add(1, 900);
  std::string text = draw(llama_shape(), planned(llama_shape(), lengths));
  std::puts(text.c_str());
  EXPECT_THAT(text, HasSubstr("items on 132 blocks"));
  EXPECT_THAT(text, HasSubstr("x mean"));
  EXPECT_THAT(text, HasSubstr(" tiles split"));
  EXPECT_THAT(text, HasSubstr("request 0: 8 tiles in"));
  EXPECT_THAT(text, HasSubstr("▒"));
  EXPECT_THAT(text, HasSubstr("█"));
}

TEST(Draw, EmptyPlan) {
  EXPECT_THAT(draw(llama_shape(), planned(llama_shape(), {})), HasSubstr("0 items on 132 blocks"));
}

}  // namespace
}  // namespace lathe::testing
