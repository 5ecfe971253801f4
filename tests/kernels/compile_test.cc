// Kernels compiled by NVRTC for GPUs and not run: no spills, shared memory within the arch's limit, bounded PTX.
// LATHE_TEST_NO_NVRTC=1 skips this where there is no NVRTC; without it, its absence is a failure.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <set>

#include "lathe/api/append.h"
#include "lathe/api/attention_planner.h"
#include "lathe/api/merge.h"
#include "lathe/arch/traits.h"
#include "lathe/proof/harness.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec_testing/random_spec.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

constexpr std::array kArchs{"sm_80", "sm_89", "sm_90a", "sm_100a", "sm_120a"};
constexpr int64_t kPtxPerClass = 150 * 1024;
constexpr int kInFlight = 2;  // NVRTC workers

bool nvrtc_missing() {
  const char* skip = std::getenv("LATHE_TEST_NO_NVRTC");
  return skip != nullptr && std::string(skip) == "1";
}

// `count` specs with automatic tiles (shapes that are used, the largest, random ones), and a fifth as many with given tiles.
std::vector<AttentionSpec> specs_to_compile(size_t count) {
  std::vector<AttentionSpec> specs(6);
  specs[0].group_size = 4, specs[0].mask = Mask::causal, specs[0].lse = LseOut::ln;
  specs[1] = specs[0];
  specs[1].layout = {};
  specs[1].layout.kind = LayoutKind::ragged;
  specs[2].head_dim_qk = specs[2].head_dim_vo = 64, specs[2].mask = Mask::causal_window, specs[2].soft_cap = true;
  specs[3].head_dim_qk = specs[3].head_dim_vo = 256, specs[3].mask = Mask::causal, specs[3].group_size = 8;
  specs[4].head_dim_qk = 192, specs[4].head_dim_vo = 128, specs[4].mask = Mask::causal;
  specs[5].head_dim_qk = 16, specs[5].head_dim_vo = 256, specs[5].layout.page_size = 1, specs[5].mask = Mask::causal_window,
  specs[5].soft_cap = true;
  std::mt19937_64 rng(seed());
  const auto add = [&](bool given) {
    AttentionSpec spec = random_spec(rng);
    while (given && spec.tile.automatic) spec = random_spec(rng);
    if (!given) spec.tile = {};
    spec.hooks = {};  // hooks_compile_test has these
    spec.label.clear();
    specs.push_back(std::move(spec));
  };
  for (size_t i = 0; i < count / 5; ++i) add(true);
  while (specs.size() < count + count / 5) add(false);
  return specs;
}

struct Compiled {
  AttentionSpec spec;
  size_t classes = 0;
  Result<ArtifactPtr> artifact = Status();
};

Compiled compile(AttentionSpec spec, const std::string& arch) {
  spec.arch = arch;
  Result<AttentionTile> tile = resolve_tile(spec, *arch_traits(arch));
  if (!tile.ok()) return {spec, 0, tile.status()};
  Result<KernelRequest> request = attention_request(spec, *tile);
  if (!request.ok()) return {spec, 0, request.status()};
  return {spec, tile->classes.size(), engine().build(*request)};
}

class Compile : public ::testing::TestWithParam<const char*> {};

