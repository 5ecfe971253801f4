// Common pages: found wherever they are, shared where that pays by the planner's costs, and never to a plan's disadvantage.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "lathe/testing/seed.h"
#include "plan_cases.h"
#include "sharing_check.h"

namespace lathe::testing {
namespace {

using ::testing::HasSubstr;

// A batch with page tables.
struct TableBatch {
  RandomBatch lengths;
  std::vector<int32_t> kv_begin, page_ids;

  PlanBatch view(bool share = true) const {
    PlanBatch out{lengths.qo_indptr, lengths.kv_lens, kv_begin, 1};
    if (share) out.page_ids = page_ids;
    return out;
  }
  // A request with the first `common` pages of request `other`.
  void add(int32_t qo_len, int32_t kv_len, int32_t page_size, int32_t other = 0, int32_t common = 0) {
    const int32_t begin = static_cast<int32_t>(page_ids.size());
    for (int32_t i = 0; i < (kv_len + page_size - 1) / page_size; ++i)
      page_ids.push_back(i < common ? page_ids[static_cast<size_t>(kv_begin[other] + i)] : next_page++);
    lengths.add(qo_len, kv_len);
    kv_begin.push_back(begin);
  }
  int32_t next_page = 0;
};

TableBatch random_tables(std::mt19937_64& rng, int32_t page_size) {
  TableBatch batch;
  const int32_t size = draw_int(rng, 0, 30), longest = draw_int(rng, 1, 6000);
  for (int32_t b = 0; b < size; ++b) {
    const int32_t kv = draw_length(rng, longest), qo = draw_int(rng, 0, 4) > 0 ? 1 : draw_length(rng, 200);
    const int32_t other = b == 0 ? 0 : draw_int(rng, 0, 2) == 0 ? 0 : draw_int(rng, 0, b - 1);
    const int32_t common = b == 0 || draw_int(rng, 0, 4) == 0 ? 0 : batch.lengths.kv_lens[other] / page_size;
    const int32_t taken = draw_int(rng, 0, 2) == 0 ? draw_int(rng, 0, common) : common;
    batch.add(qo, draw_int(rng, 0, 1) == 0 ? kv : taken * page_size + draw_length(rng, 300), page_size, other, std::min(taken, kv));
  }
  return batch;
}

PlanShape sharing_shape(std::mt19937_64& rng) {
  PlanShape shape;
  do {
    shape = random_shape(rng);
  } while (shape.spec.windowed());
  shape.spec.layout = {.page_size = 1 << draw_int(rng, 0, 6)};
  shape.spec.split_kv = {};
  shape.spec.determinism = Determinism::run_to_run;
  return shape;
}

TEST(Sharing, RandomTablesAreCoveredAndNeverSlower) {
  std::mt19937_64 rng(seed());
  AttentionPlan plan, apart;
  int shared = 0;
  for (int i = 0; i < 1000; ++i) {
    const PlanShape shape = sharing_shape(rng);
    const TableBatch batch = random_tables(rng, shape.spec.layout.page_size);
    Status status = plan_attention(shape, batch.view(), nullptr, plan);
    ASSERT_TRUE(status.ok()) << status.to_string();
    ASSERT_EQ(check_sharing(shape, batch.view(), plan), "") << print(shape) << "\n"
                                                            << print(batch.lengths) << "\n"
                                                            << repeat_command();
    ASSERT_TRUE(plan_attention(shape, batch.view(false), nullptr, apart).ok());
    ASSERT_LE(load_of(shape, plan).longest, load_of(shape, apart).longest) << print(shape) << "\n" << print(batch.lengths);
    shared += plan.num_shared_tiles > 0 ? 1 : 0;
  }
  EXPECT_GT(shared, 200);
}

// 16 decodes behind 4,096 common keys, half of them with 4,096 more.
TableBatch two_levels(int32_t page_size) {
  TableBatch batch;
  for (int32_t b = 0; b < 16; ++b) batch.add(1, b < 8 ? 8400 : 4300, page_size, 0, b == 0 ? 0 : (b < 8 ? 8192 : 4096) / page_size);
  return batch;
}

TEST(Sharing, ATreeIsReadOncePerNode) {
  const PlanShape shape = llama_shape();
  const TableBatch batch = two_levels(shape.spec.layout.page_size);
  Result<AttentionPlan> plan = plan_attention(shape, batch.view());
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  ASSERT_EQ(plan->sharing.keys.size(), 2u);
  EXPECT_EQ(plan->sharing.keys[0].key_end, 4096);
  EXPECT_EQ(plan->sharing.keys[0].num_members, 16);
  EXPECT_EQ(plan->sharing.keys[1].key_begin, 4096);
  EXPECT_EQ(plan->sharing.keys[1].key_end, 8192);
  EXPECT_EQ(plan->sharing.keys[1].num_members, 8);
  EXPECT_EQ(plan->num_shared_tiles, 2 * 8);
  EXPECT_EQ(check_sharing(shape, batch.view(), *plan), "");
}

// Where nothing pays: short common pages, tiles that are full, a single request.
TEST(Sharing, NotWhereItDoesNotPay) {
  const PlanShape shape = llama_shape();
  const int32_t size = shape.spec.layout.page_size;
  TableBatch brief, full, single;
  for (int32_t b = 0; b < 4; ++b) brief.add(1, 2000, size, 0, b == 0 ? 0 : 1);
  for (int32_t b = 0; b < 4; ++b) full.add(512, 8000, size, 0, b == 0 ? 0 : 256);
  single.add(1, 100'000, size);
  for (const TableBatch* batch : {&brief, &full, &single}) {
    Result<AttentionPlan> plan = plan_attention(shape, batch->view());
    ASSERT_TRUE(plan.ok());
    EXPECT_EQ(plan->num_shared_tiles, 0) << print(batch->lengths);
  }
}

TEST(Sharing, NeverUnderBatchInvariantOrGivenSplitsOrWindows) {
  for (const int which : {0, 1, 2, 3}) {
    PlanShape shape = llama_shape(which == 3 ? Mask::causal_window : Mask::causal);
    if (which == 0) shape.spec.determinism = Determinism::batch_invariant;
    if (which == 1) shape.spec.split_kv = {SplitMode::off, 0};
    if (which == 2) shape.spec.split_kv = {SplitMode::fixed, 1024};
    const TableBatch batch = two_levels(shape.spec.layout.page_size);
    Result<AttentionPlan> plan = plan_attention(shape, batch.view());
    ASSERT_TRUE(plan.ok()) << plan.status().to_string();
    EXPECT_EQ(plan->num_shared_tiles, 0);
  }
}

// A workspace without room for it serves the batch all the same.
TEST(Sharing, FallsBackWhereTheWorkspaceHasNoRoom) {
  const PlanShape shape = llama_shape();
  const TableBatch batch = two_levels(shape.spec.layout.page_size);
  AttentionPlan plan;
  ASSERT_TRUE(plan_attention(shape, batch.view(false), nullptr, plan).ok());
  const WorkspaceLayout tight = plan.workspace;
  const Result<WorkspaceLayout> roomy = workspace_bound(shape, {16, 16, 8400, true});
  ASSERT_TRUE(roomy.ok());
  for (const WorkspaceLayout& layout : {tight, *roomy}) {
    const Status status = plan_attention(shape, batch.view(), &layout, plan);
    ASSERT_TRUE(status.ok()) << status.to_string();
    EXPECT_EQ(plan.num_shared_tiles > 0, layout == *roomy);
    EXPECT_EQ(check_sharing(shape, batch.view(), plan), "");
  }
}

TEST(Sharing, BadPrefixesAreNamed) {
  PlanShape shape = llama_shape();
  TableBatch batch = two_levels(shape.spec.layout.page_size);
  const auto refused = [&](std::vector<SharedPrefix> prefixes) {
    PlanBatch view = batch.view(false);
    view.prefixes = prefixes;
    AttentionPlan plan;
    const Status status = plan_attention(shape, view, nullptr, plan);
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(plan.image_bytes, 0u);
    return status.to_string();
  };
  EXPECT_THAT(refused({{-1, 2, 0, 16}}), HasSubstr("prefixes[0]: is of requests [-1, 1)"));
  EXPECT_THAT(refused({{0, 17, 0, 16}}), HasSubstr("must be at least one of [0, 16)"));
  EXPECT_THAT(refused({{0, 2, 0, 16}, {0, 0, 0, 16}}), HasSubstr("prefixes[1]"));
  EXPECT_THAT(refused({{0, 2, 0, -3}}), HasSubstr("kv_len: is -3"));
  EXPECT_THAT(refused({{0, 2, 0, 0}}), HasSubstr("kv_len: is 0"));
  EXPECT_THAT(refused({{0, 2, -7, 16}}), HasSubstr("kv_begin: is -7"));
  EXPECT_THAT(refused({{0, 2, INT32_MAX, 16}}), HasSubstr("kv_begin: is 2147483647"));
  EXPECT_THAT(refused(std::vector<SharedPrefix>(5, {3, 2, 0, 16})), HasSubstr("is the 5th of request 3; a request has at most 4"));
  shape.spec.determinism = Determinism::batch_invariant;
  EXPECT_THAT(refused({{0, 2, 0, 16}}), HasSubstr("batch_invariant"));
}

TEST(Sharing, PageTablesThatAreTooShortAreNamed) {
  const PlanShape shape = llama_shape();
  TableBatch batch = two_levels(shape.spec.layout.page_size);
  batch.page_ids.pop_back();
  AttentionPlan plan;
  const Status status = plan_attention(shape, batch.view(), nullptr, plan);
  EXPECT_THAT(status.to_string(), HasSubstr("request 15 needs"));
}

}  // namespace
}  // namespace lathe::testing
