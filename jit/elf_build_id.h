// Which build a program or library file is.
#pragma once

#include <string>

#include "lathe/base/status.h"

namespace lathe {

/// "build-id <hex>" by the file's GNU build-id note, else "digest <hex>" of all its bytes: equal for equal files wherever they lie.
/// `unavailable` when the file cannot be read. The file is hostile input.
Result<std::string> build_of_file(const std::string& path);

}  // namespace lathe
