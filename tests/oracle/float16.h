// 16-bit floating-point formats in plain arithmetic, for references and test data. Decoding is exact; encoding rounds to nearest,
// ties to even, once.
#pragma once

#include <cstdint>

#include "lathe/spec/attention_spec.h"

namespace lathe::oracle {

/// The exact value of the pattern `bits`.
double decode(DType dtype, uint16_t bits);

/// The pattern nearest to `value`; overflow gives infinity, a NaN gives a quiet NaN.
uint16_t encode(DType dtype, double value);

/// A quiet NaN, for memory that nothing may depend on.
uint16_t nan_pattern(DType dtype);

}  // namespace lathe::oracle
