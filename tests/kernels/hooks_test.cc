// Variants of attention, as hooks, on the host executor with every check on, against the fp64 oracle.
#include <gtest/gtest.h>

#include "lathe/proof/variants.h"
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

INSTANTIATE_TEST_SUITE_P(, Variants, ::testing::Range<size_t>(0, num_variants()),
                         [](const auto& variant) { return variant_name(variant.param); });

}  // namespace
}  // namespace lathe::testing
