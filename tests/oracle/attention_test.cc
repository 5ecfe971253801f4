#include "lathe/oracle/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "lathe/oracle/float16.h"
#include "lathe/spec/expr/parse.h"

namespace lathe::oracle {
namespace {

constexpr double kNone = -std::numeric_limits<double>::infinity();

// A ragged batch of one request and one head whose vectors have only their first element set, so that scores are products of two
// numbers.
struct Ragged {
  AttentionSpec spec{.head_dim_qk = 16, .head_dim_vo = 16, .layout = {.kind = LayoutKind::ragged}};
  std::vector<uint16_t> q, k, v;
  std::vector<int32_t> qo_indptr, kv_indptr;
  AttentionInput in;

  Ragged(std::vector<double> queries, std::vector<double> keys, std::vector<double> values) {
    q = fill(queries), k = fill(keys), v = fill(values);
    qo_indptr = {0, static_cast<int32_t>(queries.size())};
    kv_indptr = {0, static_cast<int32_t>(keys.size())};
  }

  static std::vector<uint16_t> fill(const std::vector<double>& first) {
    std::vector<uint16_t> out(first.size() * 16, 0);
    for (size_t i = 0; i < first.size(); ++i) out[i * 16] = encode(DType::bf16, first[i]);
    return out;
  }

