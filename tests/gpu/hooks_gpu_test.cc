// Variants of attention, as hooks, on the GPU: same examples, same oracle, same bounds as in tests/kernels.
#include "gpu.h"
#include "lathe/proof/variants.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

class GpuVariants : public GpuTest, public ::testing::WithParamInterface<size_t> {};

TEST_P(GpuVariants, EqualTheOracle) {
  std::mt19937_64 rng(mix(seed(), GetParam()));
  for (DType dtype : {DType::bf16, DType::f16}) {
    const AttentionSpec spec = variant_spec(GetParam(), dtype, rng() % 2 == 0 ? LayoutKind::paged : LayoutKind::ragged, rng);
    EXPECT_EQ(prove_variant(device, GetParam(), spec, 3, rng, repeat_command()), "") << to_string(spec);
  }
}

INSTANTIATE_TEST_SUITE_P(, GpuVariants, ::testing::Range<size_t>(0, num_variants()),
                         [](const auto& variant) { return variant_name(variant.param); });

}  // namespace
}  // namespace lathe::testing
