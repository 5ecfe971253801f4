// Strings that nobody should send, and the places that take them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lathe::expr::testing {

inline constexpr std::string_view kMark = "evil";  // part of every hostile string

/// Ways out of a name or a value that have worked somewhere, each around the mark.
std::vector<std::string> hostile_strings();
/// Hooks as text in which `s` stands as it is, one for each place that takes a text of the caller.
std::vector<std::string> texts_with(const std::string& s);
/// The same of the JSON form.
std::vector<std::string> jsons_with(const std::string& s);

}  // namespace lathe::expr::testing