  AttentionOutput run() {
    in.spec = spec;
    in.num_kv_heads = 1;
    in.qo_indptr = qo_indptr, in.kv_indptr = kv_indptr;
    in.q = {q.data(), {16, 16, 1}};
    in.k = {k.data(), {16, 16, 1}};
    in.v = {v.data(), {16, 16, 1}};
    if (in.sm_scale == 0) in.sm_scale = 1;
    return attention(in);
  }
};

TEST(AttentionOracle, OneKeyGivesItsValue) {
  Ragged r({2}, {3}, {5});
  AttentionOutput out = r.run();
  EXPECT_EQ(out.o[0], 5.0);
  EXPECT_EQ(out.o[1], 0.0);
  EXPECT_DOUBLE_EQ(out.lse[0], 6.0);
  EXPECT_DOUBLE_EQ(out.spread[0], 5.0);
}

TEST(AttentionOracle, TwoKeysByHand) {
  Ragged r({1}, {0, 1}, {0, 4});
  AttentionOutput out = r.run();
  const double e = std::exp(1.0);
  EXPECT_NEAR(out.o[0], 4 * e / (1 + e), 1e-14);
  EXPECT_NEAR(out.lse[0], std::log(1 + e), 1e-14);
  EXPECT_NEAR(out.spread[0], 4 * e / (1 + e), 1e-14);
}

TEST(AttentionOracle, ScaleDefaultsToTheRootOfTheHeadDim) {
  Ragged r({8}, {2}, {1});
  r.in.sm_scale = 0.25;
  const double given = r.run().lse[0];
  r.in.sm_scale = 0;
  r.in.spec = r.spec;
  r.run();
  r.in.sm_scale = 0;
  EXPECT_DOUBLE_EQ(given, 4.0);
  EXPECT_DOUBLE_EQ(attention(r.in).lse[0], 4.0);  // 1 / sqrt(16)
}

TEST(AttentionOracle, LseInBaseTwo) {
  Ragged r({0}, {0, 0, 0, 0}, {1, 2, 3, 6});
  r.spec.lse = LseOut::log2;
  AttentionOutput out = r.run();
  EXPECT_DOUBLE_EQ(out.lse[0], 2.0);  // log2 of four equal masses of 1
  EXPECT_DOUBLE_EQ(out.o[0], 3.0);
}

// Values are powers of two and scores are equal: o times the number of visible keys is a bit set of which keys were seen.
std::vector<int> visible(const Ragged& r, const AttentionOutput& out, int row) {
  std::vector<int> seen;
  const double lse = out.lse[static_cast<size_t>(row)];
  if (std::isinf(lse)) return seen;
  const auto set = static_cast<int>(std::lround(out.o[static_cast<size_t>(row) * 16] * std::exp(lse)));
  for (int j = 0; j < r.kv_indptr[1]; ++j) {
    if ((set >> j & 1) != 0) seen.push_back(j);
  }
  return seen;
}
Ragged counting(int queries, int keys) {
  std::vector<double> values;
  for (int j = 0; j < keys; ++j) values.push_back(1 << j);
  return Ragged(std::vector<double>(static_cast<size_t>(queries), 0), std::vector<double>(static_cast<size_t>(keys), 0), values);
}
using Keys = std::vector<int>;

TEST(AttentionOracle, CausalIsAlignedToTheBottomRight) {
  Ragged r = counting(2, 5);
  r.spec.mask = Mask::causal;
  AttentionOutput out = r.run();
  EXPECT_EQ(visible(r, out, 0), (Keys{0, 1, 2, 3}));
  EXPECT_EQ(visible(r, out, 1), (Keys{0, 1, 2, 3, 4}));
}

TEST(AttentionOracle, CausalWithMoreQueriesThanKeys) {
  Ragged r = counting(4, 2);
  r.spec.mask = Mask::causal;
  AttentionOutput out = r.run();
  EXPECT_EQ(visible(r, out, 0), Keys{});
  EXPECT_EQ(out.lse[0], kNone);
  EXPECT_EQ(out.o[0], 0.0);
  EXPECT_EQ(visible(r, out, 1), Keys{});
  EXPECT_EQ(visible(r, out, 2), (Keys{0}));
  EXPECT_EQ(visible(r, out, 3), (Keys{0, 1}));
}

TEST(AttentionOracle, WindowBoundsThePastOnly) {
  Ragged r = counting(3, 5);
  r.spec.mask = Mask::window;
  r.in.window = 2;
  AttentionOutput out = r.run();
  EXPECT_EQ(visible(r, out, 0), (Keys{1, 2, 3, 4}));  // q_pos 2: keys 1 and 2, and the future
  EXPECT_EQ(visible(r, out, 2), (Keys{3, 4}));
}

TEST(AttentionOracle, CausalWindow) {
  Ragged r = counting(3, 5);
  r.spec.mask = Mask::causal_window;
  r.in.window = 2;
  AttentionOutput out = r.run();
  EXPECT_EQ(visible(r, out, 0), (Keys{1, 2}));
  EXPECT_EQ(visible(r, out, 1), (Keys{2, 3}));
  EXPECT_EQ(visible(r, out, 2), (Keys{3, 4}));
  r.in.window = 1;
  EXPECT_EQ(visible(r, r.run(), 1), (Keys{3}));
  r.in.window = std::numeric_limits<int32_t>::max();
  EXPECT_EQ(visible(r, r.run(), 2), (Keys{0, 1, 2, 3, 4}));
}

TEST(AttentionOracle, NoKeys) {
  Ragged r({1, 2}, {}, {});
  AttentionOutput out = r.run();
  EXPECT_EQ(out.lse, (std::vector<double>{kNone, kNone}));
  EXPECT_EQ(out.o, std::vector<double>(32, 0.0));
}

TEST(AttentionOracle, SoftCap) {
  Ragged r({3}, {4, -4}, {1, 0});
  r.spec.soft_cap = true;
  r.in.soft_cap = 5;
  const double s = 5 * std::tanh(12.0 / 5);
  AttentionOutput out = r.run();
  EXPECT_NEAR(out.lse[0], std::log(std::exp(s) + std::exp(-s)), 1e-13);
  EXPECT_NEAR(out.o[0], 1 / (1 + std::exp(-2 * s)), 1e-13);
}

// Every form of paging names the same keys: element values tell page, slot, head and K or V apart.
// The query is (3, 4, 0, ...), made (6, 8, 0, ...) by its hook; two keys have the score 0 but for the hook logits.
TEST(AttentionOracle, SumsAndNormsOfQueriesByHand) {
  Ragged r({3}, {0, 0}, {1, 3});
  r.q[1] = encode(DType::bf16, 4);
  r.spec.hooks = *expr::parse("query = x * 2; logits = score + (kv == 0 ? qsum : qnorm)");
  const AttentionOutput out = r.run();
  EXPECT_NEAR(out.lse[0], std::log(std::exp(14) + std::exp(10)), 1e-12);
  EXPECT_NEAR(out.o[0], (1 * std::exp(4) + 3) / (std::exp(4) + 1), 1e-12);
}

// Hooks of keys and values see what codes stand for: (3 - 1) * 0.5 * 4 * 0.25 = 1 and (10 - 2) * 0.5 * 2 = 8.
TEST(AttentionOracle, HooksOfCodesByHand) {
  Ragged r({2}, {0}, {0});
  r.spec.kfmt = r.spec.vfmt = DType::i8;
  r.spec.kscale = KvScale::token_channel, r.spec.kzero = KvZero::token;
  r.spec.vscale = KvScale::channel, r.spec.vzero = KvZero::channel;
  r.k.assign(16, encode(DType::i8, 1)), r.v.assign(16, encode(DType::i8, 2));
  r.k[0] = encode(DType::i8, 3), r.v[0] = encode(DType::i8, 10);
  const std::vector<float> token{4}, one_zero{1}, channels(16, 0.25f), twos(16, 2), zeros(16, 2);
  r.in.k_scales = {0.5, {token.data(), {1, 1}}, {channels.data(), {16, 1}}, {one_zero.data(), {1, 1}}};
  r.in.v_scales = {0.5, {}, {twos.data(), {16, 1}}, {zeros.data(), {16, 1}}};
  r.spec.hooks = *expr::parse("key = x + 2; value = x * x");
  const AttentionOutput out = r.run();
  EXPECT_NEAR(out.lse[0], 2 * (1 + 2), 1e-12);
  EXPECT_NEAR(out.o[0], 64, 1e-12);
  EXPECT_NEAR(out.o[1], 0, 1e-12);
}

TEST(AttentionOracle, FindsKeysInEveryPageForm) {
  const int page_size = 3, heads = 2, dim = 16, pages = 6;
  const std::vector<int32_t> ids{4, 1, 5};  // of the one request: 8 tokens
  for (PageOrder order : {PageOrder::nhd, PageOrder::hnd}) {
    for (KvStorage storage : {KvStorage::separate, KvStorage::joint}) {
      for (PageIndex index : {PageIndex::csr, PageIndex::table}) {
        const bool joint = storage == KvStorage::joint, nhd = order == PageOrder::nhd;
        const int64_t inner0 = nhd ? heads * dim : page_size * dim, page_step = page_size * heads * dim * (joint ? 2 : 1);
        std::vector<uint16_t> k(static_cast<size_t>(pages * page_step), nan_pattern(DType::bf16)), v = k;
        const std::array<int64_t, 5> stride = joint ? std::array<int64_t, 5>{page_step, page_step / 2, inner0, dim, 1}
                                                    : std::array<int64_t, 5>{page_step, inner0, dim, 1, 0};
        for (int j = 0; j < 8; ++j) {
          for (int h = 0; h < heads; ++h) {
            for (int d = 0; d < dim; ++d) {
              const int slot = j % page_size;
              const int64_t at =
                  ids[static_cast<size_t>(j / page_size)] * page_step + (nhd ? slot * heads + h : h * page_size + slot) * dim + d;
              k[static_cast<size_t>(at)] = encode(DType::bf16, d == 0 ? 0.25 * j + h : 0);
              (joint ? k : v)[static_cast<size_t>(at + (joint ? page_step / 2 : 0))] = encode(DType::bf16, d == 0 ? j * j - h : d);
            }
          }
        }
        std::vector<uint16_t> q(static_cast<size_t>(heads * dim), 0);
        q[0] = encode(DType::bf16, 1), q[static_cast<size_t>(dim)] = encode(DType::bf16, 2);
        const std::vector<int32_t> qo_indptr{0, 1}, kv_indptr{0, 3}, last_page_len{2}, seq_lens{8};
        AttentionInput in{.spec = {.head_dim_qk = dim,
                                   .head_dim_vo = dim,
                                   .layout = {.page_size = page_size, .order = order, .storage = storage, .index = index}},
                          .num_kv_heads = heads,
                          .qo_indptr = qo_indptr,
                          .kv_indptr = kv_indptr,
                          .last_page_len = last_page_len,
                          .seq_lens = seq_lens,
                          .block_table_stride = 3,
                          .kv_indices = ids,
                          .q = {q.data(), {heads * dim, dim, 1}},
                          .k = {k.data(), stride},
                          .v = {v.data(), stride},
                          .sm_scale = 1};
        EXPECT_EQ(kv_len(in, 0), 8);
        AttentionOutput out = attention(in);
        for (int h = 0; h < heads; ++h) {
          double mass = 0, sum = 0;
          for (int j = 0; j < 8; ++j) {
            const double e = std::exp((h + 1) * (0.25 * j + h));
            mass += e, sum += e * (j * j - h);
          }
          EXPECT_NEAR(out.lse[static_cast<size_t>(h)], std::log(mass), 1e-12);
          EXPECT_NEAR(out.o[static_cast<size_t>(h * dim)], sum / mass, 1e-12);
          EXPECT_NEAR(out.o[static_cast<size_t>(h * dim + 3)], 3.0, 1e-12);
        }
      }
    }
  }
}

TEST(AttentionOracle, GroupsShareAKeyHead) {
  // 2 kv heads, 3 qo heads each; the key of head h is h + 1, queries are all 1, so lse tells the kv head.
  AttentionSpec spec{.group_size = 3, .head_dim_qk = 16, .head_dim_vo = 16, .layout = {.kind = LayoutKind::ragged}};
  std::vector<uint16_t> q(6 * 16, 0), k(2 * 16, 0), v(2 * 16, 0);
  for (size_t h = 0; h < 6; ++h) q[h * 16] = encode(DType::bf16, 1);
  for (size_t h = 0; h < 2; ++h) k[h * 16] = encode(DType::bf16, static_cast<double>(h + 1));
  const std::vector<int32_t> indptr{0, 1};
  AttentionInput in{.spec = spec,
                    .num_kv_heads = 2,
                    .qo_indptr = indptr,
                    .kv_indptr = indptr,
                    .q = {q.data(), {96, 16, 1}},
                    .k = {k.data(), {32, 16, 1}},
                    .v = {v.data(), {32, 16, 1}},
                    .sm_scale = 1};
  EXPECT_EQ(attention(in).lse, (std::vector<double>{1, 1, 1, 2, 2, 2}));
}

}  // namespace
}  // namespace lathe::oracle
