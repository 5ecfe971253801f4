#include "lathe/oracle/float16.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lathe::oracle {
namespace {

// A format of 1 sign bit, then exponent, then mantissa. Where it has infinities, the last exponent is theirs and NaN's, as in IEEE
// 754; else only the last pattern is no number (e4m3, of the OCP 8-bit floating point specification 1.0).
struct Format {
  int mantissa_bits;
  int exponent_bits;
  bool has_infinity = true;
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  int max_field() const { return (1 << exponent_bits) - 1; }
  int sign_bit() const { return 1 << (mantissa_bits + exponent_bits); }
  // The first pattern that is no number and the one that values too large become.
  int first_special() const { return has_infinity ? max_field() << mantissa_bits : sign_bit() - 1; }
  int overflow() const { return has_infinity ? first_special() : first_special() - 1; }
};

Format format_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return {10, 5};
    case DType::bf16:
      return {7, 8};
    case DType::e5m2:
      return {2, 5};
    default:
      return {3, 4, false};
  }
}

}  // namespace

double decode(DType dtype, uint16_t bits) {
  if (dtype == DType::i8) return static_cast<int8_t>(bits);
  const Format f = format_of(dtype);
  const int pattern = bits & (f.sign_bit() - 1);
  const int field = pattern >> f.mantissa_bits;
  const int mantissa = bits & ((1 << f.mantissa_bits) - 1);
  double magnitude = 0;
  if (pattern >= f.first_special()) {
    const bool is_infinity = f.has_infinity && mantissa == 0;
    magnitude = is_infinity ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  } else if (field == 0) {
    magnitude = std::ldexp(mantissa, 1 - f.bias() - f.mantissa_bits);
  } else {
    magnitude = std::ldexp(mantissa + (1 << f.mantissa_bits), field - f.bias() - f.mantissa_bits);
  }
  return std::copysign(magnitude, (bits & f.sign_bit()) != 0 ? -1.0 : 1.0);
}

double largest(DType dtype) {
  return dtype == DType::i8 ? 127 : decode(dtype, static_cast<uint16_t>(format_of(dtype).first_special() - 1));
}

uint16_t encode(DType dtype, double value) {
  if (std::isnan(value)) return nan_pattern(dtype);
  if (dtype == DType::i8) return static_cast<uint8_t>(static_cast<int>(std::clamp(std::nearbyint(value), -128.0, 127.0)));
  const Format f = format_of(dtype);
  const int sign = std::signbit(value) ? f.sign_bit() : 0;
  const double magnitude = std::fabs(value);
  if (std::isinf(magnitude)) return static_cast<uint16_t>(sign | f.overflow());
  // The patterns of one sign are consecutive integers in order of value: the spacing at `magnitude` tells how many steps it is from
  // zero.
  int exponent = magnitude == 0 ? 1 - f.bias() : std::ilogb(magnitude);
  if (exponent < 1 - f.bias()) exponent = 1 - f.bias();
  const double steps = std::nearbyint(std::ldexp(magnitude, f.mantissa_bits - exponent));  // ties to even
  const double pattern = steps + std::ldexp(exponent + f.bias() - 1, f.mantissa_bits);
  return static_cast<uint16_t>(sign | (pattern >= f.first_special() ? f.overflow() : static_cast<int>(pattern)));
}

uint16_t nan_pattern(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return 0x7e01;
    case DType::bf16:
      return 0x7fc1;
    case DType::e4m3:
      return 0x7f;
    case DType::e5m2:
      return 0x7e;
    case DType::i8:
      return 0x80;
  }
  return 0;
}

}  // namespace lathe::oracle
