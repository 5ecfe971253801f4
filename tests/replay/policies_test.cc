#include "lathe/replay/policies.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "lathe/replay/page_tables.h"
#include "lathe/replay/simulate.h"
#include "lathe/replay/synthetic.h"
#include "lathe/testing/seed.h"

namespace lathe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

PolicyShape llama(int32_t num_sms = 132) {
  return {.num_qo_heads = 32, .num_kv_heads = 8, .head_dim = 128, .page_size = 16, .num_sms = num_sms};
}

std::unique_ptr<Policy> policy(PolicyKind kind, const PolicyShape& shape) {
  auto made = make_policy(kind, shape);
  EXPECT_TRUE(made.ok()) << made.status().to_string();
  return *std::move(made);
}

Assignment assigned(PolicyKind kind, const PolicyShape& shape, std::span<const int32_t> qo, std::span<const int32_t> kv) {
  Assignment out;
  const auto timed = policy(kind, shape)->assign({qo, kv}, out);
  EXPECT_TRUE(timed.ok()) << timed.status().to_string();
  return out;
}

TEST(Policies, CoverEveryKeyOnce) {
  std::mt19937_64 rng(testing::seed());
  const PolicyShape shapes[] = {llama(), llama(7), {28, 4, 64, 1, 108}, {8, 8, 256, 32, 132}, {6, 2, 96, 16, 16}};
  for (const PolicyShape& shape : shapes) {
    for (const TraceQuantiles& quantiles : published_quantiles()) {
      const std::vector<TraceRequest> trace = draw_requests(quantiles, 30, rng);
      auto simulation = Simulation::make(trace, {16, 512});
      ASSERT_TRUE(simulation.ok());
      std::vector<std::unique_ptr<Policy>> policies;
      for (PolicyKind kind : kPolicies) policies.push_back(policy(kind, shape));
      Step step;
      for (int64_t steps = 0; steps < 60 && simulation->next(step); ++steps) {
        if (rng() % 3 != 0) continue;
        for (size_t i = 0; i < policies.size(); ++i) {
          Assignment out;
          ASSERT_TRUE(policies[i]->assign({step.qo_lens, step.kv_lens}, out).ok());
          const EvaluatedBatch batch = shape.batch(step.qo_lens, step.kv_lens);
          ASSERT_EQ(coverage_problem(batch, out), "") << name_of(kPolicies[i]) << " step " << step.index << "\n"
                                                      << testing::repeat_command();
          const Evaluation e = evaluate(batch, out);
          EXPECT_GE(e.imbalance(), 1 - 1e-9);
          EXPECT_GE(e.efficiency_loss(), 1 - 1e-9);
        }
      }
    }
  }
}

// 40 decodes behind the same 512 pages: read once for each 32 of them, by the tile of 128 rows.
TEST(Policies, SharedReadsCommonPagesOnce) {
  std::vector<int32_t> qo(40, 1), kv, pages;
  int32_t next = 512;
  for (int32_t b = 0; b < 40; ++b) {
    kv.push_back(512 * 16 + 100 + b);
    for (int32_t p = 0; p < (kv.back() + 15) / 16; ++p) pages.push_back(p < 512 ? p : next++);
  }
  const PolicyShape shape = llama();
  Assignment apart, together;
  ASSERT_TRUE(policy(PolicyKind::ours, shape)->assign({qo, kv, pages}, apart).ok());
  ASSERT_TRUE(policy(PolicyKind::shared, shape)->assign({qo, kv, pages}, together).ok());
  const EvaluatedBatch batch = shape.batch(qo, kv);
  int64_t own = 0;
  for (int32_t kv_len : kv) own += kv_len - 512 * 16;
  EXPECT_FALSE(apart.shares);
  EXPECT_TRUE(together.shares);
  EXPECT_EQ(evaluate(batch, apart).kv_bytes, kv_bytes(batch, own + 40 * 512 * 16));
  EXPECT_EQ(evaluate(batch, together).kv_bytes, kv_bytes(batch, own + 2 * 512 * 16));
  EXPECT_LT(evaluate(batch, together).longest_us, evaluate(batch, apart).longest_us / 4);
}

TEST(PageTables, PagesThatRequestsHaveInCommonCountOnce) {
  const std::vector<TraceRequest> trace{{.input = 1030, .output = 50, .hash_ids = {7, 8, 9}},
                                        {.input = 1100, .output = 50, .hash_ids = {7, 8, 10}},
                                        {.input = 600, .output = 50, .hash_ids = {7, 11}}};
  auto tables = PageTables::make(trace, 16);
  ASSERT_TRUE(tables.ok()) << tables.status().to_string();
  Step step;
  step.requests = {0, 1, 2};
  step.qo_lens = {1, 1, 1};
  step.kv_lens = {1035, 1101, 605};
  for (int i = 0; i < 2; ++i) {
    tables->lay_out(step);
    EXPECT_EQ(tables->page_ids().size(), 65u + 69 + 38);
    EXPECT_EQ(tables->distinct_keys(), 1035 + (1101 - 1024) + (605 - 512));
  }
}

