// What is wrong with hooks, beyond the types of their operators.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lathe/spec/expr/hooks.h"

namespace lathe::expr {

struct Finding {
  bool error = true;                              // else a warning
  std::optional<Hook> hook;                       // nothing: a declaration
  Id node = kNone;                                // in the graph that was checked; kNone: the hook as a whole
  std::string message;                            // with the value and what is allowed
  std::string hint;                               // may be empty
  std::string where;                              // "column 7" of what was parsed, else the hook's name, or "declarations"
  std::optional<size_t> param = {}, tensor = {};  // the declaration, by its place in Hooks; of a finding without a hook

  std::string text() const { return hint.empty() ? message : message + " (" + hint + ")"; }
};

/// Every problem of `hooks`, errors first: inputs that a hook may not use, its type, logits without score or dot, hooks that the
/// normalizer forbids, sizes, indices that leave their axis, integers that leave i32, forms that make NaN, division by zero.
std::vector<Finding> check(const Hooks& hooks);

/// What else is found in hooks that check() has no error of, by who is to use them. It makes no reading fail: its findings, errors
/// too, are handed over with the warnings, each with its place.
using MoreRules = std::function<std::vector<Finding>(const Hooks& hooks)>;

}  // namespace lathe::expr
