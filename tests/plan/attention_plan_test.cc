#include "lathe/plan/attention_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lathe/plan/attention_image.h"
#include "plan_cases.h"
#include "plan_check.h"

namespace lathe::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

RandomBatch lengths(std::vector<std::pair<int32_t, int32_t>> qo_kv, int32_t window = 1) {
  RandomBatch batch;
  batch.window = window;
  for (auto [qo_len, kv_len] : qo_kv) batch.add(qo_len, kv_len);
  return batch;
}

// One head, so that each line is one tile.
PlanShape small_shape(Mask mask, int32_t group = 1) {
  PlanShape shape = llama_shape(mask);
  shape.spec.group_size = group;
  shape.spec.split_kv.mode = SplitMode::off;
  shape.num_kv_heads = 1;
  shape.num_ctas = 4;
  return shape;
}

AttentionPlan planned(const PlanShape& shape, const RandomBatch& batch) {
  OwnedBatch owned(batch);
  Result<AttentionPlan> plan = plan_attention(shape, owned.view());
  EXPECT_TRUE(plan.ok()) << plan.status().to_string();
  EXPECT_EQ(check_plan(shape, owned.view(), *plan), "");
  return *plan;
}

TEST(AttentionPlan, EmptyBatch) {
  PlanShape shape = llama_shape();
  AttentionPlan plan = planned(shape, {});
  EXPECT_EQ(plan.num_items, 0);
  EXPECT_EQ(load_of(shape, plan).total, 0);
  EXPECT_EQ(plan.workspace.partial_o, 0u);
}

TEST(AttentionPlan, RequestsWithoutQueriesHaveNoItem) {
  PlanShape shape = small_shape(Mask::causal);
  AttentionPlan plan = planned(shape, lengths({{0, 100}, {1, 100}, {0, 0}}));
  EXPECT_EQ(plan.num_items, 1);
  EXPECT_EQ(view_plan(plan.bytes()).items[0].request, 1);
}

TEST(AttentionPlan, RowsWithoutKeysHaveAnEmptyItem) {
  PlanShape shape = small_shape(Mask::none);
  EXPECT_THAT(items_of_request(shape, planned(shape, lengths({{3, 0}})), 0),
              ElementsAre("head 0 row 0 class 1 keys [0, 0) part 0 of 1"));
  // Bottom-right alignment: of 300 queries over 20 keys only the last 20 see any, all in the third tile.
  shape = small_shape(Mask::causal);
  EXPECT_THAT(items_of_request(shape, planned(shape, lengths({{300, 20}})), 0),
              ElementsAre("head 0 row 0 class 0 keys [0, 0) part 0 of 1", "head 0 row 128 class 0 keys [0, 0) part 0 of 1",
                          "head 0 row 256 class 0 keys [0, 20) part 0 of 1"));
}

TEST(AttentionPlan, CausalTilesEndAtTheirLastRow) {
  PlanShape shape = small_shape(Mask::causal);
  EXPECT_THAT(items_of_request(shape, planned(shape, lengths({{256, 1000}})), 0),
              ElementsAre("head 0 row 0 class 0 keys [0, 872) part 0 of 1", "head 0 row 128 class 0 keys [0, 1000) part 0 of 1"));
}

TEST(AttentionPlan, WindowTilesBeginAtTheirFirstRow) {
  PlanShape shape = small_shape(Mask::causal_window);
  // Row 0 is at position 744 and sees from 744 - 99 = 645 on, row 128 from 773 on; both rounded down to 16.
  EXPECT_THAT(
      items_of_request(shape, planned(shape, lengths({{256, 1000}}, 100)), 0),
      ElementsAre("head 0 row 0 class 0 keys [640, 872) part 0 of 1", "head 0 row 128 class 0 keys [768, 1000) part 0 of 1"));
  shape = small_shape(Mask::window);  // the future stays visible
  EXPECT_THAT(items_of_request(shape, planned(shape, lengths({{1, 1000}}, 10)), 0),
              ElementsAre("head 0 row 0 class 1 keys [976, 1000) part 0 of 1"));
  EXPECT_THAT(items_of_request(shape, planned(shape, lengths({{1, 1000}}, 2147483647)), 0),
              ElementsAre("head 0 row 0 class 1 keys [0, 1000) part 0 of 1"));
}

