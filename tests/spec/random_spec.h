// Random specs for tests. The same state of the generator gives the same spec.
#pragma once

#include <random>

#include "lathe/spec/append_spec.h"
#include "lathe/spec/attention_spec.h"
#include "lathe/spec/merge_spec.h"

namespace lathe::testing {

/// A spec that validate() accepts, drawn so that every value of every enum, every head dimension (64 and 128 most often), small and
/// odd page sizes and group sizes, splits that fall inside short sequences, and given tiles all come up. A given tile fits in the
/// shared memory and registers of every arch. Suites that need one arch overwrite `arch`.
AttentionSpec random_spec(std::mt19937_64& rng);

/// As above for appending to a cache.
AppendSpec random_append_spec(std::mt19937_64& rng);

/// As above for merging.
MergeSpec random_merge_spec(std::mt19937_64& rng);

}  // namespace lathe::testing