TEST(Policies, NoSplitCutsNothing) {
  const std::vector<int32_t> qo{1, 300}, kv{100000, 300};
  const Assignment out = assigned(PolicyKind::no_split, llama(), qo, kv);
  for (const Piece& piece : out.pieces) EXPECT_FALSE(piece.partial);
  EXPECT_EQ(out.num_ctas, 132);
}

TEST(UniformChunk, TileFollowsTheAverage) {
  const auto rows = [](std::vector<int32_t> qo) {
    const std::vector<int32_t> kv(qo.size(), 4096);
    return assigned(PolicyKind::uniform_chunk, llama(), qo, kv).pieces.front().rows;
  };
  EXPECT_EQ(rows({1, 1, 1}), 16);
  EXPECT_EQ(rows({4, 4}), 16);
  EXPECT_EQ(rows({5, 4}), 64);
  EXPECT_EQ(rows({16, 16}), 64);
  EXPECT_EQ(rows({17, 16}), 128);
}

TEST(UniformChunk, NoCutFromTheBudgetOn) {
  // 2 * 132 / 8 = 33 tiles.
  const std::vector<int32_t> one(33, 1), long_first = [] {
    std::vector<int32_t> kv(33, 1024);
    kv[0] = 65536;
    return kv;
  }();
  const Assignment whole = assigned(PolicyKind::uniform_chunk, llama(), one, long_first);
  EXPECT_EQ(whole.pieces.size(), 33u * 8);
  EXPECT_EQ(whole.workspace_bytes, 0);
  const Assignment cut = assigned(PolicyKind::uniform_chunk, llama(), std::span(one).first(32), std::span(long_first).first(32));
  // Two parts are left for the long request: chunks of half its length, in pages.
  EXPECT_EQ(cut.pieces.size(), 33u * 8);
  EXPECT_EQ(std::ranges::count_if(cut.pieces, [](const Piece& p) { return p.partial; }), 16);
  EXPECT_EQ(cut.pieces.front().kv_end, 32768);
  EXPECT_EQ(cut.workspace_bytes, int64_t{33} * 16 * 32 * 129 * 4);
}

TEST(UniformChunk, ChunksAreAsShortAsTheBudgetAllows) {
  const std::vector<int32_t> one(4, 1), kv(4, 8192);
  const Assignment out = assigned(PolicyKind::uniform_chunk, llama(), one, kv);
  // 33 / 4 = 8 parts each, of 1024 tokens.
  EXPECT_EQ(out.pieces.size(), 4u * 8 * 8);
  EXPECT_EQ(out.pieces.front().kv_end, 1024);
  EXPECT_EQ(out.num_ctas, 264);
  const std::vector<int32_t> few{1}, short_kv{300};
  const Assignment at_least = assigned(PolicyKind::uniform_chunk, llama(), few, short_kv);
  EXPECT_EQ(at_least.pieces.front().kv_end, 128);
  EXPECT_EQ(at_least.pieces.size(), 3u * 8);
}

// The published model of this formula: 264 slots, token work only.
TEST(UniformChunk, LossesAreOfThePublishedSize) {
  const auto loss = [](SyntheticKind kind, int32_t batch) {
    std::mt19937_64 rng(1);
    const std::vector<int32_t> kv = synthetic_batch(kind, batch, 4096, rng), qo(kv.size(), 1);
    return evaluate(llama().batch(qo, kv), assigned(PolicyKind::uniform_chunk, llama(), qo, kv)).efficiency_loss();
  };
  EXPECT_NEAR(loss(SyntheticKind::one_long, 64), 16.9, 0.5);
  EXPECT_NEAR(loss(SyntheticKind::zipf, 64), 7.3, 2.0);
  EXPECT_LT(loss(SyntheticKind::zipf, 16), 2.0);
}

TEST(Policies, RefuseShapesByName) {
  const auto problem = [](PolicyShape shape) { return make_policy(PolicyKind::ours, shape).status().to_string(); };
  EXPECT_THAT(problem({0, -1, 128, 16, 0}),
              AllOf(HasSubstr("num_qo_heads: 0"), HasSubstr("num_kv_heads: -1"), HasSubstr("num_sms: 0")));
  EXPECT_THAT(problem({30, 8, 128, 16, 132}), HasSubstr("num_qo_heads: 30 is not a multiple of num_kv_heads, 8"));
  EXPECT_THAT(problem({32, 8, 24, 16, 132}), HasSubstr("head_dim_qk: 24"));
  EXPECT_THAT(problem({32, 8, 128, 0, 132}), HasSubstr("page_size: 0"));
}

TEST(Policies, Names) {
  for (PolicyKind kind : kPolicies) EXPECT_EQ(policy_named(name_of(kind)), kind);
  EXPECT_EQ(policy_named("theirs"), std::nullopt);
}

}  // namespace
}  // namespace lathe
