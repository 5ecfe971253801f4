// The words of the language, looked up by their text.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "lathe/spec/expr/hooks.h"

namespace lathe::expr {

std::optional<Type> type_named(std::string_view text);
std::optional<Elem> elem_named(std::string_view text);
std::optional<Axis> axis_named(std::string_view text);  // not number and param
std::optional<Hook> hook_named(std::string_view text);
std::optional<Input> input_named(std::string_view text);  // rot_x, which is written as a call, excepted

/// Strength of infix signs, 0 for what is none: a greater one binds tighter. From loose to tight: || && == < | ^ & << + *, each
/// with its kin; all go from left to right, and comparisons do not chain. Bitwise signs bind tighter than comparisons, unlike in C.
int infix_strength(std::string_view sign);
inline constexpr int kEquality = 3, kOrder = 4;  // of == != and < <= > >=
inline constexpr int kPrefix = 11;               // of - and ! before an operand

/// The word before CUDA text.
inline constexpr std::string_view kUnsafeCuda = "unsafe_cuda";
/// Why `text` may not be the text of unsafe_cuda, e.g. "is empty"; empty when it may.
std::string cuda_problem(std::string_view text);

inline constexpr size_t kMaxName = 64;  // bytes of a declared name

/// Why `name` may not be declared, e.g. "is a word of the language"; empty when it may. Inputs may be hidden by a `let` alone.
std::string name_problem(std::string_view name, bool is_let = false);

}  // namespace lathe::expr
