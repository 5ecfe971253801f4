// Sinks are exact wherever the keys are cut, also where a part, a row or a request sees none.
#include <gtest/gtest.h>

#include "lathe/proof/sink_cuts.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

class SinkCuts : public ::testing::TestWithParam<size_t> {};

TEST_P(SinkCuts, AreCountedOnce) {
  const SinkCase c = sink_cases()[GetParam()];
  const std::vector<SinkCut> cuts = all_cuts(c);
  SinkCounts counts;
  const Result<std::string> found = prove_sink(engine(), c, cuts, mix(seed(), GetParam()), repeat_command(), &counts);
  ASSERT_TRUE(found.ok()) << found.status().to_string();
  EXPECT_EQ(*found, "");
  std::printf("%d of %zu ways cut some tile, at most %d items\n", counts.cut, cuts.size(), counts.most_items);
  EXPECT_GE(counts.cut, 5);
  EXPECT_GE(counts.most_items, 8);
}

INSTANTIATE_TEST_SUITE_P(, SinkCuts, ::testing::Range<size_t>(0, sink_cases().size()), [](const auto& param) {
  const SinkCase c = sink_cases()[param.param];
  return std::string(c.name) + (c.shape.qo_lens[0] == 1 ? "Decode" : "Prefill");
});

}  // namespace
}  // namespace lathe::testing
