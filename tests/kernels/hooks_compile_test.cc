// Variants compiled by NVRTC for GPUs and not run: no spills, bounded PTX, and a compile time beside that of plain causal
// attention. LATHE_TEST_NO_NVRTC=1 skips this where there is no NVRTC; without it, its absence is a failure.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "examples.h"
#include "lathe/arch/traits.h"
#include "lathe/proof/harness.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec_testing/random_spec.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

using expr::testing::kExamples;

constexpr std::array kArchs{"sm_80", "sm_89", "sm_90a", "sm_100a", "sm_120a"};
// More than kernels without hooks may have: an expression is printed once for each column of scores, and MagicPIG's is long.
constexpr int64_t kPtxPerClass = 200 * 1024;

Result<ArtifactPtr> build(Engine& with, const AttentionSpec& spec, PrepareOptions options = {}) {
  Result<AttentionTile> tile = resolve_tile(spec, *arch_traits(spec.arch));
  LATHE_TRY(tile);
  Result<KernelRequest> request = attention_request(spec, *tile, options);
  LATHE_TRY(request);
  return with.build(*request);
}

// Compiles in this process, so that its processor time is the compiler's: load beside it shows less than it does in passed time.
class TimedBuilds {
 public:
  // Whatever was built before.
  Result<ArtifactPtr> build(const AttentionSpec& spec) {
    EngineOptions options;
    options.cache.mode = CacheMode::off;
    options.compiler = compiler_;
    Engine engine(options);
    const double before = processor_ms();
    Result<ArtifactPtr> artifact = testing::build(engine, spec);
    last_ms_ = processor_ms() - before;
    return artifact;
  }
  double last_ms() const { return last_ms_; }

 private:
  static std::shared_ptr<Compiler> in_process() {
    NvrtcOptions options;
    options.in_process = true;
    return nvrtc_compiler(options);
  }
  static double processor_ms() {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
  }
  const std::shared_ptr<Compiler> compiler_ = in_process();
  double last_ms_ = 0;
};

class CompileVariants : public ::testing::TestWithParam<const char*> {};

