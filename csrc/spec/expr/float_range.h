// Ranges of operators that take or give f32, as the device evaluates them.
#pragma once

#include <span>

#include "lathe/spec/expr/range.h"

namespace lathe::expr {

/// The range of `node` from those of its operands. It holds every value that a kernel may compute: each operator rounds to f32,
/// overflows to inf and underflows to 0, and the functions of device/math.cuh are off by their documented errors.
Range float_range(const Graph& graph, const Node& node, std::span<const Range> args, Floats floats);

}  // namespace lathe::expr
