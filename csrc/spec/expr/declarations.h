// The part of check() that looks at declarations.
#pragma once

#include <vector>

#include "lathe/spec/expr/check.h"
#include "lathe/spec/expr/hooks.h"

namespace lathe::expr {

/// Problems of names and numbers of declarations, which the text form cannot have but hand-made values can.
void check_declarations(const Hooks& hooks, std::vector<Finding>& out);

}  // namespace lathe::expr
