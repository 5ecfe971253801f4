// One random expression at a time through the passes that need no compiler, each judged by another way to the same result. Suites
// and lathe-fuzz differ in how many they ask for.
#pragma once

#include <cstdint>
#include <string>

#include "random_hooks.h"

namespace lathe::expr::testing {

/// What cases came to, for suites that must not pass because nothing happened.
struct CaseCounts {
  int64_t smaller = 0;  // graphs that simplify() made smaller
  int64_t read = 0;     // texts that were accepted
  int64_t refused = 0;  // texts that were refused
  int64_t narrow = 0;   // ranges that say anything
  int64_t odd = 0;      // floats that are infinite or NaN, or made of such
};

// Each draws one case from `rng` and judges it: empty when all is well, else what is not. The same state of the generator gives the
// same case.

/// Hooks keep their values when they are simplified and canonicalised.
std::string check_rewriting(Rng& rng, CaseCounts& counts);

/// Hooks that check() accepts are read back from their text and their JSON as they are; others are refused, each problem with its
/// place.
std::string check_forms(Rng& rng, CaseCounts& counts);

/// Every value of every part, as a kernel may compute it in f32 from any floats, lies in the range that is known of it; of finite
/// floats in the range that is known of these.
std::string check_ranges(Rng& rng, CaseCounts& counts);

/// Text that is nearly one of the examples is read, and then read back equal, or refused, each problem with its place.
std::string check_mutated_text(Rng& rng, CaseCounts& counts);

}  // namespace lathe::expr::testing
