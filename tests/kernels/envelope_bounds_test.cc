// What does not fit an envelope, or belongs to another, is refused with both figures.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "envelope_server.h"

namespace lathe::testing {
namespace {

constexpr int32_t kHeads = 2;

class EnvelopeBounds : public ::testing::Test {
 protected:
  void prepare(const AttentionSpec& spec, const AttentionBounds& bounds) {
    Status prepared = server.prepare(small_host(false), spec, bounds);
    ASSERT_TRUE(prepared.ok()) << prepared.to_string();
  }
  /// The batch is refused with every one of `words`, and leaves no plan behind.
  void expect_refused(const BatchShape& shape, const std::vector<std::string>& words) {
    const AttentionSpec& spec = server.attention->spec();
    std::mt19937_64 rng(1);
    const Batch batch{shape, draw_values(spec, shape, 1.0, rng)};
    const BatchImage image(spec, batch, {});
    Status refused = server.attention->plan(image.batch(), server.envelope, server.plan);
    expect_words(refused, words);
    expect_words(server.attention->upload(server.plan, server.workspace(), server.envelope.layout.total(), nullptr),
                 {"plan", "empty"});
    expect_words(server.attention->run({}, server.plan, server.workspace(), nullptr), {"plan", "empty"});
  }
  static void expect_words(const Status& status, const std::vector<std::string>& words) {
    EXPECT_EQ(status.code(), Code::invalid_argument) << status.to_string();
    for (const std::string& word : words) EXPECT_THAT(status.to_string(), ::testing::HasSubstr(word));
  }
  PlannedAttention plan_in(const AttentionEnvelope& envelope) {
    const std::vector<int32_t> qo_indptr{0, 1}, kv_indptr{0, 2}, last_page_len{7};
    PlannedAttention plan;
    Status planned = server.attention->plan(
        {.qo_indptr = qo_indptr, .kv_indptr = kv_indptr, .last_page_len = last_page_len, .window = envelope.bounds.window},
        envelope, plan);
    EXPECT_TRUE(planned.ok()) << planned.to_string();
    return plan;
  }
  Status upload(const PlannedAttention& plan) { return server.upload(plan); }

