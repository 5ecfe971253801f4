// A fault in words.
#pragma once

#include "lathe/runtime/simt/state.h"

namespace lathe::simt {

/// `launch_failed`: what happened, then one line per party with its place in the templates.
Status report(const Fault& fault, const Module& module, const std::string& kernel);

}  // namespace lathe::simt
