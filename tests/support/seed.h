// Seeds of random tests: fresh in every run, printed, and repeatable.
#pragma once

#include <cstdint>
#include <string>

namespace lathe::testing {

/// The seed of this test program's run: LATHE_TEST_SEED when set, else a fresh one. Prints "seed N (LATHE_TEST_SEED=N repeats it)"
/// the first time it is asked for. Thread-safe.
uint64_t seed();

/// The command that runs the current test again with this program's seed.
std::string repeat_command();

}  // namespace lathe::testing
