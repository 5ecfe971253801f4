// Attention over chosen keys, against softmax over the sets that were chosen, in double.
#include "lathe/api/sparse_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <set>

#include "lathe/oracle/float16.h"
#include "lathe/proof/harness.h"
#include "lathe/proof/memory.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kDim = 64;

// q, k and v of one call, and which keys a (token, kv head) sees.
struct Chosen {
  int64_t tokens, keys, kv_heads, group;
  std::function<std::set<int32_t>(int64_t token, int64_t kv_head)> seen;
  bool varied = false;  // with hooks over heads, tokens and slots, and keys as codes with scales of tokens
};

constexpr const char* kHooks =
    "tensor s: f32[HQ], f: f32[SLOT, HQ], t: f32[TOK]; logits = score * t[tok] + f[slot, h]; sink = s[h]";

// What `varied` adds, by index as the hooks have it.
struct Variation {
  std::vector<float> sinks, of_slots, of_tokens, key_scales;
};

std::vector<uint16_t> draw(std::mt19937_64& rng, int64_t count) {
  std::normal_distribution<double> normal;
  std::vector<uint16_t> out(static_cast<size_t>(count));
  for (uint16_t& x : out) x = oracle::encode(DType::bf16, normal(rng));
  return out;
}

// The row of `token` and `head` of a dense [.., heads, kDim].
std::vector<double> row(const std::vector<uint16_t>& x, int64_t heads, int64_t token, int64_t head) {
  std::vector<double> out(kDim);
  for (size_t d = 0; d < kDim; ++d) out[d] = oracle::decode(DType::bf16, x[static_cast<size_t>((token * heads + head) * kDim) + d]);
  return out;
}

std::vector<float> draw_floats(std::mt19937_64& rng, int64_t count, float lo, float hi) {
  std::uniform_real_distribution<float> uniform(lo, hi);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& x : out) x = uniform(rng);
  return out;
}

// |o - ref| / |ref| of the worst row, and lse compared. Keys are bf16 or, where varied, i8.
void expect_right(const Chosen& c, const Variation& by, const std::vector<uint16_t>& q, const std::vector<uint16_t>& k,
                  const std::vector<int8_t>& codes, const std::vector<uint16_t>& v, const std::vector<uint16_t>& o,
                  const std::vector<float>& lse) {
  const int64_t heads = c.kv_heads * c.group;
  for (int64_t t = 0; t < c.tokens; ++t) {
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t kv_head = h / c.group;
      const std::vector<double> query = row(q, heads, t, h);
      std::vector<double> sum(kDim), got = row(o, heads, t, h);
      double total = c.varied ? std::exp(by.sinks[static_cast<size_t>(h)]) : 0;
      for (const int32_t key : c.seen(t, kv_head)) {
        const auto place = static_cast<size_t>(key * c.kv_heads + kv_head);
        std::vector<double> kk(kDim);
        if (!c.varied) kk = row(k, c.kv_heads, key, kv_head);
        for (size_t d = 0; c.varied && d < kDim; ++d) kk[d] = codes[place * kDim + d] * static_cast<double>(by.key_scales[place]);
        const std::vector<double> vv = row(v, c.kv_heads, key, kv_head);
        double score = 0;
        for (size_t d = 0; d < kDim; ++d) score += query[d] * kk[d];
        score /= std::sqrt(static_cast<double>(kDim));
        if (c.varied) score = score * by.of_tokens[static_cast<size_t>(t)] + by.of_slots[static_cast<size_t>(key * heads + h)];
        const double weight = std::exp(score);
        total += weight;
        for (size_t d = 0; d < kDim; ++d) sum[d] += weight * vv[d];
      }
      double error = 0, norm = 0;
      for (size_t d = 0; d < kDim; ++d) {
        const double expected = total > 0 ? sum[d] / total : 0;
        error += (got[d] - expected) * (got[d] - expected), norm += expected * expected;
      }
      ASSERT_LE(std::sqrt(error), 6e-3 * std::sqrt(norm) + 1e-9) << "token " << t << ", head " << h;
      const float expected_lse = total > 0 ? static_cast<float>(std::log(total)) : -HUGE_VALF;
      const float got_lse = lse[static_cast<size_t>(t * heads + h)];
      ASSERT_TRUE(got_lse == expected_lse || std::fabs(got_lse - expected_lse) <= 2e-4f) << "token " << t << ", head " << h;
    }
  }
}

