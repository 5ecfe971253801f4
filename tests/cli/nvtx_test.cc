// LATHE_NVTX, as a profiler would see the program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "program.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Not;

/// Names of the ranges of a run, those inside others after as many blanks; empty, with a failure, where one is not ended.
std::vector<std::string> ranges(const Ran& ran) {
  std::vector<std::string> out;
  std::istringstream lines(ran.err);
  size_t depth = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("push ")) out.push_back(std::string(depth++, ' ') + line.substr(5));
    if (line != "pop") continue;
    EXPECT_GT(depth, 0u) << ran.err;
    depth = std::max<size_t>(depth, 1) - 1;
  }
  EXPECT_EQ(depth, 0u) << ran.err;
  return out;
}

TEST(Nvtx, CompilesPlansAndRunsAreRanges) {
  Program lathe;
  const std::vector<std::string> run{"run", "--spec", kSpec, "--batch", kBatch};
  const std::vector<std::pair<std::string, std::string>> on{{"LATHE_NVTX", FAKE_NVTX}};
  const Ran cold = lathe.run(run, on), warm = lathe.run(run, on);
  ASSERT_EQ(cold.exit_code, 0) << cold.err;
  ASSERT_EQ(warm.exit_code, 0) << warm.err;
  const std::string spec = "[attention f16 64/64 group 2 paged(16, NHD, csr) causal lse ln host]";
  const std::string plan = "lathe plan " + spec + " requests 2, tokens 6";
  const auto launch = MatchesRegex("lathe run \\[attention f16 64/64 .*\\] tokens [0-9]+, heads 4");
  EXPECT_THAT(ranges(cold), ElementsAre("lathe compile attention host " + spec, plan, launch, launch));
  EXPECT_THAT(ranges(warm), ElementsAre(plan, launch, launch));
}

TEST(Nvtx, IsOffUnlessAskedFor) {
  Program lathe;
  for (const char* off : {"", "0"}) {
    const Ran ran = lathe.run({"run", "--spec", kSpec, "--batch", kBatch}, {{"LATHE_NVTX", off}});
    EXPECT_EQ(ran.exit_code, 0) << ran.err;
    EXPECT_THAT(ranges(ran), IsEmpty());
    EXPECT_THAT(ran.err, Not(HasSubstr("NVTX")));
  }
}

TEST(Nvtx, ALibraryThatIsNoneIsOneWarning) {
  Program lathe;
  for (const std::string& wrong : {std::string("/nonexistent/nvtx.so"), lathe.file("nvtx.so", "no library"),
                                   std::string("no-such-library.so"), std::string("libm.so.6")}) {
    const Ran ran = lathe.run({"run", "--spec", kSpec, "--batch", kBatch}, {{"LATHE_NVTX", wrong}});
    EXPECT_EQ(ran.exit_code, 0) << ran.err;
    const size_t at = ran.err.find("there are no ranges");
    EXPECT_NE(at, std::string::npos) << ran.err;
    EXPECT_EQ(ran.err.find("there are no ranges", at + 1), std::string::npos) << ran.err;
    EXPECT_THAT(ran.err, AllOf(HasSubstr("LATHE_NVTX=" + wrong), HasSubstr("allowed: 0, 1, or the path")));
  }
}

}  // namespace
}  // namespace lathe::testing
