// Hooks as text that parse() reads back.
#pragma once

#include <string>

#include "lathe/spec/expr/hooks.h"

namespace lathe::expr {

/// Declarations and hooks, one a line, each ended by ';'; parse() of it equals `hooks`, once those have passed check().
/// Subexpressions are written out where they are used; where that would not fit kMaxText, they become `let`s.
std::string to_text(const Hooks& hooks);

/// One expression, as to_text() writes it; for messages and explanations.
std::string to_text(const Hooks& hooks, Id root);

}  // namespace lathe::expr
