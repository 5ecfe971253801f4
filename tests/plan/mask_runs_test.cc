// Runs of key tiles under a mask of hooks, in plans that must fit a workspace.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "lathe/plan/attention_image.h"
#include "lathe/plan/attention_plan.h"
#include "lathe/spec/expr/parse.h"
#include "plan_cases.h"

namespace lathe::testing {
namespace {

// Every other tile of 64 keys is seen; decode tiles have 128 keys, none of them full or empty.
PlanShape shape_of(const char* mask = "mask = kv // 64 % 2 == 0") {
  PlanShape shape = llama_shape(Mask::none);
  shape.spec.hooks = *expr::parse(mask);
  shape.spec.group_size = 1;
  shape.num_kv_heads = 1;
  return shape;
}

AttentionPlan planned(const PlanShape& shape, const OwnedBatch& batch, const WorkspaceLayout* layout) {
  AttentionPlan plan;
  const Status status = plan_attention(shape, batch.view(), layout, plan);
  EXPECT_TRUE(status.ok()) << status.to_string();
  return plan;
}

std::vector<int32_t> keys_of(const AttentionPlan& plan) {
  std::vector<int32_t> keys;
  for (const abi::AttentionRowBlock& block : plan.row_blocks) keys.push_back(block.kv_end - block.kv_begin);
  return keys;
}

OwnedBatch batch_of(std::vector<std::pair<int32_t, int32_t>> qo_kv) {
  RandomBatch batch;
  for (auto [qo_len, kv_len] : qo_kv) batch.add(qo_len, kv_len);
  return OwnedBatch(std::move(batch));
}

// Sixteen runs a row block were all that an envelope had room for: more were joined, and keys that no row sees were loaded.
TEST(MaskRuns, AreTheSameInAnEnvelope) {
  const PlanShape shape = shape_of();
  const OwnedBatch batch = batch_of({{128, 64 * 90}, {100, 64 * 100}, {3, 100}});
  const AttentionPlan free = planned(shape, batch, nullptr);
  EXPECT_GT(free.key_runs.runs.size(), 90u);
  EXPECT_EQ(keys_of(free), (std::vector<int32_t>{64 * 45, 64 * 50, 100}));
  for (const int64_t max_kv_len : {0, 64 * 100, 1 << 20}) {
    const Result<WorkspaceLayout> layout = workspace_bound(shape, {3, 300, max_kv_len});
    ASSERT_TRUE(layout.ok()) << layout.status().to_string();
    const AttentionPlan bound = planned(shape, batch, &*layout);
    EXPECT_EQ(keys_of(bound), keys_of(free)) << max_kv_len;
    EXPECT_LE(bound.image_bytes, layout->plan);
  }
}

// What one row block does not need of the room is there for others.
TEST(MaskRuns, ShareTheirRoom) {
  const PlanShape shape = shape_of();
  const OwnedBatch batch = batch_of({{128, 64 * 2000}, {1, 1}, {1, 1}, {1, 1}, {1, 1}});
  const AttentionPlan free = planned(shape, batch, nullptr);
  EXPECT_EQ(keys_of(free)[0], 64 * 1000);
  const Result<WorkspaceLayout> layout = workspace_bound(shape, {5, 132, 0});
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(keys_of(planned(shape, batch, &*layout)), keys_of(free));
}

// Where there is no room for all, the nearest are joined: each block still has one, and every key that is seen.
TEST(MaskRuns, AreJoinedWhereThereIsNoRoom) {
  const PlanShape shape = shape_of();
  const OwnedBatch batch = batch_of({{128, 64 * 20000}, {100, 64 * 3}});
  const Result<WorkspaceLayout> layout = workspace_bound(shape, {2, 228, 0});
  ASSERT_TRUE(layout.ok());
  const AttentionPlan plan = planned(shape, batch, &*layout);
  const std::vector<int32_t> keys = keys_of(plan);
  EXPECT_GT(keys[0], 64 * 10000);
  EXPECT_LE(keys[0], 64 * 20000);
  EXPECT_GE(keys[1], 64 * 2);
  EXPECT_LE(plan.image_bytes, layout->plan);
  EXPECT_GT(plan.key_runs.runs.size(), 512u);
}

// A plan had one line of keys for all heads: what any of them sees.
TEST(MaskRuns, OfHeadsThatDifferAreApart) {
  PlanShape shape = shape_of("mask = hk == 1 || kv // 64 % 2 == 0");
  shape.num_kv_heads = 3;
  const OwnedBatch batch = batch_of({{128, 64 * 90}, {3, 100}, {130, 64 * 4}});
  // By request, head and row.
  const std::vector<int32_t> keys{64 * 45, 64 * 90, 64 * 45, 100, 100, 100, 128, 128, 256, 256, 128, 128};
  for (const SplitSpec split : {SplitSpec{}, SplitSpec{SplitMode::off}, SplitSpec{SplitMode::fixed, 256}}) {
    shape.spec.split_kv = split;
    const AttentionPlan free = planned(shape, batch, nullptr);
    EXPECT_EQ(keys_of(free), keys);
    std::vector<int64_t> of_head(3), expected{45 * 64 + 100 + 256, 90 * 64 + 100 + 512, 45 * 64 + 100 + 256};
    for_each_item(view_plan(free.bytes()), [&](int, const abi::AttentionWorkItem& item) {
      for (int h = item.head; h < item.head + item.num_heads; ++h)
        of_head.at(static_cast<size_t>(h)) += item.kv_end - item.kv_begin;
    });
    EXPECT_EQ(of_head, expected);
    const Result<WorkspaceLayout> layout = workspace_bound(shape, {3, 261, 64 * 90});
    ASSERT_TRUE(layout.ok()) << layout.status().to_string();
    const AttentionPlan bound = planned(shape, batch, &*layout);
    EXPECT_EQ(keys_of(bound), keys);
    EXPECT_LE(bound.image_bytes, layout->plan);
  }
}

}  // namespace
}  // namespace lathe::testing
