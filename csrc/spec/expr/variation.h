// Where an expression can be hoisted to.
#pragma once

#include <vector>

#include "lathe/spec/expr/hooks.h"

namespace lathe::expr {

/// For each node of hooks.graph, with what it changes: kernel (the same for a whole tile: constants, params, b, lengths), row (q,
/// h,
/// ...), column (kv, slot, ...) or element. q_pos and kv_pos take the variation of their maps.
std::vector<Variation> variations(const Hooks& hooks);

}  // namespace lathe::expr
