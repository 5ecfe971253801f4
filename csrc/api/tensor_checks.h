// Checks of tensors that callers hand over, shared by the operations. Every problem is added under the argument's name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
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
  bool written = false;     // no stride may be 0 then: rows would lie on each other
};

/// Adds what is wrong with `t`: null, misaligned (16 bytes), rank, shape, strides negative or off, extent past 2^63. True when
/// nothing is.
bool check_tensor(const Tensor& t, const TensorRule& rule, Problems& problems);

/// A dimension of a table: it holds at least this many, and 1.
struct TableAxis {
  int64_t least;
  std::string over;  // what it runs over, for messages
};

/// Adds what is wrong with a tensor that is read element by element, with any strides that are not negative: rank, an extent that
/// is too small or passes 2^31, null, misaligned to its elements, reaching past 2^62. True when nothing is.
bool check_table(const std::string& name, const Tensor& t, size_t element_bytes, std::span<const TableAxis> axes,
                 Problems& problems);

/// Bytes from the first to past the last element of a tensor that passed a check; 0 when it has no element.
size_t extent_bytes(const Tensor& t, size_t element_bytes);

}  // namespace lathe
