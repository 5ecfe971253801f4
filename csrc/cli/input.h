// What comes from outside, and how trouble is told.
#pragma once

#include <cstddef>
#include <string>

#include "lathe/base/status.h"

namespace lathe::cli {

/// The text that `argument` of `option` stands for: itself when it starts with '{', standard input when it is "-", else the content
/// of the file of that name. invalid_argument when there is no such file, it is not a regular one, or there are more than
/// `max_bytes`.
Result<std::string> read_text(const std::string& option, const std::string& argument, size_t max_bytes);

/// The content of the regular file `path`; errors as above.
Result<std::string> read_file(const std::string& option, const std::string& path, size_t max_bytes);

/// Prints `status` on standard error; the exit code that goes with it (commands.h).
int fail(const Status& status);

}  // namespace lathe::cli
