// What people are told to do about a kernel that is not there and may not be compiled.
#pragma once

#include <string>

#include "lathe/jit/engine.h"

namespace lathe {

/// The command that makes the kernel of `request`, to be pasted into a shell, and how its bundle is used. A request without a spec
/// gives a command with SPEC.json in its place.
std::string how_to_add(const KernelRequest& request);

}  // namespace lathe
