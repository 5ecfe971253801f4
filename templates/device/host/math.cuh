// Functions of fp32 that hooks may use, host form: the twin of device/sm_80/math.cuh.
#pragma once

#include "device/primitives.cuh"

namespace dev {

LATHE_DEVICE float exp(float a) {
  return __builtin_expf(a);
}
LATHE_DEVICE float exp2(float a) {
  return __builtin_exp2f(a);
}
LATHE_DEVICE float log(float a) {
  return __builtin_logf(a);
}
LATHE_DEVICE float log2(float a) {
  return __builtin_log2f(a);
}
LATHE_DEVICE float sqrt(float a) {
  return __builtin_sqrtf(a);
}
LATHE_DEVICE float rsqrt(float a) {
  return 1.0f / __builtin_sqrtf(a);
}
LATHE_DEVICE float tanh(float a) {
  return __builtin_tanhf(a);
}
// Called, not inlined, like the next three: they are long, and a hook is printed once for each element that a thread holds.
LATHE_DEVICE_CALL float erf(float a) {
  return __builtin_erff(a);
}
LATHE_DEVICE_CALL float sin(float a) {
  return __builtin_sinf(a);
}
LATHE_DEVICE_CALL float cos(float a) {
  return __builtin_cosf(a);
}
LATHE_DEVICE_CALL float acos(float a) {
  return __builtin_acosf(a);
}
LATHE_DEVICE float floor(float a) {
  return __builtin_floorf(a);
}
// The smaller operand; the other one when one is NaN. -0 is smaller than +0.
LATHE_DEVICE float min(float a, float b) {
  return -max(-a, -b);
}
LATHE_DEVICE float abs(float a) {
  return __builtin_fabsf(a);
}
LATHE_DEVICE int popc(u32 word) {
  return __builtin_popcount(word);
}

}  // namespace dev
