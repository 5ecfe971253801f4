// Text that came from outside: checked, and made fit to be shown in a message.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace lathe::fields {

/// Length in bytes (1..4) of the UTF-8 sequence that `text` starts with; 0 when it starts with none, or with a control character
/// (C0, delete, C1). `text` must not be empty.
size_t printable_prefix(std::string_view text);

/// Whether `text` is UTF-8 without control characters.
bool is_printable(std::string_view text);

/// `text` without quotes, fit for one line of a terminal: at most `limit` bytes, then "..."; every byte that is not printable as
/// '?'.
std::string shown(std::string_view text, size_t limit = 64);

/// shown() in double quotes.
std::string in_quotes(std::string_view text, size_t limit = 64);

/// "host", or "sm_" and a compute capability of two or three digits from 80, with an optional "a" or "f".
bool is_arch_name(std::string_view text);

}  // namespace lathe::fields
