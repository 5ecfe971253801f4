#include "lathe/testing/seed.h"

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

}  // namespace lathe::testing
