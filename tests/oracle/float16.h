// Element formats of 16 and 8 bits in plain arithmetic, for references and test data. Decoding is exact; encoding rounds to
// nearest, ties to even, once. Codes of 8 bits are patterns below 256.
#pragma once

#include <cstdint>

#include "lathe/spec/attention_spec.h"

namespace lathe::oracle {

/// The exact value of the pattern `bits`.
double decode(DType dtype, uint16_t bits);

/// The pattern nearest to `value`; overflow gives infinity, or the largest number where there is none; a NaN gives nan_pattern().
uint16_t encode(DType dtype, double value);

/// The largest number.
double largest(DType dtype);

/// A quiet NaN, or -128 of i8, for memory that nothing may depend on.
uint16_t nan_pattern(DType dtype);

}  // namespace lathe::oracle
