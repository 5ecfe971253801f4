// What an author of hooks may want to write otherwise: the same result for less work.
#pragma once

#include <vector>

#include "lathe/spec/expr/check.h"

namespace lathe::expr {

/// Advice on `hooks`, which must have passed check(): patterns of their expressions that cost more than another form does. Findings
/// that are no errors, each with the hook, its node and, as hint, what to write. It knows a few simple patterns and no more:
///   - a mask that compares elements read at a row's and at a key's index (an id of each document);
///   - a mask that tells elements by a negative number (a sentinel id);
///   - a hook key or value, which is computed for each tile of rows anew.
std::vector<Finding> advice(const Hooks& hooks);

}  // namespace lathe::expr
