#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "lathe/jit/compiler.h"
#include "lathe/testing/temp_dir.h"
#include "support.h"

namespace lathe {
namespace {

using ::testing::HasSubstr;
using testing::ScopedEnv;
using testing::TempDir;

constexpr const char* kSource =
    "extern \"C\" __attribute__((visibility(\"default\"))) int answer() { return 42; }\nint hidden() { return 1; }\n";

void write_program(const std::filesystem::path& path, const std::string& script) {
  std::ofstream(path) << "#!/bin/sh\n" << script << "\n";
  chmod(path.c_str(), 0755);
}

TEST(HostCompiler, MakesALibraryThatRuns) {
  TempDir dir;
  auto out = host_compiler()->compile({kSource, "answer", "host"});
  ASSERT_TRUE(out.ok()) << out.status().to_string();
  EXPECT_GT(out->milliseconds, 0);
  std::ofstream(dir / "a.so", std::ios::binary)
      .write(reinterpret_cast<const char*>(out->binary.data()), static_cast<std::streamsize>(out->binary.size()));
  void* library = dlopen((dir / "a.so").c_str(), RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(library, nullptr) << dlerror();
  auto* answer = reinterpret_cast<int (*)()>(dlsym(library, "answer"));
  ASSERT_NE(answer, nullptr);
  EXPECT_EQ(answer(), 42);
  EXPECT_EQ(dlsym(library, "_Z6hiddenv"), nullptr);
  dlclose(library);
}

TEST(HostCompiler, SameSourceSameBytes) {
  auto a = host_compiler()->compile({kSource, "a", "host"}), b = host_compiler()->compile({kSource, "b", "host"});
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(a->binary, b->binary);
}

TEST(HostCompiler, LeavesNothingBehind) {
  TempDir dir;
  std::filesystem::create_directory(dir / "a b;touch x");
  ScopedEnv env("TMPDIR", (dir / "a b;touch x").c_str());
  auto compiler = host_compiler();
  ASSERT_TRUE(compiler->compile({kSource, "warm", "host"}).ok());
  size_t before = testing::open_descriptors();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(compiler->compile({kSource, "answer", "host"}).ok());
  EXPECT_FALSE(compiler->compile({"error", "bad", "host"}).ok());
  EXPECT_EQ(testing::open_descriptors(), before);
  EXPECT_TRUE(testing::children_of(getpid()).empty());
  EXPECT_TRUE(std::filesystem::is_empty(dir / "a b;touch x"));
  EXPECT_FALSE(std::filesystem::exists(dir / "x"));
  EXPECT_FALSE(std::filesystem::exists("x"));
}

TEST(HostCompiler, FailureCarriesTheLog) {
  auto out = host_compiler()->compile({"int f( {", "bad", "host"});
  EXPECT_EQ(out.status().code(), Code::compile_failed);
  EXPECT_THAT(out.status().message(), HasSubstr("could not compile bad for host"));
  EXPECT_THAT(out.status().message(), HasSubstr("error:"));
}

TEST(HostCompiler, SeesNoHeaders) {
  for (const char* include : {"#include <stdint.h>\n", "#include <vector>\n", "#include <immintrin.h>\n"}) {
    EXPECT_EQ(host_compiler()->compile({include, "header", "host"}).status().code(), Code::compile_failed) << include;
  }
}

TEST(HostCompiler, OtherArchsAreRefused) {
  auto out = host_compiler()->compile({kSource, "a", "sm_80"});
  EXPECT_EQ(out.status().code(), Code::unsupported);
  EXPECT_THAT(out.status().message(), HasSubstr("'sm_80'"));
  EXPECT_FALSE(host_compiler()->identity("sm_80").ok());
  EXPECT_THAT(host_compiler()->archs(), ::testing::ElementsAre("host"));
}

TEST(HostCompiler, MissingCompilerSaysWhatToDo) {
  TempDir empty;
  {
    ScopedEnv path("PATH", empty.path().c_str());
    ScopedEnv cxx("LATHE_CXX", nullptr);
    auto compiler = host_compiler();
    auto out = compiler->compile({kSource, "a", "host"});
    EXPECT_EQ(out.status().code(), Code::unavailable);
    EXPECT_THAT(out.status().message(), HasSubstr("c++, g++, clang++"));
    EXPECT_THAT(out.status().hint(), HasSubstr("LATHE_CXX"));
    EXPECT_TRUE(compiler->archs().empty());
    EXPECT_THAT(compiler->describe(), HasSubstr("no C++ compiler"));
  }
  for (const char* bad : {"/nonexistent/g++", "no-such-compiler", "g++ -O3", "/tmp"}) {
    ScopedEnv cxx("LATHE_CXX", bad);
    auto out = host_compiler()->identity("host");
    EXPECT_EQ(out.status().code(), Code::unavailable) << bad;
    EXPECT_THAT(out.status().message(), HasSubstr(bad));
  }
}

TEST(HostCompiler, IdentityNamesVersionTargetAndOptionsButNoPath) {
  auto identity = host_compiler()->identity("host");
  ASSERT_TRUE(identity.ok());
  for (const char* part : {"-std=c++17", "-ffp-contract=off", "linux"}) EXPECT_THAT(*identity, HasSubstr(part));
  EXPECT_THAT(*identity, ::testing::Not(HasSubstr("/")));
}

TEST(HostCompiler, IdentityFollowsTheCompilersVersion) {
  TempDir dir;
  write_program(dir / "cxx", "case $1 in --version) echo 'mycc 9.9';; -dumpmachine) echo some-linux;; esac");
  ScopedEnv cxx("LATHE_CXX", (dir / "cxx").c_str());
  EXPECT_THAT(*host_compiler()->identity("host"), ::testing::StartsWith("mycc 9.9, some-linux, options"));
}

TEST(HostCompiler, WildCompilersAreSurvived) {
  TempDir dir;
  ScopedEnv cxx("LATHE_CXX", (dir / "cxx").c_str());
  const std::string head = "case $1 in --version) echo v; exit;; -dumpmachine) echo m; exit;; esac\n";
  auto status_of_script = [&](const std::string& script) {
    write_program(dir / "cxx", script);
    return host_compiler()->compile({std::string(1 << 20, ' '), "a", "host"}).status();
  };
  EXPECT_EQ(status_of_script("exit 1").code(), Code::unavailable);
  EXPECT_EQ(status_of_script("kill -9 $$").code(), Code::unavailable);
  EXPECT_THAT(status_of_script(head + "kill -11 $$").message(), HasSubstr("died with signal 11"));
  EXPECT_THAT(status_of_script(head + "exit 3").message(), HasSubstr("exited with 3"));
  EXPECT_THAT(status_of_script(head + "exit 0").message(), HasSubstr("left no output"));
  EXPECT_THAT(status_of_script(head + "yes | head -c 5000000; exit 1").message(), HasSubstr("exited with 1"));
}

}  // namespace
}  // namespace lathe
