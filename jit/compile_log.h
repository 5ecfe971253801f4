// How compilers' words reach the user.
#pragma once

#include <string>
#include <string_view>

#include "lathe/base/status.h"
#include "lathe/jit/compiler.h"

namespace lathe {

/// A line end and the last 4,000 characters of `log`, cut at a line's start; empty for an empty log.
std::string log_tail(std::string_view log);

/// compile_failed: "<tool> could not compile <name> for <arch>" and the log's end.
Status compile_error(const std::string& tool, const CompileJob& job, std::string_view log);

}  // namespace lathe
