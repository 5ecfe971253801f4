// Checks of tensors that callers hand over, shared by the operations. Every problem is added under the argument's name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "lathe/api/tensor.h"
#include "lathe/base/status.h"

namespace lathe {

/// Any size is accepted for this dimension.
constexpr int64_t kAnySize = -1;

struct TensorRule {
  const char* name;                      // the argument
  size_t element_bytes;                  // 2 or 4
  std::initializer_list<int64_t> shape;  // what each dimension must be, or kAnySize
  bool contiguous = false;  // else: innermost stride 1, other strides whole 16 bytes (rows are moved 16 bytes at a time)
};

/// Adds what is wrong with `t`: null, misaligned (16 bytes), rank, shape, strides negative or off, extent past 2^63. True when
/// nothing is.
bool check_tensor(const Tensor& t, const TensorRule& rule, Problems& problems);

/// Bytes from the first to past the last element of a tensor that passed check_tensor; 0 when it has no element.
size_t extent_bytes(const Tensor& t, size_t element_bytes);

}  // namespace lathe
