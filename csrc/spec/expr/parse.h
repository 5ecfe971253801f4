// The text form of hooks (docs/expressions.md has the grammar).
#pragma once

#include <string_view>

#include "lathe/base/status.h"
#include "lathe/spec/expr/check.h"
#include "lathe/spec/expr/hooks.h"

namespace lathe::expr {

inline constexpr size_t kMaxText = size_t{64} * 1024;  // bytes
inline constexpr size_t kMaxGraph = 4096;              // nodes of all hooks, those that are not used included
inline constexpr int kMaxNesting = 64;                 // parentheses, operators without end, `let`s inside each other

/// Reads declarations and hooks separated by ';', e.g. "param W:i32; mask = kv_pos <= q_pos && q_pos - kv_pos < W",
/// and checks them (check.h). Fails with all problems that were found, one a line: "column 7: found ..., expected ... (hint)";
/// columns count bytes from 1, and a text of several lines has "line 2, column 7". `warnings`, when given, takes what is allowed
/// but doubtful, and what `more` finds. Total on any bytes; deterministic; thread-safe.
Result<Hooks> parse(std::string_view text, std::vector<Finding>* warnings = nullptr, const MoreRules& more = {});

}  // namespace lathe::expr
