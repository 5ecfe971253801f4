// Attention in levels, each with a spec of its own: the states of separate launches, merged by the merge kernel.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "lathe/api/merge.h"
#include "lathe/oracle/attention.h"
#include "lathe/oracle/float16.h"
#include "lathe/proof/harness.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

// One level: what its rows see of its keys, and how those are held.
struct Level {
  AttentionSpec spec;
  BatchShape shape;
};

// What one level's launch left, and what it should be, in double.
struct States {
  std::vector<uint16_t> o;
  std::vector<float> lse;
  oracle::AttentionOutput expected;
};

States attend(const std::shared_ptr<Device>& device, const Level& level, const std::vector<uint16_t>& q, std::mt19937_64& rng) {
  Batch batch{level.shape, draw_values(level.spec, level.shape, 2.0, rng)};
  batch.values.q = q;  // every level sees the same queries
  const BatchImage image(level.spec, batch, {.seed = rng()});
  Result<Attention> attention = Attention::prepare(engine(), device, level.spec);
  EXPECT_TRUE(attention.ok()) << attention.status().to_string();
  const Outcome outcome = run(device, *attention, image, level.shape.num_kv_heads);
  EXPECT_EQ(judge(level.spec, level.shape, image, outcome, repeat_command()), "");
  return {outcome.o, outcome.lse, oracle::attention(image.oracle_input())};
}

// A context in e4m3 that all see, a window of 16 bits with logits of its own, and the request's own keys; the states merged by
// their log-sum-exps, of which the first level's is transformed (APE, arXiv 2502.05431) and the last counts the sink.
TEST(Levels, MasksFormatsAndHooksOfTheirOwn) {
  std::mt19937_64 rng(seed());
  const std::vector<int32_t> qo_lens{1, 40, 3};
  AttentionSpec common;
  common.group_size = 2;
  common.head_dim_qk = common.head_dim_vo = 64;
  common.lse = LseOut::ln;
  std::vector<Level> levels(3, Level{common, {.num_kv_heads = 2, .qo_lens = qo_lens}});
  levels[0].spec.kfmt = levels[0].spec.vfmt = DType::e4m3;
  levels[0].spec.vscale = KvScale::token;
  levels[0].spec.hooks = *expr::parse("lse_transform = lse * 0.5 + 1");
  levels[0].shape.kv_lens = {500, 333, 90};
  levels[1].spec.mask = Mask::causal_window;
  levels[1].spec.layout.page_size = 5;
  levels[1].shape.kv_lens = {70, 120, 3};
  levels[1].shape.window = 33;
  levels[2].spec.layout = {};
  levels[2].spec.layout.kind = LayoutKind::ragged;
  levels[2].spec.hooks = *expr::parse("tensor s: f32[HQ]; mask = kv_pos <= q_pos; sink = s[h]");
  levels[2].shape.kv_lens = qo_lens;

  const auto device = host_device({.seed = rng(), .check = true});
  const int64_t tokens = 44, heads = 4, dim = 64, states = 3;
  const std::vector<uint16_t> q = draw_values(common, levels[2].shape, 2.0, rng).q;
  std::vector<uint16_t> o;
  std::vector<float> lse;
  std::vector<oracle::AttentionOutput> expected;
  for (const Level& level : levels) {
    States state = attend(device, level, q, rng);
    o.insert(o.end(), state.o.begin(), state.o.end());
    lse.insert(lse.end(), state.lse.begin(), state.lse.end());
    expected.push_back(std::move(state.expected));
  }
  Result<Merge> merge = Merge::prepare(engine(), device, {.head_dim = dim});
  ASSERT_TRUE(merge.ok()) << merge.status().to_string();
  const std::vector<int32_t> sizes{static_cast<int32_t>(tokens * heads), static_cast<int32_t>(states)};
  const auto put = [&](const auto& list) { return *GuardedBuffer::make(device, std::as_bytes(std::span(list))); };
  const GuardedBuffer all_o = put(o), all_lse = put(lse), counts = put(sizes);
  const GuardedBuffer merged = put(std::vector<uint16_t>(static_cast<size_t>(tokens * heads * dim), 0x7fc0));
  const Status status = merge->run({.o = Tensor::contiguous(all_o.data(), {states, tokens, heads, dim}),
                                    .lse = Tensor::contiguous(all_lse.data(), {states, tokens, heads}),
                                    .merged_o = Tensor::contiguous(merged.data(), {tokens, heads, dim}),
                                    .sizes = reinterpret_cast<const int32_t*>(counts.data())},
                                   nullptr);
  ASSERT_TRUE(status.ok()) << status.to_string();

  const Bytes bytes = *merged.read();
  double error = 0, norm = 0;
  for (size_t row = 0; row < static_cast<size_t>(tokens * heads); ++row) {
    double total = 0;
    for (const auto& e : expected) total += std::exp(e.lse[row]);
    for (size_t d = 0; d < dim; ++d) {
      double wanted = 0;
      for (const auto& e : expected) wanted += std::exp(e.lse[row]) / total * e.o[row * dim + d];
      uint16_t bits;
      std::memcpy(&bits, bytes.data() + 2 * (row * dim + d), 2);
      const double got = oracle::decode(DType::bf16, bits);
      error += (got - wanted) * (got - wanted), norm += wanted * wanted;
    }
  }
  std::printf("error of the merged tensor %.2g\n", std::sqrt(error / norm));
  // Each state was rounded to 16 bits once before, the result once again.
  EXPECT_LE(std::sqrt(error), 2 * 3.5e-3 * std::sqrt(norm));
}

}  // namespace
}  // namespace lathe::testing
