// The meaning of appending to a cache in double precision (csrc/spec/append_spec.h), one vector at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lathe/spec/append_spec.h"

namespace lathe::oracle {

/// `x`, of head_dim_qk elements, turned by a row of cosines and sines ([turned_dims], half of each).
std::vector<double> turn(const AppendSpec& spec, std::span<const double> x, std::span<const float> cos_sin);

/// How keys, or values, are stored, and what is given of it.
struct AppendFormat {
  DType element;
  KvScale scale_of;
  KvZero zero_of;
  double scale = 1;
  std::span<const float> channel_scale;  // of the head, where the spec has them
  std::span<const float> channel_zero;
};

struct AppendedVector {
  double token_scale = 1, token_zero = 0;  // as the format makes them, else these
  double exact_zero = 0;                   // token_zero before it is rounded
  std::vector<double> codes;               // before they are rounded: what the nearest element is to be stored of
};

/// What a vector of a token becomes.
AppendedVector append_vector(const AppendFormat& format, std::span<const double> x);

}  // namespace lathe::oracle
