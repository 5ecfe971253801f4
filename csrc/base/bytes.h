// Bytes and checked integers: the two things that every size computation goes through.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace lathe {

using Bytes = std::vector<std::byte>;
using BytesView = std::span<const std::byte>;

/// a * b, or nothing when it leaves T.
template <std::integral T>
std::optional<T> checked_mul(T a, T b) {
  T out;
  if (__builtin_mul_overflow(a, b, &out)) return std::nullopt;
  return out;
}

/// a + b, or nothing when it leaves T.
template <std::integral T>
std::optional<T> checked_add(T a, T b) {
  T out;
  if (__builtin_add_overflow(a, b, &out)) return std::nullopt;
  return out;
}

template <std::integral T>
constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

/// The least multiple of `m` that is >= a.
template <std::integral T>
constexpr T round_up(T a, T m) {
  return ceil_div(a, m) * m;
}

}  // namespace lathe