TEST_P(CompileVariants, WithoutSpills) {
  const char* skip = std::getenv("LATHE_TEST_NO_NVRTC");
  if (skip != nullptr && std::string(skip) == "1") GTEST_SKIP() << "LATHE_TEST_NO_NVRTC is set";
  std::mt19937_64 rng(seed());
  AttentionSpec causal;
  causal.arch = GetParam();
  causal.group_size = 4, causal.lse = LseOut::ln, causal.mask = Mask::causal;
  TimedBuilds builds;
  ASSERT_TRUE(builds.build(causal).ok());  // loads the compiler

  std::vector<size_t> order(kExamples.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), rng);
  order.resize(std::min<size_t>(order.size(), LATHE_COMPILE_VARIANTS));
  // The plain kernel before each variant: a machine whose load changes is as busy for both.
  std::vector<std::pair<double, const char*>> ratios;
  for (const size_t i : order) {
    ASSERT_TRUE(builds.build(causal).ok());
    const double plain_ms = builds.last_ms();
    AttentionSpec spec = causal;
    spec.mask = Mask::none;
    spec.hooks = *expr::parse(kExamples[i].text);
    if (!spec.hooks.normalizes()) spec.lse = LseOut::none;
    const Result<ArtifactPtr> artifact = builds.build(spec);
    ASSERT_TRUE(artifact.ok()) << kExamples[i].name << ": " << artifact.status().to_string();
    const Artifact& a = **artifact;
    ratios.emplace_back(builds.last_ms() / plain_ms, kExamples[i].name);
    std::printf("%-7s %3d registers %4d spilled %6.1f KB PTX per class %5.0f ms, plain %5.0f  %s\n", GetParam(), a.registers,
                a.spill_bytes, static_cast<double>(a.ptx_bytes) / 2048, builds.last_ms(), plain_ms, kExamples[i].name);
    EXPECT_EQ(a.spill_bytes, 0) << kExamples[i].name;
    EXPECT_LE(a.ptx_bytes / 2, kPtxPerClass) << kExamples[i].name;
  }
  std::sort(ratios.begin(), ratios.end());
  ASSERT_FALSE(ratios.empty());
  const double median = ratios[ratios.size() / 2].first;
  const auto [most, slowest] = ratios.back();
  std::printf("%s: %zu variants, compile time over plain causal: median %.2f, most %.2f (%s)\n", GetParam(), ratios.size(), median,
              most, slowest);
  if (ratios.size() < kExamples.size()) return;
  EXPECT_LE(median, 1.3);
  EXPECT_LE(most, 2.5) << slowest;
}
// CUDA text as hooks, with what only a GPU's compiler knows.
TEST_P(CompileVariants, UnsafeCuda) {
  const char* skip = std::getenv("LATHE_TEST_NO_NVRTC");
  if (skip != nullptr && std::string(skip) == "1") GTEST_SKIP() << "LATHE_TEST_NO_NVRTC is set";
  EngineOptions options;
  options.cache = {};
  options.cache.mode = CacheMode::off;
  options.unsafe_cuda = true;
  Engine open(options);
  AttentionSpec spec;
  spec.arch = GetParam();
  spec.hooks = *expr::parse(
      "param W: i32; mask = unsafe_cuda(\"return __vabsdiffs4(a0, a1) >= 0 && a0 <= a1 && a1 - a0 < a2;\", kv_pos, q_pos, W);"
      "logits = unsafe_cuda(\"float y;\nasm(\\\"tanh.approx.f32 %0, %1;\\\" : \\\"=f\\\"(y) : \\\"f\\\"(a0 * 0.25f));\nreturn 4.0f "
      "* y;\", score);"
      "output = unsafe_cuda(\"return __fmul_rn(a0, 0.5f);\", o)");
  const Result<ArtifactPtr> artifact = build(open, spec, {.unsafe_cuda = true});
  ASSERT_TRUE(artifact.ok()) << artifact.status().to_string();
  EXPECT_TRUE((*artifact)->unsafe_cuda);
  EXPECT_EQ((*artifact)->spill_bytes, 0);
}
// Hooks of keys and values that are codes, and statistics of queries, in specs of any kind with automatic tiles.
TEST_P(CompileVariants, OfCodes) {
  const char* skip = std::getenv("LATHE_TEST_NO_NVRTC");
  if (skip != nullptr && std::string(skip) == "1") GTEST_SKIP() << "LATHE_TEST_NO_NVRTC is set";
  static constexpr std::array kHooks{
      "key = x * 0.5 + rot(x); value = x * abs(x)", "tensor c, s: f32[N, D]; key = x * c[pos, d] + rot(x) * s[pos, d]",
      "rotary = interleaved; key = x + rot(x) * 0.5; logits = score + qsum * f32(kv & 1) / max(qnorm, 1)",
      "param S: i32; mask = kv_pos <= q_pos && kv_pos >= S; value = max(x, 0); logits = score / max(qnorm, 1)"};
  std::mt19937_64 rng(seed());
  int most_registers = 0;
  int64_t most_ptx = 0;
  for (size_t done = 0; done < std::min<size_t>(40, LATHE_COMPILE_VARIANTS);) {
    AttentionSpec spec = random_spec(rng);
    if (!is_code(spec.kfmt) && !is_code(spec.vfmt)) continue;
    spec.arch = GetParam(), spec.label.clear(), spec.tile = {}, spec.soft_cap = false;
    const AttentionHooks hooks = *expr::parse(kHooks[rng() % kHooks.size()]);
    spec.hooks = hooks;
    if (hooks.has(expr::Hook::mask)) spec.mask = Mask::none;
    if (!validate(spec).ok()) continue;
    const Result<ArtifactPtr> artifact = build(engine(), spec);
    ASSERT_TRUE(artifact.ok()) << artifact.status().to_string() << "\n" << to_json(spec);
    const Artifact& a = **artifact;
    const auto classes = static_cast<int64_t>(resolve_tile(spec, *arch_traits(spec.arch))->classes.size());
    most_registers = std::max(most_registers, a.registers), most_ptx = std::max(most_ptx, a.ptx_bytes / classes);
    EXPECT_EQ(a.spill_bytes, 0) << to_json(spec) << "\nrepeat: " << repeat_command();
    EXPECT_LE(a.ptx_bytes / classes, kPtxPerClass) << to_json(spec);
    ++done;
  }
  std::printf("%s: at most %d registers, %.1f KB of PTX per class\n", GetParam(), most_registers,
              static_cast<double>(most_ptx) / 1024);
}
INSTANTIATE_TEST_SUITE_P(, CompileVariants, ::testing::ValuesIn(kArchs), [](const auto& arch) { return std::string(arch.param); });

}  // namespace
}  // namespace lathe::testing
