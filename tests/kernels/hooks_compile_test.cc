// Variants compiled by NVRTC for GPUs and not run: no spills, bounded PTX, and a compile time beside that of plain causal
// attention. LATHE_TEST_NO_NVRTC=1 skips this where there is no NVRTC; without it, its absence is a failure.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

#include "examples.h"
#include "lathe/arch/traits.h"
#include "lathe/proof/harness.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

using expr::testing::kExamples;

constexpr std::array kArchs{"sm_80", "sm_89", "sm_90a", "sm_100a", "sm_120a"};
// More than kernels without hooks may have: an expression is printed once for each column of scores, and MagicPIG's is long.
constexpr int64_t kPtxPerClass = 200 * 1024;

Result<ArtifactPtr> build(const AttentionSpec& spec) {
  Result<AttentionTile> tile = resolve_tile(spec, *arch_traits(spec.arch));
  LATHE_TRY(tile);
  Result<KernelRequest> request = attention_request(spec, *tile);
  LATHE_TRY(request);
  return engine().build(*request);
}

class CompileVariants : public ::testing::TestWithParam<const char*> {};

TEST_P(CompileVariants, WithoutSpills) {
  const char* skip = std::getenv("LATHE_TEST_NO_NVRTC");
  if (skip != nullptr && std::string(skip) == "1") GTEST_SKIP() << "LATHE_TEST_NO_NVRTC is set";
  std::mt19937_64 rng(seed());
  AttentionSpec causal;
  causal.arch = GetParam();
  causal.group_size = 4, causal.lse = LseOut::ln, causal.mask = Mask::causal;
  ASSERT_TRUE(build(causal).ok());  // starts the worker
  causal.label.clear();
  causal.layout.page_size = 32;
  const Result<ArtifactPtr> plain = build(causal);
  ASSERT_TRUE(plain.ok()) << plain.status().to_string();

  std::vector<size_t> order(kExamples.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), rng);
  order.resize(std::min<size_t>(order.size(), LATHE_COMPILE_VARIANTS));
  std::vector<double> ratios;
  for (size_t i : order) {
    AttentionSpec spec = causal;
    spec.mask = Mask::none;
    spec.hooks = *expr::parse(kExamples[i].text);
    if (!spec.hooks.normalizes()) spec.lse = LseOut::none;
    if (!validate(spec).ok()) continue;
    const Result<ArtifactPtr> artifact = build(spec);
    ASSERT_TRUE(artifact.ok()) << kExamples[i].name << ": " << artifact.status().to_string();
    const Artifact& a = **artifact;
    ratios.push_back(a.compile_ms / (*plain)->compile_ms);
    std::printf("%-7s %3d registers %4d spilled %6.1f KB PTX per class %5.0f ms, %.2f of causal  %s\n", GetParam(), a.registers,
                a.spill_bytes, static_cast<double>(a.ptx_bytes) / 2048, a.compile_ms, ratios.back(), kExamples[i].name);
    EXPECT_EQ(a.spill_bytes, 0) << kExamples[i].name;
    EXPECT_LE(a.ptx_bytes / 2, kPtxPerClass) << kExamples[i].name;
  }
  std::sort(ratios.begin(), ratios.end());
  ASSERT_FALSE(ratios.empty());
  std::printf("%s: %zu variants, compile time over plain causal (%.0f ms): median %.2f, most %.2f\n", GetParam(), ratios.size(),
              (*plain)->compile_ms, ratios[ratios.size() / 2], ratios.back());
}
INSTANTIATE_TEST_SUITE_P(, CompileVariants, ::testing::ValuesIn(kArchs), [](const auto& arch) { return std::string(arch.param); });

}  // namespace
}  // namespace lathe::testing
