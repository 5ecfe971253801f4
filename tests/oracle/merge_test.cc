#include "lathe/oracle/merge.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lathe/oracle/float16.h"

namespace lathe::oracle {
namespace {

constexpr float kEmpty = -std::numeric_limits<float>::infinity();

std::vector<uint16_t> patterns(std::initializer_list<double> per_state, int head_dim) {
  std::vector<uint16_t> out;
  for (double x : per_state) out.insert(out.end(), static_cast<size_t>(head_dim), encode(DType::bf16, x));
  return out;
}

TEST(MergeOracle, WeighsByTheExponentOfLse) {
  MergeSpec spec{.head_dim = 8};
  const float lse[] = {0.0f, std::log(3.0f)};  // masses 1 and 3
  MergeOutput out = merge(spec, 2, 1, patterns({4, 8}, 8), lse);
  EXPECT_NEAR(out.o[5], (1 * 4 + 3 * 8) / 4.0, 1e-6);
  EXPECT_NEAR(out.lse[0], std::log(4.0), 1e-6);
}

TEST(MergeOracle, BaseTwo) {
  MergeSpec spec{.head_dim = 8, .lse = LseOut::log2};
  const float lse[] = {1.0f, 1.0f, 2.0f};  // masses 2, 2, 4
  MergeOutput out = merge(spec, 3, 1, patterns({1, 2, 4}, 8), lse);
  EXPECT_DOUBLE_EQ(out.o[0], (2 * 1 + 2 * 2 + 4 * 4) / 8.0);
  EXPECT_DOUBLE_EQ(out.lse[0], 3.0);
}

TEST(MergeOracle, EmptyStatesCountForNothing) {
  MergeSpec spec{.head_dim = 8};
  auto o = patterns({7, 5}, 8);
  for (int d = 0; d < 8; ++d) o[static_cast<size_t>(d)] = nan_pattern(DType::bf16);
  const float lse[] = {kEmpty, -2.5f};
  MergeOutput out = merge(spec, 2, 1, o, lse);
  EXPECT_DOUBLE_EQ(out.o[7], 5.0);
  EXPECT_DOUBLE_EQ(out.lse[0], -2.5);

  const float none[] = {kEmpty, kEmpty};
  out = merge(spec, 2, 1, o, none);
  EXPECT_EQ(out.o[0], 0.0);
  EXPECT_EQ(out.lse[0], -std::numeric_limits<double>::infinity());
}

}  // namespace
}  // namespace lathe::oracle