TEST(AttentionPlan, ClassFollowsPackedRows) {
  PlanShape shape = small_shape(Mask::none, 4);
  auto class_of = [&](int32_t qo_len) {
    const AttentionPlan plan = planned(shape, lengths({{qo_len, 8}}));
    return static_cast<int>(view_plan(plan.bytes()).items[0].tile_class);
  };
  EXPECT_EQ(class_of(1), 1);
  EXPECT_EQ(class_of(4), 1) << "16 rows fill the short class";
  EXPECT_EQ(class_of(5), 0) << "20 rows would read the keys twice";
  EXPECT_EQ(class_of(1000), 0);
  shape.tile.packed = false;
  EXPECT_EQ(class_of(16), 1);
  EXPECT_EQ(class_of(17), 0);
}

TEST(AttentionPlan, UnpackedItemsIterateQueryHeads) {
  PlanShape shape = small_shape(Mask::none, 4);
  EXPECT_EQ(num_tiles_and_parts(planned(shape, lengths({{1, 50}}))), 1);
  shape.tile.packed = false;
  EXPECT_EQ(num_tiles_and_parts(planned(shape, lengths({{1, 50}}))), 4);
}

TEST(AttentionPlan, FixedSplitsAtAbsoluteMultiples) {
  PlanShape shape = small_shape(Mask::causal_window);
  shape.spec.split_kv = {SplitMode::fixed, 100};
  EXPECT_THAT(items_of_request(shape, planned(shape, lengths({{1, 310}}, 200)), 0),
              ElementsAre("head 0 row 0 class 1 keys [100, 200) part 0 of 3", "head 0 row 0 class 1 keys [200, 300) part 1 of 3",
                          "head 0 row 0 class 1 keys [300, 310) part 2 of 3"))
      << "the window begins at 110, rounded down to 96";
}

