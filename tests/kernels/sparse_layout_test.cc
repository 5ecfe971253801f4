// Attention over chosen keys, against softmax over the sets that were chosen, in double.
#include "lathe/api/sparse_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <limits>
#include <random>

#include "lathe/proof/chosen_keys.h"
#include "lathe/proof/harness.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr ChosenHooks kVaried{.tables = true, .sinks = true};

// `varied`: with hooks over heads, tokens and slots, and keys as codes with scales of tokens.
void attend(const SparseLayout& layout, ChosenCase chosen, int32_t group, bool varied) {
  AttentionSpec& spec = chosen.spec;
  spec.group_size = group;
  spec.head_dim_qk = spec.head_dim_vo = 64;
  spec.layout.page_size = layout.page_size;
  spec.lse = LseOut::ln;
  if (varied) {
    chosen.hooks = kVaried;
    spec.hooks = *expr::parse(chosen.hooks.text());
    spec.kfmt = DType::i8, spec.kscale = KvScale::token;
  }
  EXPECT_EQ(prove_chosen(layout, chosen, mix(seed(), 7)), "");
}

// Blocks of any size, the last row block short, some rows without a key.
class BlockSparseLayouts : public ::testing::TestWithParam<std::tuple<int32_t, int32_t, bool>> {};
TEST_P(BlockSparseLayouts, EqualSoftmaxOverTheirBlocks) {
  const auto [block_rows, block_columns, varied] = GetParam();
  std::mt19937_64 rng(seed());
  const int64_t rows = 3 * block_rows + block_rows / 2 + 1, block_count = 9, columns = block_count * block_columns;
  std::vector<int32_t> indptr{0}, indices;
  for (int64_t row = 0; row < (rows + block_rows - 1) / block_rows; ++row) {
    std::vector<int32_t> order(block_count);
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
    std::ranges::shuffle(order, rng);
    const size_t count = row == 1 ? 0 : 1 + rng() % block_count;
    indices.insert(indices.end(), order.begin(), order.begin() + static_cast<ptrdiff_t>(count));
    indptr.push_back(static_cast<int32_t>(indices.size()));
  }
  const Result<SparseLayout> layout = block_sparse({.rows = rows,
                                                    .columns = columns,
                                                    .block_rows = block_rows,
                                                    .block_columns = block_columns,
                                                    .num_kv_heads = 2,
                                                    .indptr = indptr,
                                                    .indices = indices});
  ASSERT_TRUE(layout.ok()) << layout.status().to_string();
  const auto seen = [&, block_rows = block_rows, block_columns = block_columns](int64_t token, int64_t) {
    std::vector<int32_t> keys;
    const auto row = static_cast<size_t>(token / block_rows);
    for (int32_t i = indptr[row]; i < indptr[row + 1]; ++i)
      for (int32_t j = 0; j < block_columns; ++j) keys.push_back(indices[static_cast<size_t>(i)] * block_columns + j);
    return keys;
  };
  attend(*layout, {.tokens = rows, .keys = columns, .kv_heads = 2, .seen = seen}, 3, varied);
}
INSTANTIATE_TEST_SUITE_P(, BlockSparseLayouts,
                         ::testing::Values(std::tuple{1, 1, false}, std::tuple{7, 3, false}, std::tuple{16, 16, false},
                                           std::tuple{33, 64, false}, std::tuple{64, 5, false}, std::tuple{7, 3, true},
                                           std::tuple{33, 64, true}));

// Lists for requests or tokens, of all heads or each its own, with entries to skip anywhere, and lists that are all of those.
class Gathered : public ::testing::TestWithParam<std::tuple<GatherScope, bool, bool>> {};  // scope, for each kv head, varied
TEST_P(Gathered, EqualSoftmaxOverTheirKeys) {
  const auto [scope, per_kv_head, varied] = GetParam();
  std::mt19937_64 rng(seed());
  const std::vector<int32_t> qo_indptr{0, 3, 3, 4, 13};
  const int32_t kv_heads = 3;
  const int64_t keys = 300, width = 90, lists = (scope == GatherScope::query ? 13 : 4) * (per_kv_head ? kv_heads : 1);
  std::vector<int32_t> indices;
  for (int64_t list = 0; list < lists; ++list) {
    std::vector<int32_t> order(keys);
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
    std::ranges::shuffle(order, rng);
    const uint64_t skipped = list == 2 ? 1 : 2 + rng() % 6;  // all, or one in so many
    for (int64_t i = 0; i < width; ++i)
      indices.push_back(rng() % skipped == 0 ? -1 - static_cast<int32_t>(rng() % 3) : order[static_cast<size_t>(i)]);
  }
  const Result<SparseLayout> layout = gather({.qo_indptr = qo_indptr,
                                              .num_kv_heads = kv_heads,
                                              .scope = scope,
                                              .per_kv_head = per_kv_head,
                                              .indices = indices,
                                              .width = width,
                                              .num_keys = keys});
  ASSERT_TRUE(layout.ok()) << layout.status().to_string();
  const auto seen = [&, scope = scope, per_kv_head = per_kv_head](int64_t token, int64_t kv_head) {
    const auto request = std::ranges::upper_bound(qo_indptr, token) - qo_indptr.begin() - 1;
    int64_t list = scope == GatherScope::query ? token : request;
    if (per_kv_head) list = list * kv_heads + kv_head;
    std::vector<int32_t> found;
    for (int64_t i = list * width; i < (list + 1) * width; ++i)
      if (indices[static_cast<size_t>(i)] >= 0) found.push_back(indices[static_cast<size_t>(i)]);
    return found;
  };
  attend(*layout, {.tokens = 13, .keys = keys, .kv_heads = kv_heads, .seen = seen}, 2, varied);
}
INSTANTIATE_TEST_SUITE_P(
    , Gathered,
    ::testing::Values(std::tuple{GatherScope::request, false, false}, std::tuple{GatherScope::query, false, false},
                      std::tuple{GatherScope::request, true, false}, std::tuple{GatherScope::query, true, false},
                      std::tuple{GatherScope::request, false, true}, std::tuple{GatherScope::query, false, true}));

