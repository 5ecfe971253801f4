#include "lathe/proof/banned_tokens.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "lathe/api/append.h"
#include "lathe/api/attention.h"
#include "lathe/api/merge.h"
#include "lathe/proof/harness.h"
#include "lathe/spec_testing/random_spec.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

std::string in_kernel(const std::string& code) {
  return "#line 1 \"kernels/attention/x.cuh\"\n" + code + "\n";
}

class Planted : public ::testing::TestWithParam<const char*> {};

TEST_P(Planted, IsRejectedInKernelsAndAllowedInDevice) {
  const std::string code = GetParam();
  EXPECT_NE(to_string(banned_tokens(in_kernel(code))), "");
  EXPECT_EQ(to_string(banned_tokens("#line 1 \"device/sm_80/x.cuh\"\n" + code + "\n")), "");
}
INSTANTIATE_TEST_SUITE_P(Tokens, Planted,
                         ::testing::Values("void f() { asm volatile(\"bar.sync 0;\"); }", "__shared__ float tile[64];",
                                           "static int calls = 0;", "void f() { static float cache[4]; }", "thread_local int x;",
                                           "int i = threadIdx.x;", "int i = blockIdx.x * blockDim.x;", "int n = gridDim.x;",
                                           "void f() { __syncthreads(); }", "float y = __shfl_xor_sync(0xffffffff, x, 1);",
                                           "void f(int* p) { atomicAdd(p, 1); }", "float f(const float* p) { return __ldg(p); }",
                                           "#include <cstdint>", "#include \"x.h\"", "#define READ(p) 1", "std::size_t n;",
                                           "using std::min;", "float x = __builtin_bit_cast(float, y);",
                                           "unsigned a = reinterpret_cast<unsigned&>(x);"));
INSTANTIATE_TEST_SUITE_P(
    Dereferences, Planted,
    ::testing::Values("float f(const float* p) { return *p; }", "void f(float* p) { *p = 1; }",
                      "void f(float* p, int n) { if (n) *p = 1; }", "float f(const float* p) { return p[3]; }",
                      "float f(const float* p, int i) { return 2 * p[i]; }", "int f(const Params* p) { return p->n; }",
                      "void f(float* p) { float x[4]; x[0] = p[0]; }", "float f(void* p) { return *(float*)p; }",
                      "float f(void* p) { return (float)*static_cast<float*>(p); }", "float f(Params q) { return q.base[2]; }",
                      "float f(Params q) { return *q.base; }", "float f() { return pointer_of(3)[1]; }",
                      "void f(float** p) { **p = 0; }", "void f(float* const p) { p[0] = 1; }",
                      "void f(float* p) { float (&x)[4] = *p; }", "auto f(float* p) { auto q = p; return q[0]; }",
                      "float g(int a, float* p) { return a + *p; }", "float g(int a, float* p) { return a * *p; }",
                      "float g(float* p) { return (*p); }", "float x[4]; float f(float* x) { return x[1]; }"));

class Legal : public ::testing::TestWithParam<const char*> {};
TEST_P(Legal, IsAccepted) {
  EXPECT_EQ(to_string(banned_tokens(in_kernel(GetParam()))), "");
}
INSTANTIATE_TEST_SUITE_P(
    Code, Legal,
    ::testing::Values("float f(float a, float b) { return a * b; }", "float f(float a) { return (a + 1) * (a - 1) * 2; }",
                      "struct S { static constexpr int kRows = 4; static int next(int i) { return i + 1; } };",
                      "void f(float (&o)[8]) { for (int c = 0; c < 8; ++c) o[c] *= 2.0f; }", "const void* base; float* lse;",
                      "void f() { float x[2][4]; x[1][2] = 3; }", "void f() { run([&](int i) { return i * 2; }); }",
                      "auto f = [](float& x, int, int) { x = 0; };", "void f(Operand& p) { int v[3]; p.v[1] = v[2]; }",
                      "int y = sum(a, static_cast<long long>(i) * stride);", "static_assert(sizeof(int) * 2 == 8);",
                      "// *p, p->x, asm and threadIdx in a comment\n/* p[0] */",
                      "float f(const T* p) { return load(at(p, 4 * 2)); }", "#pragma unroll\n",
                      "void f() { float a[4], b[4]; a[0] = b[1]; }"));

// Every template, for a spread of specs, on every form of the device code.
TEST(RenderedSources, KernelsUseOnlyDeviceCode) {
  std::mt19937_64 rng(seed());
  for (const std::string& arch : known_archs()) {
    for (int i = 0; i < 12; ++i) {
      AttentionSpec spec = random_spec(rng);
      spec.arch = arch;
      Result<AttentionTile> tile = resolve_tile(spec, *arch_traits(arch));
      ASSERT_TRUE(tile.ok()) << tile.status().to_string();
      Result<std::string> source = engine().source(*attention_request(spec, *tile));
      ASSERT_TRUE(source.ok()) << source.status().to_string();
      EXPECT_NE(source->find("\"templates/kernels/attention/kernel.cu\""), std::string::npos);
      ASSERT_EQ(to_string(banned_tokens(*source)), "") << to_json(spec);
      AppendSpec append = random_append_spec(rng);
      append.arch = arch;
      source = engine().source(*append_request(append));
      ASSERT_TRUE(source.ok()) << source.status().to_string();
      ASSERT_EQ(to_string(banned_tokens(*source)), "") << to_json(append);
      MergeSpec merge = random_merge_spec(rng);
      merge.arch = arch;
      source = engine().source(*merge_request(merge));
      ASSERT_TRUE(source.ok()) << source.status().to_string();
      ASSERT_EQ(to_string(banned_tokens(*source)), "") << to_json(merge);
    }
  }
}

// The same planted in the shipped templates: found, and under its own file and line.
TEST(RenderedSources, PlantedTokensAreFound) {
  const TemplateStore& shipped = TemplateStore::embedded();
  for (const auto& [path, text] : shipped.files()) {
    if (!path.starts_with("kernels/attention/") || !path.ends_with(".cuh")) continue;
    const std::string planted = text + "LATHE_DEVICE float planted(const float* p) { return p[0] + threadIdx.x; }\n";
    const auto line = static_cast<int>(std::count(planted.begin(), planted.end(), '\n'));
    EngineOptions options;
    options.cache.mode = CacheMode::off;
    options.templates = std::make_shared<TemplateStore>(shipped.with(path, planted));
    Engine other(options);
    const AttentionSpec spec;
    Result<std::string> source = other.source(*attention_request(spec, *resolve_tile(spec, *arch_traits("host"))));
    ASSERT_TRUE(source.ok()) << source.status().to_string();
    const std::vector<Violation> found = banned_tokens(*source);
    ASSERT_EQ(found.size(), 2u) << path << "\n" << to_string(found);
    for (const Violation& v : found) {
      EXPECT_EQ(v.file, path);
      EXPECT_EQ(v.line, line);
    }
  }
}

}  // namespace
}  // namespace lathe::testing
