// What planning costs, in instructions: the same on every machine, so that a slower planner fails here. Callgrind counts them.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace lathe::testing {
namespace {

struct Output {
  std::string text;
  int status = -1;
};

Output output_of(const std::string& command) {
  Output out;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return out;
  std::array<char, 4096> buffer;
  while (size_t n = fread(buffer.data(), 1, buffer.size(), pipe)) out.text.append(buffer.data(), n);
  out.status = pclose(pipe);
  return out;
}

int64_t instructions(int batch, int plans) {
  const Output out = output_of("valgrind --tool=callgrind --callgrind-out-file=/dev/null " + std::string(LATHE_PLAN_COST) + " " +
                               std::to_string(batch) + " " + std::to_string(plans));
  const std::string mark = "Collected : ";
  const size_t at = out.text.find(mark);
  EXPECT_EQ(out.status, 0) << out.text;
  return at == std::string::npos ? -1 : std::strtoll(out.text.c_str() + at + mark.size(), nullptr, 10);
}

// A tenth above what was counted for this build (-O1), so that a compiler's next version passes and a second pass over the batch
// does not.
TEST(PlanCost, InstructionsOfOnePlan) {
  if (output_of("valgrind --version").status != 0) GTEST_SKIP() << "valgrind is not installed";
  for (const auto& [batch, most] :
       {std::pair{16, LATHE_PLAN_COST_16}, {64, LATHE_PLAN_COST_64}, {256, LATHE_PLAN_COST_256}, {1024, LATHE_PLAN_COST_1024}}) {
    constexpr int kPlans = 20;
    const int64_t each = (instructions(batch, 1 + kPlans) - instructions(batch, 1)) / kPlans;
    std::printf("batch %4d: %lld instructions, at most %d\n", batch, static_cast<long long>(each), most);
    EXPECT_GT(each, 0);
    EXPECT_LE(each, most) << "batch " << batch;
  }
}

}  // namespace
}  // namespace lathe::testing
