// Variants of attention, as hooks, on the host executor with every check on, against the fp64 oracle.
#include <gtest/gtest.h>

#include "lathe/proof/harness.h"
#include "lathe/proof/variants.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

class Variants : public ::testing::TestWithParam<size_t> {};

// In every run one element type and layout each; all of them under --full.
TEST_P(Variants, EqualTheOracle) {
  std::mt19937_64 rng(mix(seed(), GetParam()));
  const size_t first = LATHE_ALL_VARIANTS ? 0 : rng() % 4, last = LATHE_ALL_VARIANTS ? 4 : first + 1;
  for (size_t i = first; i < last; ++i) {
    const DType dtype = i % 2 == 0 ? DType::bf16 : DType::f16;
    const AttentionSpec spec = variant_spec(GetParam(), dtype, i < 2 ? LayoutKind::paged : LayoutKind::ragged, rng);
    EXPECT_EQ(prove_variant(host_device({.seed = rng(), .check = true}), GetParam(), spec, 2, rng, repeat_command()), "")
        << to_string(spec);
  }
}

// The cap came after the mask, and gave the keys that it hides a score of -cap.
TEST(SoftCap, BesideAMaskOfHooks) {
  std::mt19937_64 rng(seed());
  AttentionSpec spec;
  spec.head_dim_qk = spec.head_dim_vo = 64;
  spec.soft_cap = true, spec.lse = LseOut::ln;
  spec.hooks = *expr::parse("mask = kv_pos <= q_pos && kv_pos % 3 != 1");
  const auto device = host_device({.seed = rng(), .check = true});
  Result<Attention> attention = Attention::prepare(engine(), device, spec);
  ASSERT_TRUE(attention.ok()) << attention.status().to_string();
  const BatchShape shape{.num_kv_heads = 1, .qo_lens = {1, 40}, .kv_lens = {200, 90}, .soft_cap = 2};
  EXPECT_EQ(prove(device, *attention, shape, rng(), repeat_command()), "");
}

INSTANTIATE_TEST_SUITE_P(, Variants, ::testing::Range<size_t>(0, num_variants()),
                         [](const auto& variant) { return variant_name(variant.param); });

}  // namespace
}  // namespace lathe::testing