TEST(AttentionPlan, AutomaticSplitSharesOneLongRequest) {
  PlanShape shape = llama_shape();
  AttentionPlan plan = planned(shape, lengths({{1, 100'000}}));
  EXPECT_EQ(plan.num_split_tiles, 8);
  EXPECT_GE(num_tiles_and_parts(plan), 8 * 16);
  EXPECT_LE(num_tiles_and_parts(plan), 2 * shape.num_ctas);
  shape.spec.determinism = Determinism::batch_invariant;
  EXPECT_EQ(planned(shape, lengths({{1, 100'000}})).num_split_tiles, 0);
}

// Without cuts every tile is alone: none of them is worth the price of a merge.
TEST(AttentionPlan, DoesNotCutWhatFitsOneBlockEach) {
  EXPECT_EQ(planned(llama_shape(), lengths({{1, 60}, {1, 50}, {1, 70}})).num_split_tiles, 0);
}

TEST(AttentionPlan, PlansIntoTheSameMemory) {
  PlanShape shape = llama_shape();
  OwnedBatch large(lengths({{1, 30'000}, {500, 7000}, {1, 30'000}})), small(lengths({{1, 300}}));
  AttentionPlan plan;
  ASSERT_TRUE(plan_attention(shape, large.view(), nullptr, plan).ok());
  const std::byte* image = plan.image.data();
  ASSERT_TRUE(plan_attention(shape, small.view(), nullptr, plan).ok());
  EXPECT_EQ(plan.image.data(), image);
  EXPECT_EQ(check_plan(shape, small.view(), plan), "");
  const AttentionPlan fresh = planned(shape, small.lengths);
  EXPECT_EQ(first_difference(plan.bytes(), fresh.bytes()), "");
}

TEST(AttentionPlan, LongRequestsAndManyRequests) {
  PlanShape shape = llama_shape();
  planned(shape, lengths({{1, 1 << 20}}));
  planned(shape, lengths({{1 << 16, 1 << 20}}));
  RandomBatch many;
  for (int32_t b = 0; b < 4096; ++b) many.add(1 + b % 3, 10 + b);
  planned(shape, many);
}

TEST(AttentionPlan, WorkspaceHoldsExactlyWhatIsUsed) {
  PlanShape shape = small_shape(Mask::none);
  shape.spec.split_kv = {SplitMode::fixed, 128};
  AttentionPlan plan = planned(shape, lengths({{5, 1000}}));  // 8 parts of 5 rows
  EXPECT_EQ(plan.partial_rows, 8 * 5);
  EXPECT_EQ(plan.workspace.partial_o, size_t{8 * 5 * 128 * 4});
  EXPECT_EQ(plan.workspace.partial_lse, round_up<size_t>(8 * 5 * 4, 256));
  EXPECT_EQ(plan.workspace.counters, 256u);
  EXPECT_EQ(plan.workspace.plan, round_up<size_t>(plan.image_bytes, 256));
}

TEST(WorkspaceBound, IsTwoTilesForEachBlockWhateverTheLengths) {
  PlanShape shape = llama_shape();
  Result<WorkspaceLayout> bound = workspace_bound(shape, {256, 4096, 0});
  ASSERT_TRUE(bound.ok());
  EXPECT_EQ(bound->partial_o, size_t{2 * 132 * 128 * 128 * 4});
  EXPECT_EQ(workspace_bound(shape, {256, 4096, 1 << 30})->total(), bound->total());
  shape.spec.split_kv.mode = SplitMode::off;
  EXPECT_EQ(workspace_bound(shape, {256, 4096, 0})->partial_o, 0u);
}

TEST(WorkspaceBound, RefusesABatchThatIsLarger) {
  PlanShape shape = llama_shape();
  Result<WorkspaceLayout> bound = workspace_bound(shape, {4, 64, 0});
  ASSERT_TRUE(bound.ok());
  OwnedBatch fits(lengths({{1, 30'000}, {50, 7000}, {1, 3}, {12, 13}})), large(lengths({{9000, 9000}}));
  AttentionPlan plan;
  ASSERT_TRUE(plan_attention(shape, fits.view(), &*bound, plan).ok());
  EXPECT_EQ(plan.workspace, *bound);
  Status refused = plan_attention(shape, large.view(), &*bound, plan);
  EXPECT_THAT(refused.to_string(), HasSubstr("workspace.plan: of this batch needs"));
  EXPECT_EQ(plan.image_bytes, 0u);
}

TEST(WorkspaceBound, HoldsAMergeGroupForEachTileCutInTwo) {
  PlanShape shape = llama_shape();
  shape.num_kv_heads = 1;
  shape.num_ctas = 400;
  RandomBatch batch;
  for (int32_t b = 0; b < 300; ++b) batch.add(1, 20'000);
  AttentionPlan plan = planned(shape, batch);
  ASSERT_GE(plan.num_split_tiles, 200);
  EXPECT_GE(workspace_bound(shape, {300, 300, 0})->counters, plan.workspace.counters);
}

TEST(WorkspaceBound, RefusesBoundsThatCannotBe) {
  PlanShape shape = llama_shape();
  EXPECT_THAT(workspace_bound(shape, {-1, -2, -3}).status().to_string(),
              ::testing::AllOf(HasSubstr("max_batch: is -1"), HasSubstr("max_qo_tokens: is -2"), HasSubstr("max_kv_len: is -3")));
  EXPECT_THAT(workspace_bound(shape, {1, int64_t{1} << 40, 0}).status().to_string(), HasSubstr("with 32 heads"));
  shape.spec.split_kv = {SplitMode::fixed, 1};
  EXPECT_THAT(workspace_bound(shape, {1 << 20, 1 << 20, 2147483647}).status().to_string(), HasSubstr("work items"));
}

// Bad input: each is named with its value.
std::string refusal(const PlanShape& shape, const PlanBatch& batch) {
  Result<AttentionPlan> plan = plan_attention(shape, batch);
  EXPECT_FALSE(plan.ok());
  EXPECT_EQ(plan.status().code(), Code::invalid_argument);
  return plan.status().to_string();
}

TEST(AttentionPlanInput, SizesThatDisagree) {
  std::vector<int32_t> three{0, 1, 2}, two{5, 5}, none;
  EXPECT_THAT(refusal(llama_shape(), {three, three, three, 0}),
              HasSubstr("qo_indptr: has 3 entries; kv_lens has 3, so it must have 4"));
  EXPECT_THAT(refusal(llama_shape(), {three, two, three, 0}),
              HasSubstr("kv_begin: has 3 entries; must have as many as kv_lens, 2"));
  EXPECT_THAT(refusal(llama_shape(), {none, none, none, 0}), HasSubstr("qo_indptr: has 0 entries"));
}

TEST(AttentionPlanInput, EveryBadLengthAtOnce) {
  std::vector<int32_t> indptr{1, 5, 3, 4}, kv_lens{-7, 8, 2147483647}, kv_begin{0, -9, 0};
  std::string text = refusal(llama_shape(), {indptr, kv_lens, kv_begin, 0});
  EXPECT_THAT(text, HasSubstr("qo_indptr[0]: is 1; must be 0"));
  EXPECT_THAT(text, HasSubstr("qo_indptr[2]: is 3 after 5: request 1"));
  EXPECT_THAT(text, HasSubstr("kv_lens[0]: is -7"));
  EXPECT_THAT(text, HasSubstr("kv_begin[1]: is -9"));
  EXPECT_THAT(text, HasSubstr("kv_lens[2]: is 2147483647"));
}

TEST(AttentionPlanInput, ProductsPast31Bits) {
  std::vector<int32_t> indptr{0, 100'000'000}, kv_lens{1}, kv_begin{0};
  EXPECT_THAT(refusal(llama_shape(), {indptr, kv_lens, kv_begin, 0}), HasSubstr("100000000 query tokens x 32 heads"));
  PlanShape ragged = llama_shape();
  ragged.spec.layout.kind = LayoutKind::ragged;
  indptr = {0, 1};
  kv_lens = {1000};
  kv_begin = {2147483647 - 999};
  EXPECT_THAT(refusal(ragged, {indptr, kv_lens, kv_begin, 0}), HasSubstr("with 1000 tokens of request 0 it passes 2^31 - 1"));
  PlanShape paged = llama_shape();  // 63 pages of 16
  EXPECT_TRUE(plan_attention(paged, {indptr, kv_lens, kv_begin, 0}).ok());
  kv_begin = {2147483647 - 62};
  EXPECT_THAT(refusal(paged, {indptr, kv_lens, kv_begin, 0}), HasSubstr("with 63 pages"));
}

TEST(AttentionPlanInput, MoreItemsThanAPlanLists) {
  PlanShape shape = llama_shape(Mask::none);
  shape.spec.group_size = 1;
  shape.tile.packed = false;
  shape.tile.classes = {{16, 128}};
  shape.num_kv_heads = 1;
  std::vector<int32_t> indptr{0, 2'000'000'000}, kv_lens{1}, kv_begin{0};
  EXPECT_THAT(refusal(shape, {indptr, kv_lens, kv_begin, 0}),
              HasSubstr("makes more than the 33554432 work items of a plan, at request 0"));
  indptr = {0, 1};
  kv_lens = {100'000'000};
  shape.spec.split_kv = {SplitMode::fixed, 1};
  EXPECT_THAT(refusal(shape, {indptr, kv_lens, kv_begin, 0}),
              HasSubstr("makes more than the 33554432 work items of a plan, at request 0"));
}

TEST(AttentionPlanInput, MoreWorkThanCostsHold) {
  PlanShape shape = llama_shape(Mask::none);
  shape.spec.head_dim_qk = shape.spec.head_dim_vo = 256;
  std::vector<int32_t> indptr{0, 67'000'000}, kv_lens{2'000'000'000}, kv_begin{0};
  EXPECT_THAT(refusal(shape, {indptr, kv_lens, kv_begin, 0}),
              HasSubstr("rows x keys of the batch pass what one plan can balance, at request 0"));
}

TEST(AttentionPlanInput, MorePartialRowsThanIndicesReach) {
  PlanShape shape = llama_shape(Mask::none);
  shape.spec.split_kv = {SplitMode::fixed, 16};
  shape.tile.classes = {{128, 64}};
  std::vector<int32_t> indptr{0, 32}, kv_lens{60'000'000}, kv_begin{0};
  EXPECT_THAT(refusal(shape, {indptr, kv_lens, kv_begin, 0}), HasSubstr("rows of partial states; at most 2^31 - 1"));
}

TEST(AttentionPlanInput, WindowWidth) {
  std::vector<int32_t> indptr{0, 1}, kv_lens{1}, kv_begin{0};
  EXPECT_THAT(refusal(llama_shape(Mask::window), {indptr, kv_lens, kv_begin, 0}), HasSubstr("window: is 0; must be at least 1"));
  EXPECT_TRUE(plan_attention(llama_shape(Mask::causal), {indptr, kv_lens, kv_begin, -5}).ok()) << "not read without a window";
}

TEST(AttentionPlanInput, Shape) {
  PlanShape shape = llama_shape();
  shape.num_kv_heads = 0;
  shape.num_ctas = -1;
  shape.tile.classes.clear();
  std::vector<int32_t> indptr{0}, none;
  std::string text = refusal(shape, {indptr, none, none, 0});
  EXPECT_THAT(text, HasSubstr("num_kv_heads: is 0"));
  EXPECT_THAT(text, HasSubstr("num_ctas: is -1"));
  EXPECT_THAT(text, HasSubstr("tile.classes: is empty"));
  shape = llama_shape();
  shape.num_kv_heads = 2147483647;
  EXPECT_THAT(refusal(shape, {indptr, none, none, 0}), HasSubstr("num_kv_heads * group_size: is 8589934588"));
}

}  // namespace
}  // namespace lathe::testing