void expect_refused(const Status& status, const std::vector<std::string>& words) {
  EXPECT_EQ(status.code(), Code::invalid_argument);
  for (const std::string& word : words) EXPECT_THAT(status.to_string(), HasSubstr(word));
}

TEST(BadSparseLayouts, BlockSparse) {
  const std::vector<int32_t> indptr{0, 2, 3}, indices{0, 2, 1};
  const BlockSparse good{
      .rows = 20, .columns = 48, .block_rows = 16, .block_columns = 16, .num_kv_heads = 2, .indptr = indptr, .indices = indices};
  ASSERT_TRUE(block_sparse(good).ok()) << block_sparse(good).status().to_string();
  const auto refuse = [&](auto&& change, const std::vector<std::string>& words) {
    BlockSparse bad = good;
    change(bad);
    expect_refused(block_sparse(bad).status(), words);
  };
  refuse([](BlockSparse& b) { b.rows = -1, b.block_columns = 0; }, {"rows: is -1", "block_columns: is 0"});
  refuse([](BlockSparse& b) { b.columns = 50; }, {"columns: is 50, must be a multiple of block_columns 16"});
  refuse([](BlockSparse& b) { b.rows = 40; }, {"indptr: has 3 entries, must have 4"});
  refuse([](BlockSparse& b) { b.indices = b.indices.first(2); }, {"indptr[2]: is 3, must be 2"});
  const std::vector<int32_t> falling{0, 4, 3}, twice{0, 0, 1}, outside{0, 3, -1};
  refuse([&](BlockSparse& b) { b.indptr = falling; }, {"indptr[2]: is 3, less than the one before"});
  refuse([&](BlockSparse& b) { b.indices = twice; }, {"indices[1]: is 0 again in block row 0"});
  refuse([&](BlockSparse& b) { b.indices = outside; }, {"indices[1]: is 3, must be in 0..2", "indices[2]: is -1"});
}

// A matrix of 2^31 - 1 columns took 17 GB to check three entries.
TEST(BadSparseLayouts, MemoryGoesWithTheLists) {
  const std::vector<int32_t> indptr{0, 2, 3}, indices{0, 2147483646, 1}, far{0, std::numeric_limits<int32_t>::max()}, key{0};
  const BlockSparse wide{.rows = 2,
                         .columns = std::numeric_limits<int32_t>::max(),
                         .block_rows = 1,
                         .block_columns = 1,
                         .num_kv_heads = 1,
                         .indptr = indptr,
                         .indices = indices};
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
  rlimit tight = before;
  tight.rlim_cur = rlim_t{8} << 30;
  ASSERT_EQ(setrlimit(RLIMIT_AS, &tight), 0);
  const Status made = block_sparse(wide).status();
  // Lists that no plan holds, of one entry.
  const Status many =
      gather({.qo_indptr = far, .num_kv_heads = 1, .per_kv_head = true, .indices = key, .width = 1, .num_keys = 1}).status();
  ASSERT_EQ(setrlimit(RLIMIT_AS, &before), 0);
  EXPECT_TRUE(made.ok()) << made.to_string();
  expect_refused(many, {"qo_indptr: makes 2147483647 lists; a plan holds"});
}

