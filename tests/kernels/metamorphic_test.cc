// Changes that must leave a result alone: in its bits where the order of summation is the same, else within rounding.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lathe/oracle/float16.h"
#include "lathe/proof/harness.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

AttentionSpec base_spec() {
  AttentionSpec spec;
  spec.group_size = 2;
  spec.head_dim_qk = spec.head_dim_vo = 64;
  spec.layout = {.kind = LayoutKind::paged, .page_size = 16};
  spec.mask = Mask::causal;
  spec.lse = LseOut::ln;
  spec.split_kv.mode = SplitMode::off;
  spec.tile = {.automatic = false, .warps = 4, .stages = 2, .classes = {{64, 64}, {16, 64}}};
  return spec;
}

// Decodes, pieces of prompts, lengths on and beside tile and page borders, an empty request.
const BatchShape kShape{.num_kv_heads = 2, .qo_lens = {1, 40, 1, 3, 0, 7}, .kv_lens = {300, 65, 17, 128, 33, 7}};

class Metamorphic : public ::testing::Test {
 protected:
  Batch draw(const AttentionSpec& spec, const BatchShape& shape) {
    std::mt19937_64 rng(seed());
    return {shape, draw_values(spec, shape, 2.0, rng)};
  }

  Outcome outcome(const AttentionSpec& spec, const Batch& batch, const Placement& placement = {}, uint64_t order = 0) {
    auto device = host_device({.seed = mix(seed(), order), .check = true});
    Result<Attention> attention = Attention::prepare(engine(), device, spec);
    EXPECT_TRUE(attention.ok()) << attention.status().to_string();
    if (!attention.ok()) return {};
    const BatchImage image(spec, batch, placement);
    Outcome out = run(device, *attention, image, batch.shape.num_kv_heads);
    for (const std::string& problem : out.problems) ADD_FAILURE() << problem << "\nrepeat: " << repeat_command();
    return out;
  }

  void expect_same_bits(const Outcome& a, const Outcome& b, const char* what) {
    EXPECT_FALSE(a.o.empty());
    EXPECT_TRUE(a.o == b.o) << what << "\nrepeat: " << repeat_command();
    EXPECT_TRUE(a.lse == b.lse) << what << "\nrepeat: " << repeat_command();
  }

  // Both results within rounding of each other: rounding of o, and twice the rounding of weights.
  void expect_close(const AttentionSpec& spec, const Outcome& a, const Outcome& b, const char* what) {
    ASSERT_EQ(a.o.size(), b.o.size());
    double wrong = 0, all = 0;
    for (size_t i = 0; i < a.o.size(); ++i) {
      const double x = oracle::decode(spec.o_dtype, a.o[i]), y = oracle::decode(spec.o_dtype, b.o[i]);
      wrong += (x - y) * (x - y), all += x * x;
    }
    EXPECT_LE(std::sqrt(wrong), bounds_of(spec).tensor * std::sqrt(all)) << what << "\nrepeat: " << repeat_command();
    for (size_t i = 0; i < a.lse.size(); ++i) {
      if (a.lse[i] == b.lse[i]) continue;
      EXPECT_NEAR(a.lse[i], b.lse[i], 2e-4) << what << ", row " << i << "\nrepeat: " << repeat_command();
    }
  }

  // The rows of request `b` of a batch.
  static Outcome request(const AttentionSpec& spec, const BatchShape& shape, const Outcome& all, size_t b) {
    const std::vector<int32_t> begin = indptr(shape.qo_lens);
    const int64_t heads = shape.num_kv_heads * spec.group_size;
    Outcome out;
    out.o = rows(all.o, begin[b], begin[b + 1], heads * spec.head_dim_vo);
    out.lse = rows(all.lse, begin[b], begin[b + 1], heads);
    return out;
  }
};

TEST_F(Metamorphic, PagePermutation) {
  const AttentionSpec spec = base_spec();
  const Batch batch = draw(spec, kShape);
  expect_same_bits(outcome(spec, batch, {.seed = 1}), outcome(spec, batch, {.seed = 2}), "another permutation of the pages");
}

TEST_F(Metamorphic, OrderOfThreadsAndBlocks) {
  AttentionSpec spec = base_spec();
  spec.split_kv = {SplitMode::fixed, 64};
  const Batch batch = draw(spec, kShape);
  const Outcome first = outcome(spec, batch, {}, 1);
  EXPECT_GT(first.plan.plan.num_split_tiles, 0);
  for (uint64_t order = 2; order < 6; ++order) expect_same_bits(first, outcome(spec, batch, {}, order), "another order of threads");
}

