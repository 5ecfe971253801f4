// Functions of fp32 that hooks may use, PTX form: full-range, as accurate as CUDA's own (CUDA Math API, "Single Precision
// Mathematical Functions"), because a hook's value is judged against double. device/host/math.cuh is the twin.
#pragma once

#include "device/primitives.cuh"

namespace dev {

LATHE_DEVICE float exp(float a) {
  return ::expf(a);
}
LATHE_DEVICE float exp2(float a) {
  return ::exp2f(a);
}
LATHE_DEVICE float log(float a) {
  return ::logf(a);
}
LATHE_DEVICE float log2(float a) {
  return ::log2f(a);
}
LATHE_DEVICE float sqrt(float a) {
  return ::sqrtf(a);
}
LATHE_DEVICE float rsqrt(float a) {
  return ::rsqrtf(a);
}
LATHE_DEVICE float tanh(float a) {
  return ::tanhf(a);
}
// Called, not inlined, like the next three: they are long, and a hook is printed once for each element that a thread holds.
LATHE_DEVICE_CALL float erf(float a) {
  return ::erff(a);
}
LATHE_DEVICE_CALL float sin(float a) {
  return ::sinf(a);
}
LATHE_DEVICE_CALL float cos(float a) {
  return ::cosf(a);
}
LATHE_DEVICE_CALL float acos(float a) {
  return ::acosf(a);
}
LATHE_DEVICE float floor(float a) {
  return ::floorf(a);
}
// The smaller operand; the other one when one is NaN.
LATHE_DEVICE float min(float a, float b) {
  return ::fminf(a, b);
}
LATHE_DEVICE float abs(float a) {
  return ::fabsf(a);
}
LATHE_DEVICE int popc(u32 word) {
  return ::__popc(word);
}

}  // namespace dev
