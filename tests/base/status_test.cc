#include "lathe/base/status.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>

namespace lathe {
namespace {

TEST(Status, DefaultIsOk) {
  Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.code(), Code::ok);
  EXPECT_EQ(status.to_string(), "ok");
}

TEST(Status, NamesWhereAndHint) {
  EXPECT_EQ(invalid_argument("page_size", "0 is not allowed; it must be >= 1").to_string(),
            "invalid_argument: page_size: 0 is not allowed; it must be >= 1");
  EXPECT_EQ(Status(Code::unavailable, "no NVRTC").to_string(), "unavailable: no NVRTC");
  EXPECT_EQ(Status(Code::unavailable, "no NVRTC", "libnvrtc.so.13", "set LATHE_NVRTC").to_string(),
            "unavailable: libnvrtc.so.13: no NVRTC (set LATHE_NVRTC)");
}

TEST(Status, EveryCodeHasItsOwnName) {
  std::set<std::string> names;
  for (int code = 0; code <= static_cast<int>(Code::internal); ++code) names.insert(name_of(static_cast<Code>(code)));
  EXPECT_EQ(names.size(), static_cast<size_t>(Code::internal) + 1);
}

TEST(Result, HoldsAValueOrAStatus) {
  Result<int> value = 7;
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(*value, 7);
  EXPECT_TRUE(value.status().ok());

  Result<int> error = invalid_argument("n", "-1 is not allowed");
  EXPECT_FALSE(error);
  EXPECT_EQ(error.status().where(), "n");
}

TEST(Result, MovesItsValueOut) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(3);
  std::unique_ptr<int> owned = *std::move(result);
  EXPECT_EQ(*owned, 3);
}

Result<int> half(int n) {
  if (n % 2 != 0) return invalid_argument("n", std::to_string(n) + " is odd");
  return n / 2;
}

Status both_even(int a, int b, int* evaluated) {
  LATHE_TRY(half(a));
  ++*evaluated;
  LATHE_TRY(half(b));
  ++*evaluated;
  return {};
}

TEST(Result, TryReturnsTheFirstFailure) {
  int evaluated = 0;
  EXPECT_TRUE(both_even(2, 4, &evaluated).ok());
  EXPECT_EQ(evaluated, 2);
  EXPECT_EQ(both_even(3, 5, &evaluated).message(), "3 is odd");
  EXPECT_EQ(evaluated, 2);
}

TEST(Problems, ReportsAllAtOnce) {
  Problems problems;
  EXPECT_TRUE(problems.status().ok());
  problems.add("q_dtype", "f64");
  EXPECT_EQ(problems.status().to_string(), "invalid_argument: q_dtype: f64");
  problems.add("page_size", "0");
  EXPECT_EQ(problems.size(), 2u);
  EXPECT_EQ(problems.status().message(), "2 problems\n  q_dtype: f64\n  page_size: 0");
}

}  // namespace
}  // namespace lathe
