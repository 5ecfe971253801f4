#include "properties.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "lathe/plan/attention_image.h"
#include "plan_cases.h"
#include "plan_check.h"

namespace lathe::testing {
namespace {

// Fixed(1) on long keys makes a million items that differ in nothing; shorter keys say as much.
BatchLimits limits_for(const PlanShape& shape, std::mt19937_64& rng) {
  BatchLimits limits{6, 200, 3000};
  if (shape.spec.split_kv.mode == SplitMode::fixed && shape.spec.split_kv.tokens < 100)
    limits.max_kv_len = 30 * shape.spec.split_kv.tokens;
  if (shape.spec.group_size > 16) limits.max_qo_len = 20;
  if (draw_int(rng, 0, 63) == 0 && shape.spec.split_kv.mode != SplitMode::fixed) limits.max_kv_len = 1 << 20;
  return limits;
}

void expect_within_bound(const PlanShape& shape, const RandomBatch& lengths, const AttentionPlan& plan, std::mt19937_64& rng) {
  PlanBounds bounds{lengths.size(), lengths.qo_indptr.back(), 0};
  for (int32_t kv_len : lengths.kv_lens) bounds.max_kv_len = std::max<int64_t>(bounds.max_kv_len, kv_len);
  if (draw_int(rng, 0, 1) == 0) {
    bounds.max_batch += draw_int(rng, 0, 5);
    bounds.max_qo_tokens += draw_int(rng, 0, 500);
    bounds.max_kv_len += draw_int(rng, 0, 500);
  }
  Result<WorkspaceLayout> bound = workspace_bound(shape, bounds);
  ASSERT_TRUE(bound.ok()) << bound.status().to_string();
  EXPECT_LE(plan.workspace.plan, bound->plan);
  EXPECT_LE(plan.workspace.counters, bound->counters);
  EXPECT_LE(plan.workspace.partial_o, bound->partial_o);
  EXPECT_LE(plan.workspace.partial_lse, bound->partial_lse);
}

// What a request gets done does not depend on its place or on the rest of the batch, where the spec promises so.
void expect_invariant(const PlanShape& shape, const RandomBatch& lengths, const AttentionPlan& plan) {
  for (int32_t b = 0; b < lengths.size(); ++b) {
    RandomBatch alone;
    alone.window = lengths.window;
    alone.add(lengths.qo_len(b), lengths.kv_lens[b]);
    OwnedBatch owned(alone);
    Result<AttentionPlan> other = plan_attention(shape, owned.view());
    ASSERT_TRUE(other.ok());
    EXPECT_EQ(items_of_request(shape, *other, 0), items_of_request(shape, plan, b)) << "request " << b;
  }
}

// What the cases had in them: a property that nothing exercises proves nothing.
struct Tally {
  int64_t split = 0, several_classes = 0, no_keys = 0;
};

void count(const AttentionPlan& plan, Tally& tally) {
  const PlanView view = view_plan(plan.bytes());
  bool no_keys = false, several_classes = false;
  for (const abi::AttentionWorkItem& item : view.items) {
    no_keys |= item.kv_begin == item.kv_end;
    several_classes |= item.tile_class != view.items[0].tile_class;
  }
  tally.split += plan.num_split_tiles > 0;
  tally.several_classes += several_classes;
  tally.no_keys += no_keys;
}

void expect_properties(uint64_t seed, Tally& tally) {
  std::mt19937_64 rng(seed);
  PlanShape shape = random_shape(rng);
  OwnedBatch owned(random_batch(rng, limits_for(shape, rng)));
  SCOPED_TRACE(::testing::Message() << "case " << seed << ": " << print(shape) << "; " << print(owned.lengths));
  Result<AttentionPlan> plan = plan_attention(shape, owned.view());
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  ASSERT_EQ(check_plan(shape, owned.view(), *plan), "");
  count(*plan, tally);
  expect_within_bound(shape, owned.lengths, *plan, rng);
  switch (draw_int(rng, 0, 15)) {  // each costs as much as all above
    case 0: {
      Result<AttentionPlan> again = plan_attention(shape, owned.view());
      ASSERT_TRUE(again.ok());
      EXPECT_EQ(first_difference(again->bytes(), plan->bytes()), "");
      break;
    }
    case 1:
      if (shape.spec.determinism == Determinism::batch_invariant) expect_invariant(shape, owned.lengths, *plan);
      break;
    default:
      break;
  }
}

}  // namespace

void expect_plan_properties(uint64_t seed, int64_t count) {
  Tally tally;
  for (int64_t i = 0; i < count && !::testing::Test::HasFailure(); ++i) expect_properties(seed + static_cast<uint64_t>(i), tally);
  if (::testing::Test::HasFailure()) return;
  EXPECT_GE(tally.split, count / 8);
  EXPECT_GE(tally.several_classes, count / 50);
  EXPECT_GE(tally.no_keys, count / 50);
}

}  // namespace lathe::testing
