// Hooks as text that parse() reads back.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "lathe/spec/expr/hooks.h"

namespace lathe::expr {

/// Declarations and hooks, one a line, each ended by ';'; parse() of it equals `hooks`, which must have passed check().
/// Subexpressions are written out wherever they are used; where that would be long or deep, they become `let`s.
std::string to_text(const Hooks& hooks);

/// The expression of one node, for messages: about `limit` bytes, with "..." for what is left out.
std::string to_text(const Hooks& hooks, Id node, size_t limit = 256);

/// `value` when it is an integer that a double holds apart from its neighbours. For bounds of ranges, which may be any number until
/// they are checked.
std::optional<int64_t> as_integer(double value);

/// An integer as digits, any other number as the shortest text that reads back.
std::string number_text(double value);
/// The fewest digits that give this f32.
std::string number_text(float value);

/// A declaration as to_text() writes it, without the ';'.
std::string to_text(const Param& param);
std::string to_text(const Rotary& rotary);
std::string to_text(const Tensor& tensor, std::span<const Param> params);

/// The expression of `hook` as to_text() writes it: what follows its '='.
std::string hook_text(const Hooks& hooks, Hook hook);

}  // namespace lathe::expr
