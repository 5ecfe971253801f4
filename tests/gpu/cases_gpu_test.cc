// The random cases of tests/kernels, on the GPU: same specs, same batches, same oracle, same bounds.
#include "gpu.h"
#include "lathe/proof/cases.h"
#include "lathe/proof/harness.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

class GpuKernels : public GpuTest, public ::testing::WithParamInterface<int> {
 protected:
  void prove_specs(size_t first, size_t last) {
    const uint64_t shard_seed = mix(seed(), static_cast<uint64_t>(GetParam()));
    std::vector<AttentionSpec> specs = draw_specs(GetParam(), shard_seed);
    for (size_t i = first; i < std::min(last, specs.size()); ++i) {
      Result<Attention> attention = Attention::prepare(engine(), device, specs[i]);
      ASSERT_TRUE(attention.ok()) << attention.status().to_string() << "\n" << to_json(specs[i]);
      std::mt19937_64 rng(mix(shard_seed, i));
      for (int n = 0; n < kBatchesPerSpec; ++n) {
        const BatchShape shape = draw_batch(specs[i], attention->tile(), rng() % 8 != 0, rng);
        EXPECT_EQ(prove(device, *attention, shape, mix(shard_seed, 1000 * i + static_cast<uint64_t>(n)), repeat_command()), "")
            << "spec " << i << ", batch " << n;
      }
    }
  }
};

TEST_P(GpuKernels, Oracle) {
  prove_specs(0, SIZE_MAX);
}
INSTANTIATE_TEST_SUITE_P(, GpuKernels, ::testing::Range(0, kShards), [](const auto& shard) { return std::to_string(shard.param); });

// One spec of each shard: few enough to be run under a sanitizer.
using GpuSanitizer = GpuKernels;
TEST_P(GpuSanitizer, FewCases) {
  prove_specs(0, 1);
}
INSTANTIATE_TEST_SUITE_P(, GpuSanitizer, ::testing::Range(0, kShards),
                         [](const auto& shard) { return std::to_string(shard.param); });

}  // namespace
}  // namespace lathe::testing
