// Hooks as CUDA text in the commands: refused without --unsafe-cuda, marked where they are kept.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "program.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kCuda =
    R"json({"head_dim_qk":64,"head_dim_vo":64,"hooks":"mask = unsafe_cuda(\"return a0 <= a1;\", kv_pos, q_pos)"})json";

constexpr const char* kMerge = R"json({"op":"merge","hooks":"output = unsafe_cuda(\"return -a0;\", o)"})json";

TEST(UnsafeCudaCommand, IsRefusedByEveryJobThatMakesKernels) {
  const Program lathe;
  const std::string merge_file = lathe.file("merge.json", kMerge);
  const std::string bundle = (lathe.cache().parent_path() / "bundle").string(), file = lathe.file("spec.json", kCuda);
  for (const std::vector<std::string>& args : {std::vector<std::string>{"compile", "--spec", kCuda},
                                               {"source", "--spec", kCuda},
                                               {"explain", "--spec", kCuda},
                                               {"run", "--spec", kCuda, "--batch", kBatch},
                                               {"run", "--spec", file, "--batch", kBatch},
                                               {"cache", "why", kCuda},
                                               {"warm", "--specs", file, "--out", bundle},
                                               {"warm", "--specs", kCuda, "--arch", "host", "--out", bundle},
                                               {"compile", "--spec", kMerge},
                                               {"source", "--spec", kMerge},
                                               {"explain", "--spec", kMerge},
                                               {"cache", "why", kMerge},
                                               {"warm", "--specs", merge_file, "--out", bundle}}) {
    const Ran ran = lathe.run(args);
    EXPECT_EQ(ran.exit_code, 2) << ::testing::PrintToString(args) << ran.out << ran.err;
    EXPECT_THAT(ran.err, AllOf(HasSubstr("PrepareOptions::unsafe_cuda"), HasSubstr("--unsafe-cuda"), Not(HasSubstr("compiled"))));
    EXPECT_EQ(ran.out, "");
  }
  EXPECT_FALSE(std::filesystem::exists(bundle));
}

TEST(UnsafeCudaCommand, IsMadeAndMarkedWhereItIsAskedFor) {
  const Program lathe;
  const Ran compiled = lathe.run({"compile", "--unsafe-cuda", "--spec", kCuda});
  ASSERT_EQ(compiled.exit_code, 0) << compiled.err;
  ASSERT_EQ(lathe.run({"compile", "--unsafe-cuda", "--spec", kSpec}).exit_code, 0);
  const std::string listed = lathe.run({"cache", "ls"}).out;
  EXPECT_THAT(listed, AllOf(HasSubstr("[unsafe_cuda] attention bf16 64/64"), HasSubstr("2 entries"),
                            Not(HasSubstr("[unsafe_cuda] attention f16"))));
  const size_t row = listed.rfind('\n', listed.find("[unsafe_cuda]")) + 1;
  const Ran inspected = lathe.run({"cache", "inspect", listed.substr(row, 32)});
  EXPECT_THAT(inspected.out, HasSubstr("\"unsafe_cuda\": true")) << inspected.err;
  EXPECT_THAT(lathe.run({"source", "--unsafe-cuda", "--spec", kCuda}).out, HasSubstr("\nreturn a0 <= a1;\n"));
  const Ran explained = lathe.run({"explain", "--unsafe-cuda", "--spec", kCuda});
  EXPECT_THAT(explained.out,
              AllOf(HasSubstr("unsafe_cuda(\"return a0 <= a1;\""), HasSubstr("CUDA text"), HasSubstr("off: nothing is known")))
      << explained.err;
  // In the cache it is no more had than before.
  EXPECT_EQ(lathe.run({"compile", "--spec", kCuda}).exit_code, 2);
  ASSERT_EQ(lathe.run({"compile", "--unsafe-cuda", "--spec", kMerge}).exit_code, 0);
  EXPECT_THAT(lathe.run({"cache", "ls"}).out, HasSubstr("[unsafe_cuda] merge bf16 128"));
  EXPECT_EQ(lathe.run({"compile", "--spec", kMerge}).exit_code, 2);
}

// What the text means only a compiler knows.
TEST(UnsafeCudaCommand, IsRunButNotChecked) {
  const Program lathe;
  const Ran ran = lathe.run({"run", "--unsafe-cuda", "--spec", kCuda, "--batch", kBatch});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  const Ran checked = lathe.run({"run", "--unsafe-cuda", "--check", "--spec", kCuda, "--batch", kBatch});
  EXPECT_EQ(checked.exit_code, 2);
  EXPECT_THAT(checked.err, AllOf(HasSubstr("--check"), HasSubstr("unsafe_cuda"), HasSubstr("expressions alone")));
  const Ran mask =
      lathe.run({"mask", "--expr", "mask = unsafe_cuda(\"return a0 <= a1;\", kv, q)", "--q-len", "256", "--kv-len", "256"});
  EXPECT_EQ(mask.exit_code, 0) << mask.err;
  EXPECT_THAT(mask.out, AllOf(HasSubstr("off"), HasSubstr("0 empty, 0 full, 8 partial"), HasSubstr("not evaluated: unsafe_cuda")));
}

}  // namespace
}  // namespace lathe::testing
