// The properties that every plan has, tried on random shapes and batches.
#pragma once

#include <cstdint>

namespace lathe::testing {

/// Plans `count` random batches and fails the running test at the first that breaks a property, printing what reproduces it.
void expect_plan_properties(uint64_t seed, int64_t count);

}  // namespace lathe::testing
