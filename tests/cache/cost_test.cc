// What a hit costs, in instructions: the same on every machine, so that a second pass over the bytes fails here. Callgrind counts
// them.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace lathe {
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

int64_t instructions(int finds) {
  const Output out = output_of("valgrind --tool=callgrind --callgrind-out-file=/dev/null " + std::string(LATHE_CACHE_COST) + " " +
                               std::to_string(finds));
  const std::string mark = "Collected : ";
  const size_t at = out.text.find(mark);
  EXPECT_EQ(out.status, 0) << out.text;
  return at == std::string::npos ? -1 : std::strtoll(out.text.c_str() + at + mark.size(), nullptr, 10);
}

// About a fifth above what was counted for this build (-O1).
TEST(CacheCost, InstructionsOfOneHit) {
  if (output_of("valgrind --version").status != 0) GTEST_SKIP() << "valgrind is not installed";
  constexpr int kFinds = 50;
  const int64_t each = (instructions(1 + kFinds) - instructions(1)) / kFinds;
  std::printf("a hit of 100 KB: %lld instructions, at most %d\n", static_cast<long long>(each), LATHE_CACHE_COST_HIT);
  EXPECT_GT(each, 0);
  EXPECT_LE(each, LATHE_CACHE_COST_HIT);
}

}  // namespace
}  // namespace lathe
