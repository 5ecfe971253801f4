// What hooks take at run time, by the names of their declarations.
#pragma once

#include <string>

#include "lathe/api/tensor.h"

namespace lathe {

/// The value of a declared param. Of i32, u32 and bool a whole number (bool: 0 or 1); within the declared range.
struct HookParam {
  std::string name;
  double value = 0;
  bool operator==(const HookParam&) const = default;
};

/// A declared tensor: elements of the declared type, one dimension for each axis, strides not negative. Its shape must hold what
/// the axes run over in the batch (docs/expressions.md).
struct HookTensor {
  std::string name;
  Tensor tensor;
};

}  // namespace lathe
