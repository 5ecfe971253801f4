// What is wrong with a text as JSON, before anything reads it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace lathe {

/// The first thing wrong with `text` as JSON, in words: its form, a NUL (the parser takes one for the end and would pass over what
/// follows), a key that is given twice in its object, or more than 16 levels of objects and arrays. Nothing when it is sound. The
/// caller bounds the size.
std::optional<std::string> json_problem(std::string_view text);

}  // namespace lathe
