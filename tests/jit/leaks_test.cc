// A thousand failing compiles, with NVRTC's interface in worker processes and in this one: nothing leaks, and every error says all
// that it should. This program is linked with the leak checker; the asan build has one too.
#include <gtest/gtest.h>
#include <sanitizer/lsan_interface.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "lathe/jit/engine.h"
#include "lathe/testing/temp_dir.h"
#include "support.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using testing::TempDir;

constexpr int kCompiles = 1000;

// Every way in which the fake library refuses a source, and what the error then says.
struct Failure {
  const char *word, *says;
};
constexpr Failure kFailures[] = {{"FAIL_CREATE", "while it took in"},
                                 {"FAIL_COMPILE", "templates/x.cu(3): error: fake"},
                                 {"FAIL_INTERNAL", "while it compiled"},
                                 {"FAIL_CUBIN", "while it handed back"}};

TemplateStore failing_store() {
  std::map<std::string, std::string, std::less<>> files;
  for (const Failure& f : kFailures) {
    files[std::string("kernels/") + f.word + "/kernel.cu"] = std::string("// ") + f.word + "\nconstexpr int k = <%number%>;\n";
  }
  return TemplateStore(std::move(files));
}

// What is missing of all that a failed compile is to say; empty when it is whole.
std::string missing_in(const Status& status, const Failure& failure, int number) {
  const std::string text = status.to_string(), kept = "kept in ";
  for (const std::string& part : {std::string(failure.says), "kernel " + std::to_string(number) + "]", std::string("sm_80"),
                                  std::string("options --gpu-architecture=sm_80 --std=c++17")}) {
    if (text.find(part) == std::string::npos) return part + " in " + text;
  }
  const size_t at = status.hint().find(kept);
  if (at == std::string::npos) return "the folder in " + text;
  const fs::path folder = status.hint().substr(at + kept.size());
  for (const char* file : {"kernel.cu", "key", "log"}) {
    if (!fs::exists(folder / file)) return (folder / file).string();
  }
  return "";
}

void fail_many(bool in_process) {
  TempDir dir;
  testing::ScopedEnv keep("LATHE_KEEP_DIR", (dir / "kept").c_str());
  NvrtcOptions nvrtc;
  nvrtc.library = LATHE_TEST_FAKE_NVRTC;
  nvrtc.worker = LATHE_TEST_WORKER;
  nvrtc.in_process = in_process;
  EngineOptions options = testing::tiny_engine(nvrtc_compiler(nvrtc));
  options.templates = std::make_shared<TemplateStore>(failing_store());
  {
    Engine engine(std::move(options));
    for (int i = 0; i < kCompiles; ++i) {
      const Failure& failure = kFailures[static_cast<size_t>(i) % std::size(kFailures)];
      KernelRequest request = testing::tiny_request("sm_80", i);
      request.family = failure.word;
      const Status status = engine.build(request).status();
      ASSERT_EQ(status.code(), Code::compile_failed);
      ASSERT_EQ(missing_in(status, failure, i), "");
    }
    EXPECT_EQ(engine.stats().failures, uint64_t{kCompiles});
  }
  EXPECT_TRUE(testing::children_of(getpid()).empty());
  EXPECT_EQ(__lsan_do_recoverable_leak_check(), 0) << "the leaks are listed above";
  std::printf("%d failing compiles, NVRTC %s: 0 leaks, every message whole\n", kCompiles,
              in_process ? "in this process" : "in workers");
}

class Leaks : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { testing::prefer_memory_disk(); }
};

TEST_F(Leaks, OfFailingCompilesInWorkers) {
  fail_many(/*in_process=*/false);
}

TEST_F(Leaks, OfFailingCompilesInThisProcess) {
  fail_many(/*in_process=*/true);
}

// In a child, whose leak dies with it.
TEST_F(Leaks, AreSeen) {
  EXPECT_EXIT(
      {
        for (int i = 0; i < 10; ++i) std::make_unique<std::string>(1000, 'x').release();
        _exit(__lsan_do_recoverable_leak_check() != 0 ? 7 : 0);
      },
      ::testing::ExitedWithCode(7), "");
}

}  // namespace
}  // namespace lathe
