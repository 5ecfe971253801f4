#include "lathe/spec/expr/range.h"

#include <gtest/gtest.h>

#include "expression_cases.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/variation.h"
#include "lathe/testing/seed.h"

namespace lathe::expr {
namespace {

using testing::Rng;

/// Every node of random expressions, under random values, against its range.
TEST(Ranges, HoldEveryValue) {
  Rng rng(lathe::testing::seed());
  testing::CaseCounts counts;
  for (int i = 0; i < 8'000; ++i) ASSERT_EQ(testing::check_ranges(rng, counts), "") << lathe::testing::repeat_command();
  EXPECT_GT(counts.narrow, 100'000) << "hardly any range says anything";
  EXPECT_GT(counts.odd, 10'000) << "hardly any float is infinite or NaN";
}

TEST(Ranges, TakeWhatTheCallerKnows) {
  const Hooks hooks = *parse("param W:i32 in [0, 100]; mask = q_pos - kv_pos < W");
  const Id difference = hooks.graph[hooks.root(Hook::mask)].args[0];
  const std::vector<Range> known = ranges(hooks, [&](Id leaf) -> std::optional<Range> {
    const Node& node = hooks.graph[leaf];
    if (node.op != Op::input) return std::nullopt;
    return static_cast<Input>(node.value) == Input::q_pos ? Range{200, 263} : Range{0, 63};
  });
  EXPECT_EQ(known[difference].lo, 137);
  EXPECT_EQ(known[difference].hi, 263);
  EXPECT_EQ(known[hooks.root(Hook::mask)].hi, 0) << "never seen within this tile";
}

TEST(Ranges, FollowPositionMaps) {
  const Hooks hooks = *parse("kv_pos := kv // 4096; mask = kv_pos < 5000");
  EXPECT_EQ(ranges(hooks)[hooks.root(Hook::mask)].lo, 1);
}

TEST(Variations, AreThoseOfWhatIsUsed) {
  struct Case {
    const char* text;
    Hook hook;
    Variation variation;
  };
  const Case cases[] = {
      {"param W:i32; mask = kv_len < W", Hook::mask, Variation::kernel},
      {"tensor t:i32[B]; mask = t[b] < 3", Hook::mask, Variation::kernel},
      {"tensor t:i32[HQ]; mask = t[h] < q", Hook::mask, Variation::row},
      {"mask = kv % 3 == 0", Hook::mask, Variation::column},
      {"mask = kv_pos <= q_pos", Hook::mask, Variation::element},
      {"kv_pos := level; mask = kv_pos <= q_pos", Hook::mask, Variation::row},
      {"q_pos := level; mask = kv_pos <= q_pos", Hook::mask, Variation::column},
      {"logits = score", Hook::logits, Variation::element},
      {"lse_transform = lse * 2", Hook::lse_transform, Variation::row},
  };
  for (const Case& c : cases) {
    const Hooks hooks = *parse(c.text);
    EXPECT_EQ(variations(hooks)[hooks.root(c.hook)], c.variation) << c.text;
  }
}

}  // namespace
}  // namespace lathe::expr
