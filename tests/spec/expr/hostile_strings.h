// Strings that have left a name or a value somewhere, for every place that takes one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lathe::expr::testing {

inline constexpr std::string_view kMark = "evil";  // part of every hostile string

/// Over 1,000 of them, each around the mark.
std::vector<std::string> hostile_strings();

}  // namespace lathe::expr::testing
