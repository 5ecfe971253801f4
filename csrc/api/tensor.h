// A tensor as callers hand it over: a pointer with shape and strides. Lathe owns no tensor.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

namespace lathe {

/// Element type is known from the spec. Strides are in elements; the innermost stride must be 1. Rank at most 5.
struct Tensor {
  void* data = nullptr;
  int rank = 0;
  std::array<int64_t, 5> shape{};
  std::array<int64_t, 5> stride{};

  /// A contiguous tensor.
  static Tensor contiguous(void* data, std::initializer_list<int64_t> shape) {
    Tensor t;
    t.data = data;
    for (int64_t n : shape) t.shape[t.rank++] = n;
    int64_t step = 1;
    for (int i = t.rank - 1; i >= 0; --i) {
      t.stride[i] = step;
      step *= t.shape[i];
    }
    return t;
  }
};

}  // namespace lathe