TEST_F(Metamorphic, BatchOrder) {
  for (SplitMode mode : {SplitMode::off, SplitMode::fixed, SplitMode::automatic}) {
    AttentionSpec spec = base_spec();
    spec.split_kv = {mode, mode == SplitMode::fixed ? 64 : 0};
    const Batch batch = draw(spec, kShape);
    const Outcome whole = outcome(spec, batch);
    std::vector<size_t> order(kShape.batch());
    std::iota(order.begin(), order.end(), size_t{0});
    std::mt19937_64 rng(seed());
    std::shuffle(order.begin(), order.end(), rng);
    const Batch shuffled = select(spec, batch, order);
    const Outcome other = outcome(spec, shuffled);
    // Where automatic cuts fall depends on the order, so some orders cut a request that others leave whole.
    const bool cut = mode == SplitMode::automatic && whole.plan.plan.num_split_tiles + other.plan.plan.num_split_tiles > 0;
    for (size_t i = 0; i < order.size(); ++i) {
      if (kShape.qo_lens[order[i]] == 0) continue;
      const Outcome wanted = request(spec, kShape, whole, order[i]), got = request(spec, shuffled.shape, other, i);
      if (cut) {
        expect_close(spec, wanted, got, "another order of requests");
      } else {
        expect_same_bits(wanted, got, "another order of requests");
      }
    }
  }
}

// Automatic cuts depend on a request's place in the batch, so its sums may be split elsewhere.
TEST_F(Metamorphic, BatchOrderUnderAutomaticCuts) {
  AttentionSpec spec = base_spec();
  spec.split_kv = {};
  const BatchShape shape{.num_kv_heads = 2, .qo_lens = {1, 1, 20}, .kv_lens = {2600, 900, 400}};
  const Batch batch = draw(spec, shape);
  const Outcome whole = outcome(spec, batch);
  EXPECT_GT(whole.plan.plan.num_split_tiles, 0);
  const std::vector<size_t> order{2, 1, 0};
  const Batch reversed = select(spec, batch, order);
  const Outcome other = outcome(spec, reversed);
  for (size_t i = 0; i < order.size(); ++i) {
    expect_close(spec, request(spec, shape, whole, order[i]), request(spec, reversed.shape, other, i), "another order of requests");
  }
}

TEST_F(Metamorphic, BatchInvariance) {
  for (SplitSpec split : {SplitSpec{SplitMode::automatic, 0}, SplitSpec{SplitMode::fixed, 96}}) {
    AttentionSpec spec = base_spec();
    spec.determinism = Determinism::batch_invariant;
    spec.split_kv = split;
    const Batch batch = draw(spec, kShape);
    const Outcome whole = outcome(spec, batch);
    for (size_t b = 0; b < kShape.batch(); ++b) {
      if (kShape.qo_lens[b] == 0) continue;
      const Outcome wanted = request(spec, kShape, whole, b);
      const Batch alone = select(spec, batch, {b});
      expect_same_bits(wanted, outcome(spec, alone), "the request alone");
      const Batch crowd = select(spec, batch, {3, 3, b, 1, 0, 0, 0, 2});
      expect_same_bits(wanted, request(spec, crowd.shape, outcome(spec, crowd), 2), "the request among others");
    }
  }
}

TEST_F(Metamorphic, SplitsAgreeWithinRounding) {
  AttentionSpec spec = base_spec();
  const Batch batch = draw(spec, kShape);
  const Outcome whole = outcome(spec, batch);
  for (int32_t tokens : {16, 48, 64, 128, 1024}) {
    spec.split_kv = {SplitMode::fixed, tokens};
    const Outcome parts = outcome(spec, batch);
    EXPECT_EQ(parts.plan.plan.num_split_tiles > 0, tokens < 300);
    // No request is cut: the sums are the same ones.
    if (tokens == 1024) expect_same_bits(whole, parts, "splits longer than every request");
    expect_close(spec, whole, parts, "split keys");
  }
}

TEST_F(Metamorphic, PaddedStrides) {
  const AttentionSpec spec = base_spec();
  const Batch batch = draw(spec, kShape);
  expect_same_bits(outcome(spec, batch), outcome(spec, batch, {.padded = true}), "padded strides");
}

TEST_F(Metamorphic, PageForms) {
  AttentionSpec spec = base_spec();
  const Batch batch = draw(spec, kShape);
  const Outcome wanted = outcome(spec, batch);
  for (int32_t page_size : {1, 7, 16, 64, 512}) {
    for (PageOrder order : {PageOrder::nhd, PageOrder::hnd}) {
      for (KvStorage storage : {KvStorage::separate, KvStorage::joint}) {
        for (PageIndex index : {PageIndex::csr, PageIndex::table}) {
          spec.layout = {LayoutKind::paged, page_size, order, storage, index};
          expect_same_bits(wanted, outcome(spec, batch, {.seed = seed()}), "another form of pages");
        }
      }
    }
  }
}

