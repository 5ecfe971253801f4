// NVRTC as Lathe uses it. Where there is none, the tests that need it fail, unless LATHE_TEST_NO_NVRTC=1 says that this is known.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "lathe/base/log.h"
#include "lathe/jit/compiler.h"
#include "lathe/jit/elf_build_id.h"
#include "lathe/jit/nvrtc_find.h"
#include "lathe/jit/ptxas_log.h"
#include "lathe/testing/temp_dir.h"
#include "support.h"

namespace lathe {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::ScopedEnv;
using testing::TempDir;

namespace fs = std::filesystem;

constexpr const char* kKernel =
    "extern \"C\" __global__ void scale(float* x, float a) { x[threadIdx.x] = __fmaf_rn(x[threadIdx.x], a, 1.f); }\n";

NvrtcOptions fake() {
  NvrtcOptions options;
  options.library = LATHE_TEST_FAKE_NVRTC;
  options.worker = LATHE_TEST_WORKER;
  return options;
}

NvrtcOptions real(bool in_process = false) {
  NvrtcOptions options;
  options.worker = LATHE_TEST_WORKER;
  options.in_process = in_process;
  return options;
}

class NvrtcArch : public ::testing::TestWithParam<const char*> {};

TEST_P(NvrtcArch, CompilesATinyKernel) {
  if (!testing::have_nvrtc()) GTEST_SKIP() << "no NVRTC";
  auto compiler = nvrtc_compiler(real());
  EXPECT_THAT(compiler->archs(), Contains(GetParam()));
  auto out = compiler->compile({kKernel, "scale", GetParam()});
  ASSERT_TRUE(out.ok()) << out.status().to_string();
  ASSERT_GT(out->binary.size(), 64u);
  EXPECT_EQ(std::memcmp(out->binary.data(),
                        "\x7f"
                        "ELF",
                        4),
            0);
  EXPECT_GT(out->registers, 0);
  EXPECT_EQ(out->spill_bytes, 0);
  EXPECT_GT(out->ptx_bytes, 0);
  EXPECT_GT(out->milliseconds, 0);
}

INSTANTIATE_TEST_SUITE_P(Archs, NvrtcArch, ::testing::Values("sm_80", "sm_89", "sm_90a", "sm_100a", "sm_120a"),
                         [](const auto& arch) { return std::string(arch.param); });

TEST(Nvrtc, WorkerAndInProcessAgree) {
  if (!testing::have_nvrtc()) GTEST_SKIP() << "no NVRTC";
  auto worker = nvrtc_compiler(real()), here = nvrtc_compiler(real(true));
  EXPECT_THAT(worker->describe(), HasSubstr("worker processes"));
  EXPECT_THAT(here->describe(), HasSubstr("inside this process"));
  EXPECT_EQ(worker->archs(), here->archs());
  EXPECT_EQ(*worker->identity("sm_80"), *here->identity("sm_80"));
  for (const char* arch : {"sm_80", "sm_90a"}) {
    auto a = worker->compile({kKernel, "scale", arch}), b = here->compile({kKernel, "scale", arch});
    ASSERT_TRUE(a.ok() && b.ok());
    EXPECT_EQ(a->binary, b->binary) << arch;
    auto again = worker->compile({kKernel, "scale", arch});
    EXPECT_EQ(again->binary, a->binary) << arch;
  }
}

TEST(Nvrtc, VersionIsInWordsAndInTheIdentity) {
  if (!testing::have_nvrtc()) GTEST_SKIP() << "no NVRTC";
  auto compiler = nvrtc_compiler(real());
  EXPECT_THAT(compiler->describe(), ::testing::ContainsRegex("NVRTC [0-9]+\\.[0-9]+\\.[0-9]+ "));
  EXPECT_THAT(*compiler->identity("sm_80"), ::testing::ContainsRegex("^nvrtc [0-9]+\\.[0-9]+, library build-id [0-9a-f]{40}"));
}

// Floats must not be contracted behind the source's back: the host compiles the same text.
TEST(Nvrtc, MultiplyAndAddStayApart) {
  if (!testing::have_nvrtc()) GTEST_SKIP() << "no NVRTC";
  auto compiler = nvrtc_compiler(real());
  auto apart = compiler->compile({"extern \"C\" __global__ void k(float* x) { x[0] = x[1] * x[2] + x[3]; }", "k", "sm_80"});
  auto fused =
      compiler->compile({"extern \"C\" __global__ void k(float* x) { x[0] = __fmaf_rn(x[1], x[2], x[3]); }", "k", "sm_80"});
  ASSERT_TRUE(apart.ok() && fused.ok());
  EXPECT_NE(apart->binary, fused->binary);
}

TEST(Nvrtc, SpillsAreSeen) {
  if (!testing::have_nvrtc()) GTEST_SKIP() << "no NVRTC";
  std::string source = "extern \"C\" __global__ void __launch_bounds__(1024, 2) k(float* x) {\n  float v[96];\n";
  source += "#pragma unroll\n  for (int i = 0; i < 96; ++i) v[i] = x[i * 1024 + threadIdx.x];\n  __syncthreads();\n";
  source += "#pragma unroll\n  for (int i = 0; i < 96; ++i) x[(95 - i) * 1024 + threadIdx.x] = v[i] * v[(i + 17) % 96];\n}\n";
  auto out = nvrtc_compiler(real())->compile({source, "k", "sm_80"});
  ASSERT_TRUE(out.ok()) << out.status().to_string();
  EXPECT_GT(out->spill_bytes, 0) << out->log;
  EXPECT_LE(out->registers, 32);
}

TEST(Nvrtc, ErrorsCarryTheLog) {
  if (!testing::have_nvrtc()) GTEST_SKIP() << "no NVRTC";
  auto out = nvrtc_compiler(real())->compile({"#include <vector>\nint x = wrong;", "bad", "sm_80"});
  EXPECT_EQ(out.status().code(), Code::compile_failed);
  EXPECT_THAT(out.status().message(), HasSubstr("NVRTC could not compile bad for sm_80"));
  EXPECT_THAT(out.status().message(), HasSubstr("vector"));
}

TEST(NvrtcSearch, MissingLibraryNamesThePlacesAndTheRemedy) {
  TempDir empty;
  ScopedEnv library("LATHE_NVRTC", nullptr), ignore("LATHE_IGNORE_TOOLKIT", nullptr), venv("VIRTUAL_ENV", nullptr);
  ScopedEnv home("CUDA_HOME", empty.path().c_str()), path("CUDA_PATH", nullptr);
  fs::create_directories(empty / "lib64");
  auto found = find_nvrtc({});
  if (found.ok()) GTEST_SKIP() << "this machine has a toolkit with NVRTC: " << found->library;
  EXPECT_EQ(found.status().code(), Code::unavailable);
  EXPECT_THAT(found.status().message(), HasSubstr((empty / "lib64").string()));
  EXPECT_THAT(found.status().hint(), HasSubstr("LATHE_NVRTC"));
  auto compiler = nvrtc_compiler();
  EXPECT_EQ(compiler->identity("sm_80").status().code(), Code::unavailable);
  EXPECT_EQ(compiler->compile({kKernel, "k", "sm_80"}).status().code(), Code::unavailable);
  EXPECT_TRUE(compiler->archs().empty());
  EXPECT_THAT(compiler->describe(), HasSubstr("no NVRTC"));
}

TEST(NvrtcSearch, EachPlaceIsLookedAtAndTheToolkitCanBePassedOver) {
  TempDir dir;
  auto put = [&](const fs::path& folder) {
    fs::create_directories(dir / folder);
    std::ofstream(dir / folder / "libnvrtc.so.13") << "x";
    std::ofstream(dir / folder / "libnvrtc-builtins.so.13.0") << "x";
    return (dir / folder / "libnvrtc.so.13").string();
  };
  const std::string toolkit = put("cuda/lib64"), wheel = put("venv/lib/python3.11/site-packages/nvidia/cu13/lib");
  ScopedEnv library("LATHE_NVRTC", nullptr), home("CUDA_HOME", (dir / "cuda").c_str()), path("CUDA_PATH", nullptr);
  ScopedEnv venv("VIRTUAL_ENV", (dir / "venv").c_str()), heeded("LATHE_IGNORE_TOOLKIT", nullptr);
  auto first = find_nvrtc({});
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first->library, toolkit);
  EXPECT_EQ(first->version, "13.0");
  {
    ScopedEnv ignore("LATHE_IGNORE_TOOLKIT", "1");
    auto second = find_nvrtc({});
    ASSERT_TRUE(second.ok());
    EXPECT_THAT(second->library, HasSubstr("site-packages/nvidia/cu13/lib"));
    EXPECT_THAT(second->library, Not(HasSubstr("/cuda/lib64")));
  }
  ScopedEnv given("LATHE_NVRTC", wheel.c_str());
  EXPECT_EQ(find_nvrtc({})->library, wheel);
  EXPECT_EQ(find_nvrtc(toolkit)->library, toolkit);
  ScopedEnv wrong("LATHE_NVRTC", "/nonexistent/libnvrtc.so.13");
  EXPECT_THAT(find_nvrtc({}).status().message(), HasSubstr("'/nonexistent/libnvrtc.so.13'"));
}