void attend(const SparseLayout& layout, const Chosen& c) {
  std::mt19937_64 rng(mix(seed(), 7));
  const int64_t heads = c.kv_heads * c.group;
  AttentionSpec spec;
  spec.group_size = static_cast<int32_t>(c.group);
  spec.head_dim_qk = spec.head_dim_vo = kDim;
  spec.layout.page_size = layout.page_size;
  spec.lse = LseOut::ln;
  if (c.varied) {
    spec.hooks = *expr::parse(kHooks);
    spec.kfmt = DType::i8, spec.kscale = KvScale::token;
  }
  auto device = host_device({.seed = rng(), .check = true});
  Result<Attention> attention = Attention::prepare(engine(), device, spec);
  ASSERT_TRUE(attention.ok()) << attention.status().to_string();
  Result<PlannedAttention> plan = attention->plan(layout.batch(), layout.num_kv_heads);
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  const std::vector<uint16_t> q = draw(rng, c.tokens * heads * kDim), k = draw(rng, c.keys * c.kv_heads * kDim),
                              v = draw(rng, c.keys * c.kv_heads * kDim);
  const Variation by{draw_floats(rng, heads, -1, 3), draw_floats(rng, c.keys * heads, -2, 2), draw_floats(rng, c.tokens, 0.5, 2),
                     draw_floats(rng, c.keys * c.kv_heads, 0.005F, 0.02F)};
  std::vector<int8_t> codes(k.size());
  for (int8_t& code : codes) code = static_cast<int8_t>(static_cast<int>(rng() % 255) - 127);
  const auto put = [&](const auto& list) { return *GuardedBuffer::make(device, std::as_bytes(std::span(list))); };
  const GuardedBuffer dq = put(q), dk = put(k), dv = put(v), indices = put(layout.kv_indices);
  const GuardedBuffer out = put(std::vector<uint16_t>(q.size(), 0x7fc0)), out_lse = put(std::vector<float>(q.size() / kDim, NAN));
  AttentionArgs args;
  args.q = Tensor::contiguous(dq.data(), {c.tokens, heads, kDim});
  args.o = Tensor::contiguous(out.data(), {c.tokens, heads, kDim});
  const GuardedBuffer dcodes = put(codes), scales = put(by.key_scales), sinks = put(by.sinks), of_slots = put(by.of_slots),
                      of_tokens = put(by.of_tokens);
  args.k = Tensor::contiguous(c.varied ? dcodes.data() : dk.data(), {c.keys, c.kv_heads, kDim});
  const std::array tables{HookTensor{"s", Tensor::contiguous(sinks.data(), {heads})},
                          HookTensor{"f", Tensor::contiguous(of_slots.data(), {c.keys, heads})},
                          HookTensor{"t", Tensor::contiguous(of_tokens.data(), {c.tokens})}};
  if (c.varied) {
    args.hook_tensors = tables;
    args.k_scales.token_scale = Tensor::contiguous(scales.data(), {c.keys, c.kv_heads});
  }
  args.v = Tensor::contiguous(dv.data(), {c.keys, c.kv_heads, kDim});
  args.lse = Tensor::contiguous(out_lse.data(), {c.tokens, heads});
  const Status viewed = layout.view(spec, args);
  ASSERT_TRUE(viewed.ok()) << viewed.to_string();
  args.kv_indices = reinterpret_cast<const int32_t*>(indices.data());
  const GuardedBuffer workspace = put(Bytes(plan->plan.workspace.total()));
  ASSERT_TRUE(attention->upload(*plan, workspace.data(), workspace.size(), nullptr).ok());
  const Status status = attention->run(args, *plan, workspace.data(), nullptr);
  ASSERT_TRUE(status.ok()) << status.to_string();
  const Bytes o_bytes = *out.read(), lse_bytes = *out_lse.read();
  std::vector<uint16_t> o(q.size());
  std::vector<float> lse(q.size() / kDim);
  std::copy_n(o_bytes.begin(), o_bytes.size(), reinterpret_cast<std::byte*>(o.data()));
  std::copy_n(lse_bytes.begin(), lse_bytes.size(), reinterpret_cast<std::byte*>(lse.data()));
  expect_right(c, by, q, k, codes, v, o, lse);
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
  attend(*layout, {rows, columns, 2, 3,
                   [&, block_rows = block_rows, block_columns = block_columns](int64_t token, int64_t) {
                     std::set<int32_t> seen;
                     const auto row = static_cast<size_t>(token / block_rows);
                     for (int32_t i = indptr[row]; i < indptr[row + 1]; ++i)
                       for (int32_t j = 0; j < block_columns; ++j) seen.insert(indices[static_cast<size_t>(i)] * block_columns + j);
                     return seen;
                   },
                   varied});
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
  const int64_t keys = 300, kv_heads = 3, width = 90, lists = (scope == GatherScope::query ? 13 : 4) * (per_kv_head ? kv_heads : 1);
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
  attend(*layout, {13, keys, kv_heads, 2,
                   [&, scope = scope, per_kv_head = per_kv_head](int64_t token, int64_t kv_head) {
                     const auto request = std::ranges::upper_bound(qo_indptr, token) - qo_indptr.begin() - 1;
                     int64_t list = scope == GatherScope::query ? token : request;
                     if (per_kv_head) list = list * kv_heads + kv_head;
                     std::set<int32_t> seen;
                     for (int64_t i = list * width; i < (list + 1) * width; ++i)
                       if (indices[static_cast<size_t>(i)] >= 0) seen.insert(indices[static_cast<size_t>(i)]);
                     return seen;
                   },
                   varied});
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
  refuse([](AttentionSpec& s) { s.hooks = *expr::parse(kHooks); },
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
  AttentionArgs short_k = args;
  short_k.k.shape[0] = 5;
  expect_refused(layout->view(spec, short_k), {"k: has 10 rows, the layout was made for 12"});
  args.q.rank = 2;
  expect_refused(layout->view(spec, args), {"q: must have 3 dimensions"});
}

}  // namespace
}  // namespace lathe::testing
