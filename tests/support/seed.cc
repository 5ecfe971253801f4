#include "lathe/testing/seed.h"

#include <gtest/gtest.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace lathe::testing {

uint64_t seed() {
  static const uint64_t value = [] {
    const char* text = std::getenv("LATHE_TEST_SEED");
    uint64_t number = text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device{}();
    std::printf("seed %" PRIu64 " (LATHE_TEST_SEED=%" PRIu64 " repeats it)\n", number, number);
    std::fflush(stdout);
    return number;
  }();
  return value;
}

std::string repeat_command() {
  const ::testing::TestInfo* test = ::testing::UnitTest::GetInstance()->current_test_info();
  return "LATHE_TEST_SEED=" + std::to_string(seed()) + " <this program> --gtest_filter=" + test->test_suite_name() + "." +
         test->name();
}

}  // namespace lathe::testing