TEST(NvrtcIdentity, SaysTheBuildAndNoPath) {
  TempDir dir;
  fs::copy(LATHE_TEST_FAKE_NVRTC, dir / "libnvrtc.so.13");
  NvrtcOptions moved = fake();
  moved.library = (dir / "libnvrtc.so.13").string();
  auto here = nvrtc_compiler(fake())->identity("sm_80"), there = nvrtc_compiler(moved)->identity("sm_80");
  ASSERT_TRUE(here.ok() && there.ok());
  EXPECT_EQ(*here, *there);
  EXPECT_THAT(*here, Not(HasSubstr("/")));

  // Another build of the builtins is another compiler.
  std::ofstream(dir / "libnvrtc-builtins.so.13.0") << "builtins, first build";
  auto with = nvrtc_compiler(moved)->identity("sm_80");
  std::ofstream(dir / "libnvrtc-builtins.so.13.0") << "builtins, other build";
  auto other = nvrtc_compiler(moved)->identity("sm_80");
  ASSERT_TRUE(with.ok() && other.ok());
  EXPECT_NE(*with, *there);
  EXPECT_NE(*with, *other);
  EXPECT_NE(*nvrtc_compiler(moved)->identity("sm_90a"), *other);
}

TEST(ElfBuildId, ReadsAnyFile) {
  TempDir dir;
  std::ifstream in(LATHE_TEST_FAKE_NVRTC, std::ios::binary);
  const std::string good{std::istreambuf_iterator<char>(in), {}};
  auto id_of = [&](const std::string& bytes) {
    std::ofstream(dir / "f", std::ios::binary) << bytes;
    return build_of_file(dir / "f");
  };
  EXPECT_THAT(*id_of(good), ::testing::StartsWith("build-id "));
  EXPECT_THAT(*id_of("text"), ::testing::StartsWith("digest "));
  EXPECT_FALSE(id_of("").ok());
  EXPECT_FALSE(build_of_file(dir.path()).ok());
  EXPECT_FALSE(build_of_file("/nonexistent").ok());
  for (size_t n = 1; n < 1024; n += 3) EXPECT_TRUE(id_of(good.substr(0, n)).ok()) << n;
  for (size_t n = 0; n < 1024; ++n) {
    std::string bad = good;
    bad[n] = static_cast<char>(~bad[n]);
    EXPECT_TRUE(id_of(bad).ok()) << n;
  }
}

