// What is wrong with hooks, beyond the types of their operators.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lathe/spec/expr/hooks.h"

namespace lathe::expr {

struct Finding {
  bool error = true;         // else a warning
  std::optional<Hook> hook;  // nothing: a declaration
  Id node = kNone;           // in the graph that was checked; kNone: the hook as a whole
  std::string message;       // with the value and what is allowed
  std::string hint;          // may be empty
  std::string where;         // "column 7" of what was parsed, else the hook's name, or "declarations"

  std::string text() const { return hint.empty() ? message : message + " (" + hint + ")"; }
};

/// Every problem of `hooks`, errors first: inputs that a hook may not use, its type, logits without score or dot, hooks that the
/// normalizer forbids, sizes, indices that leave their axis, integers that leave i32, forms that make NaN, division by zero.
std::vector<Finding> check(const Hooks& hooks);

}  // namespace lathe::expr