// A sink of head 0 was every head's where each kv head has a list.
TEST(BadSparseLayouts, WhatTakesOneHeadForAnother) {
  const std::vector<int32_t> qo_indptr{0, 2}, indices{0, 1, 2, 3};
  const Result<SparseLayout> apart =
      gather({.qo_indptr = qo_indptr, .num_kv_heads = 2, .per_kv_head = true, .indices = indices, .width = 2, .num_keys = 4});
  ASSERT_TRUE(apart.ok()) << apart.status().to_string();
  AttentionSpec good;
  good.layout.page_size = 1;
  EXPECT_TRUE(apart->check(good).ok());
  const auto refuse = [&](auto&& change, const std::vector<std::string>& words) {
    AttentionSpec bad = good;
    change(bad);
    expect_refused(apart->check(bad), words);
  };
  refuse([](AttentionSpec& s) { s.hooks = *expr::parse(kVaried.text()); },
         {"hooks: ask for h, which is another", "hooks: ask for tok", "hooks: ask for slot"});
  refuse([](AttentionSpec& s) { s.hooks = *expr::parse("mask = kv_pos <= q_pos"); }, {"ask for q, ", "ask for qo_len"});
  refuse([](AttentionSpec& s) { s.kfmt = DType::i8, s.kscale = KvScale::channel; }, {"kscale: must be none"});
  refuse([](AttentionSpec& s) { s.vfmt = DType::i8, s.vzero = KvZero::token; }, {"vscale: must be none"});
  refuse([](AttentionSpec& s) { s.layout.page_size = 16; }, {"layout: must be paged(1, NHD, csr)"});
  refuse([](AttentionSpec& s) { s.layout.index = PageIndex::table; }, {"layout: must be paged(1, NHD, csr)"});
  refuse([](AttentionSpec& s) { s.mask = Mask::causal; }, {"mask: must be none"});
  AttentionSpec scores = good;
  scores.hooks = *expr::parse("param cap: f32; logits = cap * tanh(score / cap)");
  EXPECT_TRUE(apart->check(scores).ok());
}

TEST(BadSparseLayouts, GatherAndViews) {
  const std::vector<int32_t> qo_indptr{0, 1, 3}, indices{0, 5, -1, 2};
  const Gather good{.qo_indptr = qo_indptr, .num_kv_heads = 2, .indices = indices, .width = 2, .num_keys = 6};
  ASSERT_TRUE(gather(good).ok()) << gather(good).status().to_string();
  const auto refuse = [&](auto&& change, const std::vector<std::string>& words) {
    Gather bad = good;
    change(bad);
    expect_refused(gather(bad).status(), words);
  };
  refuse([](Gather& g) { g.qo_indptr = {}; }, {"qo_indptr: has no entry"});
  refuse([](Gather& g) { g.num_kv_heads = 0; }, {"num_kv_heads: is 0"});
  refuse([](Gather& g) { g.num_keys = 5; }, {"indices[1]: is 5, must be below 5"});
  refuse([](Gather& g) { g.scope = GatherScope::query; }, {"indices: has 4 entries, must have 3 lists of 2"});
  refuse([](Gather& g) { g.per_kv_head = true; }, {"indices: has 4 entries, must have 4 lists of 2"});
  Gather wide = good;
  wide.num_keys = int64_t{1} << 31;
  expect_refused(gather(wide).status(), {"num_keys: is 2147483648"});

  // Products that leave 64 bits.
  const std::vector<int32_t> far{0, std::numeric_limits<int32_t>::max()};
  refuse(
      [&](Gather& g) {
        g.qo_indptr = far, g.scope = GatherScope::query, g.per_kv_head = true;
        g.num_kv_heads = std::numeric_limits<int32_t>::max(), g.width = std::numeric_limits<int32_t>::max();
      },
      {"indices: has 4 entries", "past 2^31 - 1 in all"});

  const std::vector<int32_t> of_heads{0, 5, -1, 2, 1, 1, 0, 3};
  Gather heads = good;
  heads.per_kv_head = true, heads.indices = of_heads;
  const Result<SparseLayout> layout = gather(heads);
  ASSERT_TRUE(layout.ok());
  AttentionSpec spec;
  spec.layout.page_size = 1;
  alignas(16) std::byte memory[16];
  AttentionArgs args;
  args.q = args.o = Tensor::contiguous(memory, {3, 4, 64});
  args.k = args.v = Tensor::contiguous(memory, {6, 2, 64});
  AttentionArgs strided = args;
  strided.k.stride[0] = 256;
  expect_refused(layout->view(spec, strided), {"k: has strides 256 and 64", "must be 2 times the second"});
  // lse lay as if it had no strides, and rows of it went elsewhere.
  AttentionArgs strided_lse = args;
  strided_lse.lse = Tensor::contiguous(memory, {3, 4});
  strided_lse.lse.stride[0] = 8;
  expect_refused(layout->view(spec, strided_lse), {"lse: has strides 8 and 1", "must be 4 times the second"});
  strided_lse.lse = Tensor::contiguous(memory, {4, 3});
  expect_refused(layout->view(spec, strided_lse), {"lse: must have 2 dimensions, the second a multiple of 2"});
  AttentionArgs short_k = args;
  short_k.k.shape[0] = 5;
  expect_refused(layout->view(spec, short_k), {"k: has 5 rows, the layout was made for 6"});
  args.q.rank = 2;
  expect_refused(layout->view(spec, args), {"q: must have 3 dimensions"});
}

}  // namespace
}  // namespace lathe::testing
