#include "lathe/oracle/float16.h"

#include <cmath>
#include <limits>

namespace lathe::oracle {
namespace {

// An IEEE-style format of 1 sign bit, then exponent, then mantissa.
struct Format {
  int mantissa_bits;
  int exponent_bits;
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  int max_field() const { return (1 << exponent_bits) - 1; }
};

Format format_of(DType dtype) {
  return dtype == DType::f16 ? Format{10, 5} : Format{7, 8};
}

}  // namespace

double decode(DType dtype, uint16_t bits) {
  const Format f = format_of(dtype);
  const int field = (bits >> f.mantissa_bits) & f.max_field();
  const int mantissa = bits & ((1 << f.mantissa_bits) - 1);
  double magnitude = 0;
  if (field == f.max_field()) {
    magnitude = mantissa == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  } else if (field == 0) {
    magnitude = std::ldexp(mantissa, 1 - f.bias() - f.mantissa_bits);
  } else {
    magnitude = std::ldexp(mantissa + (1 << f.mantissa_bits), field - f.bias() - f.mantissa_bits);
  }
  return std::copysign(magnitude, (bits & 0x8000) != 0 ? -1.0 : 1.0);
}

uint16_t encode(DType dtype, double value) {
  if (std::isnan(value)) return nan_pattern(dtype);
  const Format f = format_of(dtype);
  const auto sign = static_cast<uint16_t>(std::signbit(value) ? 0x8000 : 0);
  const double magnitude = std::fabs(value);
  const int infinity = f.max_field() << f.mantissa_bits;
  if (std::isinf(magnitude)) return static_cast<uint16_t>(sign | infinity);
  // The patterns of one sign are consecutive integers in order of value: the spacing at `magnitude` tells how many steps it is from
  // zero.
  int exponent = magnitude == 0 ? 1 - f.bias() : std::ilogb(magnitude);
  if (exponent < 1 - f.bias()) exponent = 1 - f.bias();
  const double steps = std::nearbyint(std::ldexp(magnitude, f.mantissa_bits - exponent));  // ties to even
  const double pattern = steps + std::ldexp(exponent + f.bias() - 1, f.mantissa_bits);
  return static_cast<uint16_t>(sign | (pattern >= infinity ? infinity : static_cast<int>(pattern)));
}

uint16_t nan_pattern(DType dtype) {
  return dtype == DType::f16 ? 0x7e01 : 0x7fc1;
}

}  // namespace lathe::oracle
