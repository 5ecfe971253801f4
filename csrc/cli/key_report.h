// What differs between two kernels' keys, for people.
#pragma once

#include <string>

#include "lathe/jit/nearest_key.h"

namespace lathe::cli {

/// A line for each field that differs, "  group_size: asked for 4, kept 2" where `first` and `second` are "asked for" and "kept";
/// the spec by its fields where it can be read.
std::string differences_text(const KeyComparison& keys, const char* first, const char* second);

}  // namespace lathe::cli
