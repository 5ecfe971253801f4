// Random hooks that a kernel computes as well as plain attention: whatever they do to scores and vectors, fp32 and double agree on
// it well enough for the bounds of plain attention to hold.
#pragma once

#include <random>

#include "lathe/spec/attention_spec.h"

namespace lathe::testing {

/// Gives `spec` random hooks of any kind, and takes from it what cannot stand beside them. What is left is valid.
void add_tame_hooks(AttentionSpec& spec, std::mt19937_64& rng);

}  // namespace lathe::testing
