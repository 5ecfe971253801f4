// Shapes of real models at lengths that fill a GPU, which the host executor is too slow for.
#include "gpu.h"
#include "lathe/proof/harness.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

class GpuShapes : public GpuTest {
 protected:
  void expect_right(const AttentionSpec& spec, const BatchShape& shape) {
    Result<Attention> attention = Attention::prepare(engine(), device, spec);
    ASSERT_TRUE(attention.ok()) << attention.status().to_string();
    Outcome outcome;
    EXPECT_EQ(prove(device, *attention, shape, mix(seed(), 1), repeat_command(), &outcome), "");
    EXPECT_GT(outcome.plan.plan.num_items, 0);
    groups = outcome.plan.plan.num_split_tiles;
  }

  static AttentionSpec paged(DType dtype, int32_t group_size) {
    AttentionSpec spec;
    spec.q_dtype = spec.o_dtype = spec.kfmt = spec.vfmt = dtype;
    spec.group_size = group_size;
    spec.mask = Mask::causal;
    spec.lse = LseOut::ln;
    return spec;
  }

  int32_t groups = 0;
};

TEST_F(GpuShapes, MixedBatch) {
  expect_right(paged(DType::bf16, 4),
               {.num_kv_heads = 8, .qo_lens = {1, 1, 384, 1, 77, 0, 1}, .kv_lens = {900, 17, 1500, 2500, 77, 40, 0}});
}

TEST_F(GpuShapes, LongDecodeIsSplit) {
  expect_right(paged(DType::f16, 4), {.num_kv_heads = 2, .qo_lens = {1}, .kv_lens = {50'000}});
  EXPECT_GT(groups, 0);
}

TEST_F(GpuShapes, ManyDecodes) {
  BatchShape shape{.num_kv_heads = 4};
  std::mt19937_64 rng(mix(seed(), 2));
  for (int i = 0; i < 200; ++i) {
    shape.qo_lens.push_back(1);
    shape.kv_lens.push_back(static_cast<int32_t>(rng() % 700));
  }
  expect_right(paged(DType::bf16, 7), shape);
}

// 60 decodes and short chunks behind common pages, 30 of them behind more: shared tiles, their leaves, and both kinds cut.
TEST_F(GpuShapes, SharedPrefixes) {
  const AttentionSpec spec = paged(DType::bf16, 4);
  BatchShape shape{.num_kv_heads = 8};
  std::vector<SharedPages> shared;
  std::mt19937_64 rng(mix(seed(), 3));
  for (int32_t b = 0; b < 60; ++b) {
    const int32_t pages = b < 30 ? 250 : 150;
    if (b > 0) shared.push_back({b, 0, pages});
    shape.qo_lens.push_back(b % 10 == 3 ? 5 : 1);
    shape.kv_lens.push_back(pages * spec.layout.page_size + 5 + static_cast<int32_t>(rng() % 300));
  }
  Batch batch{shape, draw_values(spec, shape, 2.0, rng)};
  share_values(spec, shared, batch);
  const BatchImage image(spec, batch, {.seed = mix(seed(), 4), .shared = shared});
  Result<Attention> attention = Attention::prepare(engine(), device, spec);
  ASSERT_TRUE(attention.ok()) << attention.status().to_string();
  const Outcome outcome = run(device, *attention, image, shape.num_kv_heads);
  EXPECT_EQ(judge(spec, shape, image, outcome, repeat_command()), "");
  EXPECT_GT(outcome.plan.plan.num_shared_tiles, 0);
}

TEST_F(GpuShapes, CausalPrefill) {
  AttentionSpec spec = paged(DType::bf16, 4);
  spec.layout.kind = LayoutKind::ragged;
  expect_right(spec, {.num_kv_heads = 2, .qo_lens = {1500}, .kv_lens = {1500}});
}

TEST_F(GpuShapes, PageOfOneToken) {
  AttentionSpec spec = paged(DType::bf16, 4);
  spec.layout.page_size = 1;
  expect_right(spec, {.num_kv_heads = 4, .qo_lens = {64, 1, 1}, .kv_lens = {640, 999, 1234}});
}

TEST_F(GpuShapes, WideHeads) {
  AttentionSpec spec = paged(DType::bf16, 2);
  spec.head_dim_qk = spec.head_dim_vo = 256;
  expect_right(spec, {.num_kv_heads = 4, .qo_lens = {200, 1}, .kv_lens = {1000, 3000}});
}

}  // namespace
}  // namespace lathe::testing
