// Random text of hooks.
#pragma once

#include <string>

#include "random_hooks.h"

namespace lathe::expr::testing {

/// A mask as people write them: comparisons of positions, params and tensors, joined by logic; seldom with maps of positions. Now
/// and then it may overflow, so that parse() refuses it.
std::string random_mask_text(Rng& rng);

/// An example of the documentation with a few bytes changed, pieces of the language put in, or parts cut out or doubled: parse()
/// refuses most of them.
std::string mutated_text(Rng& rng);

}  // namespace lathe::expr::testing