TEST_P(Compile, WithoutSpillsAndWithinLimits) {
  if (nvrtc_missing()) GTEST_SKIP() << "LATHE_TEST_NO_NVRTC is set";
  const std::string arch = GetParam();
  const std::vector<AttentionSpec> specs = specs_to_compile(LATHE_COMPILE_SPECS);
  const int32_t shared_limit = arch_traits(arch)->max_shared_bytes;
  int most_registers = 0;
  uint32_t most_shared = 0;
  int64_t most_ptx = 0;
  double ms = 0;
  std::set<std::string> kernels;
  for (size_t begin = 0; begin < specs.size(); begin += kInFlight) {
    std::vector<std::future<Compiled>> running;
    for (size_t i = begin; i < std::min(begin + kInFlight, specs.size()); ++i) {
      running.push_back(std::async(std::launch::async, compile, specs[i], arch));
    }
    for (auto& future : running) {
      const Compiled c = future.get();
      ASSERT_TRUE(c.artifact.ok()) << c.artifact.status().to_string() << "\n"
                                   << to_json(c.spec) << "\nrepeat: " << repeat_command();
      const Artifact& a = **c.artifact;
      const int64_t ptx = a.ptx_bytes / static_cast<int64_t>(c.classes);
      std::printf("%-7s %3d registers %4d spilled %6u shared %6.1f KB PTX per class %5.0f ms  %s\n", arch.c_str(), a.registers,
                  a.spill_bytes, a.shared_bytes, static_cast<double>(ptx) / 1024, a.compile_ms, to_string(c.spec).c_str());
      EXPECT_EQ(a.spill_bytes, 0) << to_json(c.spec) << "\nrepeat: " << repeat_command();
      EXPECT_LE(a.shared_bytes, static_cast<uint32_t>(shared_limit)) << to_json(c.spec);
      EXPECT_GT(ptx, 0);
      EXPECT_LE(ptx, kPtxPerClass) << to_json(c.spec);
      EXPECT_GT(a.registers, 0);
      EXPECT_FALSE(a.binary.empty());
      most_registers = std::max(most_registers, a.registers);
      most_shared = std::max(most_shared, a.shared_bytes);
      most_ptx = std::max(most_ptx, ptx);
      ms += a.compile_ms;
      kernels.insert(a.key);
    }
  }
  std::printf(
      "%s: %zu specs, %zu kernels, at most %d registers, %u bytes of %d shared, %.1f KB of PTX per class; %.0f ms each; %s\n",
      arch.c_str(), specs.size(), kernels.size(), most_registers, most_shared, shared_limit, static_cast<double>(most_ptx) / 1024,
      ms / static_cast<double>(specs.size()), engine().compiler().describe().c_str());
}

TEST_P(Compile, Merge) {
  if (nvrtc_missing()) GTEST_SKIP() << "LATHE_TEST_NO_NVRTC is set";
  std::mt19937_64 rng(seed());
  std::vector<MergeSpec> specs(4);
  for (size_t i = 0; i < 2; ++i) specs[i] = random_merge_spec(rng);
  specs[2].hooks =
      *expr::parse("tensor s: f32[HQ], g: bf16[TOK, HQ, D]; sink = s[h]; output = tanh(o) * sigmoid(g[tok, h, d] + lse)");
  specs[3].dtype = DType::f16, specs[3].head_dim = 256, specs[3].lse = LseOut::log2;
  specs[3].hooks = *expr::parse("param c: f32; tensor r: f32[N, 4]; output = o * r[h, d % 4] * powi(c, 3) + erf(max(lse, -9))");
  for (MergeSpec& spec : specs) {
    spec.arch = GetParam();
    Result<ArtifactPtr> artifact = engine().build(*merge_request(spec));
    ASSERT_TRUE(artifact.ok()) << artifact.status().to_string() << "\n" << to_json(spec);
    std::printf("%s: %d registers, %s\n", GetParam(), (*artifact)->registers, to_string(spec).c_str());
    EXPECT_EQ((*artifact)->spill_bytes, 0) << to_json(spec);
  }
}
TEST_P(Compile, Append) {
  if (nvrtc_missing()) GTEST_SKIP() << "LATHE_TEST_NO_NVRTC is set";
  std::mt19937_64 rng(seed());
  int most_registers = 0;
  for (int i = 0; i < LATHE_COMPILE_SPECS / 3; ++i) {
    AppendSpec spec = random_append_spec(rng);
    spec.arch = GetParam();
    Result<ArtifactPtr> artifact = engine().build(*append_request(spec));
    ASSERT_TRUE(artifact.ok()) << artifact.status().to_string() << "\n" << to_json(spec);
    EXPECT_EQ((*artifact)->spill_bytes, 0) << to_json(spec);
    most_registers = std::max(most_registers, (*artifact)->registers);
  }
  std::printf("%s: %d kernels, at most %d registers\n", GetParam(), LATHE_COMPILE_SPECS / 3, most_registers);
}
TEST_P(Compile, DevicePlan) {
  if (nvrtc_missing()) GTEST_SKIP() << "LATHE_TEST_NO_NVRTC is set";
  Result<ArtifactPtr> artifact = engine().build(attention_planner_request(GetParam()));
  ASSERT_TRUE(artifact.ok()) << artifact.status().to_string();
  std::printf("%s: %d registers, %.1f KB of PTX\n", GetParam(), (*artifact)->registers,
              static_cast<double>((*artifact)->ptx_bytes) / 1024);
  EXPECT_EQ((*artifact)->spill_bytes, 0);
}
INSTANTIATE_TEST_SUITE_P(, Compile, ::testing::ValuesIn(kArchs), [](const auto& arch) { return std::string(arch.param); });

}  // namespace
}  // namespace lathe::testing
