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
  causal.layout.page_size = 32;
  // Plain kernels take turns with the variants, so that a machine whose load changes is as busy for both.
  constexpr size_t kPlainKernels = 5;
  std::vector<double> plain_ms;
  const auto build_plain = [&] {
    AttentionSpec spec = causal;
    spec.layout.page_size <<= plain_ms.size();  // another kernel, as much work
    const Result<ArtifactPtr> plain = build(spec);
    ASSERT_TRUE(plain.ok()) << plain.status().to_string();
    plain_ms.push_back((*plain)->compile_ms);
  };

  std::vector<size_t> order(kExamples.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), rng);
  order.resize(std::min<size_t>(order.size(), LATHE_COMPILE_VARIANTS));
  const size_t stride = ceil_div(order.size(), kPlainKernels);
  std::vector<std::pair<double, const char*>> times;
  for (size_t place = 0; place < order.size(); ++place) {
    const size_t i = order[place];
    if (place % stride == 0) build_plain();
    AttentionSpec spec = causal;
    spec.mask = Mask::none;
    spec.hooks = *expr::parse(kExamples[i].text);
    if (!spec.hooks.normalizes()) spec.lse = LseOut::none;
    if (!validate(spec).ok()) continue;
    const Result<ArtifactPtr> artifact = build(spec);
    ASSERT_TRUE(artifact.ok()) << kExamples[i].name << ": " << artifact.status().to_string();
    const Artifact& a = **artifact;
    times.emplace_back(a.compile_ms, kExamples[i].name);
    std::printf("%-7s %3d registers %4d spilled %6.1f KB PTX per class %5.0f ms  %s\n", GetParam(), a.registers, a.spill_bytes,
                static_cast<double>(a.ptx_bytes) / 2048, a.compile_ms, kExamples[i].name);
    EXPECT_EQ(a.spill_bytes, 0) << kExamples[i].name;
    EXPECT_LE(a.ptx_bytes / 2, kPtxPerClass) << kExamples[i].name;
  }
  std::sort(times.begin(), times.end());
  std::sort(plain_ms.begin(), plain_ms.end());
  ASSERT_FALSE(times.empty());
  const double plain = plain_ms[plain_ms.size() / 2];
  std::printf("%s: %zu variants, compile time over plain causal (%.0f ms, median of %zu): median %.2f, most %.2f (%s)\n",
              GetParam(), times.size(), plain, plain_ms.size(), times[times.size() / 2].first / plain, times.back().first / plain,
              times.back().second);
}
INSTANTIATE_TEST_SUITE_P(, CompileVariants, ::testing::ValuesIn(kArchs), [](const auto& arch) { return std::string(arch.param); });

}  // namespace
}  // namespace lathe::testing
