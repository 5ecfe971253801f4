#include "lathe/base/bytes.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

namespace lathe {
namespace {

TEST(Bytes, CheckedMulRefusesWhatLeavesTheType) {
  EXPECT_EQ(checked_mul<int64_t>(1LL << 31, 1LL << 31), 1LL << 62);
  EXPECT_EQ(checked_mul<int64_t>(1LL << 32, 1LL << 31), std::nullopt);
  EXPECT_EQ(checked_mul<int64_t>(-1, std::numeric_limits<int64_t>::min()), std::nullopt);
  EXPECT_EQ(checked_mul<uint32_t>(65536, 65535), 65536u * 65535u);
  EXPECT_EQ(checked_mul<uint32_t>(65536, 65536), std::nullopt);
}

TEST(Bytes, CheckedAddRefusesWhatLeavesTheType) {
  EXPECT_EQ(checked_add<int32_t>(2147483646, 1), 2147483647);
  EXPECT_EQ(checked_add<int32_t>(2147483647, 1), std::nullopt);
  EXPECT_EQ(checked_add<uint64_t>(~0ull, 1), std::nullopt);
}

TEST(Bytes, RoundingUp) {
  EXPECT_EQ(ceil_div(0, 16), 0);
  EXPECT_EQ(ceil_div(1, 16), 1);
  EXPECT_EQ(ceil_div(16, 16), 1);
  EXPECT_EQ(ceil_div(17, 16), 2);
  EXPECT_EQ(round_up(17, 16), 32);
  EXPECT_EQ(round_up(32, 16), 32);
}

}  // namespace
}  // namespace lathe