  Server server;
};

TEST_F(EnvelopeBounds, WhatExceedsIsNamedWithBothFigures) {
  prepare(small_spec(), {kHeads, 3, 10, 8});
  expect_refused({.num_kv_heads = kHeads, .qo_lens = {1, 1, 1, 1}, .kv_lens = {1, 1, 1, 1}},
                 {"max_batch", "4 requests", "allows 3"});
  expect_refused({.num_kv_heads = kHeads, .qo_lens = {11}, .kv_lens = {1}}, {"max_qo_tokens", "11 query tokens", "allows 10"});
  expect_refused({.num_kv_heads = kHeads, .qo_lens = {1}, .kv_lens = {129}}, {"max_kv_entries", "9 entries", "allows 8"});
  expect_refused({.num_kv_heads = kHeads, .qo_lens = {8, 8, 8, 8}, .kv_lens = {129, 1, 1, 1}},
                 {"3 problems", "max_batch", "max_qo_tokens", "max_kv_entries", "12 entries"});
}

TEST_F(EnvelopeBounds, LongestRequestUnderFixedSplits) {
  AttentionSpec spec = small_spec();
  spec.split_kv = {SplitMode::fixed, 64};
  prepare(spec, {kHeads, 3, 10, 80, 200});
  expect_refused({.num_kv_heads = kHeads, .qo_lens = {1, 1}, .kv_lens = {200, 201}}, {"max_kv_len", "201 kv tokens", "allows 200"});
}

TEST_F(EnvelopeBounds, WorkspacePartsThatDoNotFit) {
  AttentionSpec spec = small_spec();
  spec.split_kv = {SplitMode::fixed, 64};
  prepare(spec, {kHeads, 3, 10, 80, 1000});
  AttentionEnvelope& envelope = server.envelope;  // as if it had been computed for less
  envelope.layout.counters = envelope.layout.partial_lse = 0, envelope.layout.partial_o = 256;
  expect_refused({.num_kv_heads = kHeads, .qo_lens = {1}, .kv_lens = {1000}},
                 {"3 problems", "workspace.counters", "workspace.partial_o", "has 256", "workspace.partial_lse"});
}

TEST_F(EnvelopeBounds, BoundsThatCannotBe) {
  prepare(small_spec(), {kHeads, 3, 10, 80});
  const Attention& attention = *server.attention;
  expect_words(attention.envelope({0, 3, 10, 80}).status(), {"num_kv_heads", "0"});
  expect_words(attention.envelope({kHeads, -3, 10, 80}).status(), {"max_batch", "-3"});
  expect_words(attention.envelope({kHeads, 3, -10, 80}).status(), {"max_qo_tokens", "-10"});
  expect_words(attention.envelope({kHeads, 3, int64_t{1} << 40, 80}).status(), {"max_qo_tokens", "1099511627776"});
  expect_words(attention.envelope({kHeads, 3, 10, int64_t{1} << 31}).status(), {"max_kv_entries", "2147483648"});
  expect_words(attention.envelope({-1, 3, 10, -80, 0, 5}).status(),
               {"3 problems", "num_kv_heads", "max_kv_entries", "-80", "window"});
  AttentionSpec spec = small_spec();
  spec.mask = Mask::window;
  spec.split_kv = {SplitMode::fixed, 64};
  prepare(spec, {kHeads, 3, 10, 80, 100, 5});
  expect_words(server.attention->envelope({kHeads, 3, 10, 80}).status(), {"2 problems", "window", "max_kv_len", "fixed(64)"});
}

TEST_F(EnvelopeBounds, StalePlansNameWhatDisagrees) {
  AttentionSpec spec = small_spec();
  spec.mask = Mask::causal_window;
  const AttentionBounds bounds{kHeads, 3, 10, 80, 0, 100};
  prepare(spec, bounds);
  const PlannedAttention good = plan_in(server.envelope);
  EXPECT_TRUE(upload(good).ok());

  AttentionBounds other = bounds;
  other.max_batch = 30, other.window = 99;
  const AttentionEnvelope elsewhere = *server.attention->envelope(other);
  const PlannedAttention stale = plan_in(elsewhere);
  expect_words(upload(stale),
               {"another envelope", "max_batch is 30, this one's is 3", "window is 99, this one's is 100", "layout.plan"});

  const std::vector<int32_t> qo_indptr{0, 1}, kv_indptr{0, 2}, last_page_len{7};
  const AttentionBatch window{.qo_indptr = qo_indptr, .kv_indptr = kv_indptr, .last_page_len = last_page_len, .window = 99};
  expect_words(server.attention->plan(window, server.envelope, server.plan), {"window", "99", "100"});

  // Another kernel, another grid: plans and envelopes alike.
  Server mask, grid;
  AttentionSpec soft = spec;
  soft.mask = Mask::window;
  ASSERT_TRUE(mask.prepare(small_host(false), soft, bounds).ok());
  ASSERT_TRUE(grid.prepare(small_host(false, 7), spec, bounds).ok());
  for (auto [foreign, words] : {std::pair{&mask, std::vector<std::string>{"another kernel", "causal"}},
                                {&grid, std::vector<std::string>{"grid of 6 blocks", "this one has 7"}}}) {
    expect_words(foreign->upload(good), words);
    expect_words(foreign->attention->run({}, good, foreign->workspace(), nullptr), words);
    expect_words(foreign->attention->plan(window, server.envelope, foreign->plan), words);
    expect_words(foreign->attention->prepare_workspace(server.envelope, foreign->workspace(), 1 << 20, nullptr), words);
    expect_words(foreign->attention->run({}, server.envelope, foreign->workspace(), nullptr), words);
  }
}

TEST_F(EnvelopeBounds, TensorsAreCheckedAgainstTheBounds) {
  prepare(small_spec(), {kHeads, 3, 10, 8});
  const PlannedAttention plan = plan_in(server.envelope);  // one token, two pages
  AttentionArgs args = server.args();
  args.q.shape[0] = 9, args.lse.shape[0] = 1, args.num_kv_indices = 7;
  for (const Status& status : {server.attention->run(args, plan, server.workspace(), nullptr),
                               server.attention->run(args, server.envelope, server.workspace(), nullptr)})
    expect_words(status, {"3 problems", "q", "9 rows", "up to 10", "lse", "1 rows", "num_kv_indices", "is 7", "need 8"});
}

TEST_F(EnvelopeBounds, WorkspacesAreChecked) {
  prepare(small_spec(), {kHeads, 3, 10, 8});
  const PlannedAttention plan = plan_in(server.envelope);
  const size_t bytes = server.envelope.layout.total();
  const std::vector<std::string> figures{"workspace_bytes", std::to_string(bytes), std::to_string(bytes - 1)};
  expect_words(server.attention->prepare_workspace(server.envelope, server.workspace(), bytes - 1, nullptr), figures);
  expect_words(server.attention->prepare_workspace(server.envelope, nullptr, bytes, nullptr), {"workspace", "null"});
  expect_words(server.attention->upload(plan, server.workspace(), bytes - 1, nullptr), figures);
  expect_words(server.attention->upload(plan, server.workspace() + 128, bytes, nullptr), {"workspace", "256"});
}

}  // namespace
}  // namespace lathe::testing
