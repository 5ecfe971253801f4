// What printed hooks call, for the host: the functions of device_functions(), with tensors that ask the test. Compiled by the test
// together with printed source, where `float` stands for double: so values can be compared with the interpreter's exactly.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

/// One evaluation's leaves, by enum or slot, and how elements are read.
struct Leaves {
  const double* input_floats;
  const int* input_ints;
  const double* param_floats;
  const int* param_ints;
  const void* environment;
  double (*read)(const void* environment, unsigned tensor, const int* index, int count);
  int (*extent)(const void* environment, unsigned tensor, int axis);
};

template <class T>
struct TensorSlot {
  const Leaves* leaves;
  unsigned tensor;
};

namespace dev {

inline double float_from_bits(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline int wrap_add(int a, int b) {
  return static_cast<int>(static_cast<unsigned>(a) + static_cast<unsigned>(b));
}
inline int wrap_sub(int a, int b) {
  return static_cast<int>(static_cast<unsigned>(a) - static_cast<unsigned>(b));
}
inline int wrap_mul(int a, int b) {
  return static_cast<int>(static_cast<unsigned>(a) * static_cast<unsigned>(b));
}
inline int wrap_neg(int a) {
  return wrap_sub(0, a);
}

inline int floor_div(int a, int b) {
  if (b == 0) return 0;
  if (b == -1) return wrap_neg(a);
  return a / b - ((a % b != 0 && (a % b < 0) != (b < 0)) ? 1 : 0);
}
inline unsigned floor_div(unsigned a, unsigned b) {
  return b == 0 ? 0 : a / b;
}
inline int mod(int a, int b) {
  if (b == 0 || b == -1) return 0;
  int rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}
inline unsigned mod(unsigned a, unsigned b) {
  return b == 0 ? 0 : a % b;
}

template <class T>
T shl(T word, unsigned count) {
  return count < 32 ? static_cast<T>(static_cast<unsigned>(word) << count) : T{0};
}
inline unsigned shr(unsigned word, unsigned count) {
  return count < 32 ? word >> count : 0;
}
inline int shr(int word, unsigned count) {
  return word >> (count < 31 ? count : 31);
}

inline int abs(int a) {
  return a < 0 ? wrap_neg(a) : a;
}
inline double abs(double a) {
  return std::fabs(a);
}
template <class T>
T min(T a, T b) {
  return a < b ? a : b;
}
template <class T>
T max(T a, T b) {
  return a > b ? a : b;
}
template <>
inline double min(double a, double b) {
  if (a == b) return std::signbit(a) ? a : b;
  return std::fmin(a, b);
}
template <>
inline double max(double a, double b) {
  if (a == b) return std::signbit(a) ? b : a;
  return std::fmax(a, b);
}

inline int to_i32(bool a) {
  return a ? 1 : 0;
}
inline int to_i32(unsigned a) {
  return static_cast<int>(a);
}
inline int to_i32(double a) {
  if (a != a) return 0;
  if (a >= 2147483647.0) return 2147483647;
  if (a <= -2147483648.0) return -2147483647 - 1;
  return static_cast<int>(a);
}
inline double to_f32(int a) {
  return static_cast<float>(a);
}
inline double to_f32(unsigned a) {
  return static_cast<float>(a);
}

inline double div(double a, double b) {
  return a / b;
}
inline double exp(double a) {
  return std::exp(a);
}
inline double exp2(double a) {
  return std::exp2(a);
}
inline double log(double a) {
  return std::log(a);
}
inline double log2(double a) {
  return std::log2(a);
}
inline double sqrt(double a) {
  return std::sqrt(a);
}
inline double rsqrt(double a) {
  return 1.0 / std::sqrt(a);
}
inline double tanh(double a) {
  return std::tanh(a);
}
inline double sigmoid(double a) {
  return 1.0 / (1.0 + std::exp(-a));
}
inline double erf(double a) {
  return std::erf(a);
}
inline double sin(double a) {
  return std::sin(a);
}
inline double cos(double a) {
  return std::cos(a);
}
inline double acos(double a) {
  return std::acos(a);
}
inline double floor(double a) {
  return std::floor(a);
}
inline double powi(double a, int n) {
  double out = 1;
  for (unsigned rest = n < 0 ? 0u - static_cast<unsigned>(n) : static_cast<unsigned>(n); rest != 0; rest >>= 1) {
    if ((rest & 1) != 0) out *= a;
    a *= a;
  }
  return n < 0 ? 1 / out : out;
}
inline bool isinf(double a) {
  return std::isinf(a);
}
inline bool bit(unsigned word, int i) {
  return ((word >> (i & 31)) & 1) != 0;
}
inline int popc(unsigned word) {
  return __builtin_popcount(word);
}

template <class T, class... Index>
T read(const TensorSlot<T>& t, Index... index) {
  const int at[] = {index...};
  return static_cast<T>(t.leaves->read(t.leaves->environment, t.tensor, at, static_cast<int>(sizeof...(index))));
}
template <class T>
int inside(const TensorSlot<T>& t, int axis, int index) {
  const int last = t.leaves->extent(t.leaves->environment, t.tensor, axis) - 1;
  return index < 0 ? 0 : index > last ? last : index;
}

}  // namespace dev
