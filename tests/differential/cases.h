// The cases of lathe-fuzz. Each draws everything from one seed and judges it: nothing when all is well, else what is wrong, with
// what it takes to see it by hand. Thread-safe.
#pragma once

#include <cstdint>
#include <string>

namespace lathe::testing {

/// Expressions, without compiling: values before and after rewriting, text and JSON read back, ranges, tiles against dense
/// evaluation, text that is nearly right.
std::string expression_case(uint64_t seed);

/// A spec that cannot be served, or a batch that does not hold together: refused by name before anything is compiled, or else what
/// is served is whole.
std::string refusal_case(uint64_t seed);

/// A random spec, most often with random hooks, and a random batch of it, on the host executor with every check on, against the
/// fp64 reference.
std::string spec_case(uint64_t seed);

/// A block-sparse matrix or gathered keys. Spoiled lists, specs and tensors are refused by name; the layout itself, with a random
/// spec, on the host executor with every check on, against the fp64 reference of chosen keys.
std::string layout_case(uint64_t seed);

}  // namespace lathe::testing