TEST_F(Metamorphic, RaggedEqualsPaged) {
  AttentionSpec spec = base_spec();
  const Batch batch = draw(spec, kShape);
  const Outcome paged = outcome(spec, batch);
  spec.layout = {};
  spec.layout.kind = LayoutKind::ragged;
  expect_same_bits(paged, outcome(spec, batch), "ragged");
}

TEST_F(Metamorphic, PackingGroupsAgrees) {
  AttentionSpec spec = base_spec();
  const Batch batch = draw(spec, kShape);
  spec.gqa_pack = GqaPack::on;
  const Outcome packed = outcome(spec, batch);
  spec.gqa_pack = GqaPack::off;
  expect_close(spec, packed, outcome(spec, batch), "heads not packed");
}

TEST_F(Metamorphic, BaseOfLse) {
  AttentionSpec spec = base_spec();
  const Batch batch = draw(spec, kShape);
  const Outcome natural = outcome(spec, batch);
  spec.lse = LseOut::log2;
  const Outcome binary = outcome(spec, batch);
  spec.lse = LseOut::none;
  EXPECT_TRUE(natural.o == binary.o);
  EXPECT_TRUE(natural.o == outcome(spec, batch).o);
  for (size_t i = 0; i < natural.lse.size(); ++i) {
    const double wanted = static_cast<double>(binary.lse[i]) * std::log(2.0);
    if (static_cast<double>(natural.lse[i]) == wanted) continue;  // infinities too
    EXPECT_NEAR(natural.lse[i], wanted, 2e-7 * std::max(1.0, std::fabs(wanted)));
  }
}

// A window as wide as all keys, and a mask that hides nothing, change nothing.
TEST_F(Metamorphic, WideWindow) {
  AttentionSpec spec = base_spec();
  Batch batch = draw(spec, kShape);
  const Outcome causal = outcome(spec, batch);
  spec.mask = Mask::causal_window;
  for (int32_t window : {300, 301, INT32_MAX}) {
    batch.shape.window = window;
    expect_same_bits(causal, outcome(spec, batch), "a wide window");
  }
}

TEST_F(Metamorphic, CausalOfOneTokenIsNoMask) {
  AttentionSpec spec = base_spec();
  const Batch batch = draw(spec, {.num_kv_heads = 2, .qo_lens = {1, 1}, .kv_lens = {257, 64}});
  const Outcome causal = outcome(spec, batch);
  spec.mask = Mask::none;
  expect_same_bits(causal, outcome(spec, batch), "no mask");
}

// Every key twice: the same o, and lse larger by log 2.
TEST_F(Metamorphic, KeysTwice) {
  AttentionSpec spec = base_spec();
  spec.mask = Mask::none;
  const Batch batch = draw(spec, kShape);
  Batch twice = batch;
  twice.values.k.clear(), twice.values.v.clear();
  const std::vector<int32_t> begin = indptr(kShape.kv_lens);
  for (size_t b = 0; b < kShape.batch(); ++b) {
    twice.shape.kv_lens[b] *= 2;
    for (int copy = 0; copy < 2; ++copy) {
      const auto k = rows(batch.values.k, begin[b], begin[b + 1], kShape.num_kv_heads * spec.head_dim_qk);
      const auto v = rows(batch.values.v, begin[b], begin[b + 1], kShape.num_kv_heads * spec.head_dim_vo);
      twice.values.k.insert(twice.values.k.end(), k.begin(), k.end());
      twice.values.v.insert(twice.values.v.end(), v.begin(), v.end());
    }
  }
  const Outcome once = outcome(spec, batch);
  Outcome doubled = outcome(spec, twice);
  for (float& lse : doubled.lse) lse -= static_cast<float>(std::log(2.0));
  expect_close(spec, once, doubled, "every key twice");
}

// Twice the queries at half the scale is the same problem, and exactly so: the factor is a power of two.
TEST_F(Metamorphic, ScaleMovesIntoTheQueries) {
  const AttentionSpec spec = base_spec();
  Batch batch = draw(spec, kShape);
  batch.shape.sm_scale = 0.25f;
  const Outcome wanted = outcome(spec, batch);
  for (uint16_t& q : batch.values.q) q = oracle::encode(spec.q_dtype, 2 * oracle::decode(spec.q_dtype, q));
  batch.shape.sm_scale = 0.125f;
  expect_same_bits(wanted, outcome(spec, batch), "scale moved into q");
}

}  // namespace
}  // namespace lathe::testing
