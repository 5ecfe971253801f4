#include "lathe/spec/expr/range.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>

#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/expr/variation.h"
#include "lathe/testing/seed.h"
#include "random_hooks.h"

namespace lathe::expr {
namespace {

using testing::RandomEnvironment;
using testing::Rng;

/// Every node of random expressions, under random values, against its range.
TEST(Ranges, HoldEveryValue) {
  Rng rng(lathe::testing::seed());
  size_t narrow = 0;
  for (int i = 0; i < 8'000; ++i) {
    const Hook hook = std::array{Hook::mask, Hook::logits, Hook::q_pos}[rng() % 3];
    const Hooks hooks = testing::random_hooks(rng, hook, 1 + static_cast<int>(rng() % 16));
    const std::vector<Range> known = ranges(hooks);
    for (int n = 0; n < 6; ++n) {
      const RandomEnvironment environment(hooks, rng);
      std::vector<bool> finite(hooks.graph.size());  // and so is all that it is made of
      for (Id id = 0; id < hooks.graph.size(); ++id) {
        const Node& node = hooks.graph[id];
        const Value value = interpret(hooks, id, environment);
        const double number = node.type == Type::f32   ? value.f
                              : node.type == Type::u32 ? static_cast<double>(static_cast<uint32_t>(value.i))
                                                       : static_cast<double>(value.i);
        finite[id] = std::fabs(number) <= FLT_MAX;
        for (Id arg : node.operands()) finite[id] = finite[id] && finite[arg];
        if (!finite[id]) continue;  // only infinities that are written down are followed
        const double slack = node.type == Type::f32 ? 1e-6 * std::fabs(number) : 0;
        ASSERT_TRUE(known[id].lo <= number + slack && number - slack <= known[id].hi)
            << to_text(hooks, id, 4096) << " is " << number << ", outside [" << known[id].lo << ", " << known[id].hi << "]\n"
            << lathe::testing::repeat_command();
        narrow += known[id].hi - known[id].lo < 1e6 ? 1 : 0;
      }
    }
  }
  EXPECT_GT(narrow, 100'000u) << "hardly any range says anything";
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