TEST(PtxasLog, SumsSpillsAndTakesTheMostRegisters) {
  PtxasFacts facts = parse_ptxas_log(
      "ptxas info    : 0 bytes gmem\n"
      "    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads\n"
      "ptxas info    : Used 40 registers, used 1 barriers, 360 bytes cmem[0]\n"
      "    0 bytes stack frame, 0 bytes spill stores, 4 bytes spill loads\n"
      "ptxas info    : Used 168 registers, used 0 barriers\n");
  EXPECT_EQ(facts.registers, 168);
  EXPECT_EQ(facts.spill_bytes, 24);
  for (const char* odd : {"", "\n\n", " registers", "x registers", "999999999999999999999 registers", " bytes spill stores"}) {
    EXPECT_EQ(parse_ptxas_log(odd).registers, 0) << odd;
    EXPECT_EQ(parse_ptxas_log(odd).spill_bytes, 0) << odd;
  }
}

TEST(NvrtcCompiler, MissingWorkerFallsBackWithOneWarning) {
  std::vector<std::string> warnings;
  set_log_callback([&](LogLevel level, std::string_view text) {
    if (level == LogLevel::warning) warnings.emplace_back(text);
  });
  for (int i = 0; i < 2; ++i) {
    NvrtcOptions options = fake();
    options.worker = "/nonexistent/worker";
    auto compiler = nvrtc_compiler(options);
    auto out = compiler->compile({"fine", "k", "sm_80"});
    EXPECT_TRUE(out.ok()) << out.status().to_string();
    EXPECT_THAT(compiler->describe(), HasSubstr("inside this process"));
  }
  set_log_callback({});
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_THAT(warnings[0], HasSubstr("lathe-compile-worker was not found"));
}

TEST(NvrtcCompiler, InProcessByKnob) {
  ScopedEnv knob("LATHE_COMPILE", "inprocess");
  auto compiler = nvrtc_compiler(fake());
  EXPECT_TRUE(compiler->compile({"fine", "k", "sm_80"}).ok());
  EXPECT_TRUE(testing::children_of(getpid()).empty());
}

// A forked child starts workers of its own; the parent's stay the parent's.
TEST(NvrtcCompiler, AForkedChildHasItsOwnWorkers) {
  auto compiler = nvrtc_compiler(fake());
  ASSERT_TRUE(compiler->compile({"fine", "k", "sm_80"}).ok());
  std::vector<int> workers = testing::children_of(getpid());
  pid_t child = fork();
  if (child == 0) {
    alarm(30);
    bool ok = compiler->compile({"fine", "k", "sm_80"}).ok() && testing::children_of(getpid()).size() == 1;
    compiler.reset();  // ends the child's worker, and not the parent's
    _exit(ok && testing::children_of(getpid()).empty() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(compiler->compile({"fine", "k", "sm_80"}).ok());
  EXPECT_EQ(testing::children_of(getpid()), workers);
}

TEST(NvrtcCompiler, FailuresLeakNothing) {
  auto compiler = nvrtc_compiler(fake());
  EXPECT_FALSE(compiler->compile({"FAIL_COMPILE", "k", "sm_80"}).ok());
  size_t descriptors = testing::open_descriptors();
  for (int i = 0; i < 1000; ++i) {
    auto out = compiler->compile({"FAIL_COMPILE", "k", "sm_80"});
    ASSERT_EQ(out.status().code(), Code::compile_failed);
  }
  EXPECT_EQ(testing::open_descriptors(), descriptors);
  EXPECT_TRUE(testing::children_of(getpid()).empty());  // after an error a worker is ended
}

}  // namespace
}  // namespace lathe
