// Arithmetic of the ends of ranges that integers and floats share (range.cc, float_range.cc).
#pragma once

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>

#include "lathe/spec/expr/range.h"

namespace lathe::expr {

inline constexpr double kInf = std::numeric_limits<double>::infinity();
inline constexpr double kMaxFloat = std::numeric_limits<float>::max();

inline Range hull(std::initializer_list<double> values) {
  return {std::min(values), std::max(values)};
}
inline Range hull(const Range& a, const Range& b) {
  return {std::min(a.lo, b.lo), std::max(a.hi, b.hi)};
}

/// a * b for ends of ranges: an infinite end stands for values that may also be zero times it.
inline double product(double a, double b) {
  return a == 0 || b == 0 ? 0 : a * b;
}
inline Range multiply(const Range& a, const Range& b) {
  return hull({product(a.lo, b.lo), product(a.lo, b.hi), product(a.hi, b.lo), product(a.hi, b.hi)});
}
inline Range absolute(const Range& a) {
  const double most = std::max(std::fabs(a.lo), std::fabs(a.hi));
  return {a.lo > 0 ? a.lo : a.hi < 0 ? -a.hi : 0, most};
}
inline Range square(const Range& a) {
  const Range size = absolute(a);
  return {product(size.lo, size.lo), product(size.hi, size.hi)};
}
inline bool holds_zero(const Range& a) {
  return a.lo <= 0 && a.hi >= 0;
}
inline bool may_be_infinite(const Range& a) {
  return std::isinf(a.lo) || std::isinf(a.hi);
}

}  // namespace lathe::expr
