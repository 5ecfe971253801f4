// From a vector in fp32 to what the cache has: elements, or codes with the scale that they ask for.
#pragma once

#include "device/to_codes.cuh"
#include "kernels/append/vector.cuh"

namespace append {

template <class FORMAT>
constexpr bool kCodes = sizeof(typename FORMAT::Element) == 1;

// Of what a token's scale is made of: its inverse stays a number.
constexpr float kLeastRange = 1e-30f, kMostRange = 1.5e38f;

// Divides by what is given: the scale of all, and the channels'.
template <class FORMAT>
LATHE_DEVICE void apply_given_scales(float (&x)[8], const abi::KvScales& scales, const Vector& at) {
  const float inverse = dev::rcp(scales.scale);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if constexpr (FORMAT::kChannelScale) {
      if (at.exists) x[i] *= dev::rcp(scales.scale * kv::Table{scales.channel_scale, at.head}.of_channel(8 * at.chunk + i));
    } else {
      x[i] *= inverse;
    }
  }
}

// Divides by the token's scale, which is made of the vector and stored, as is its zero-point; adds that. By all lanes.
template <class FORMAT, int LANES>
LATHE_DEVICE void apply_made_scale(float (&x)[8], const abi::KvScales& scales, const Vector& at, kv::Place place) {
  constexpr bool kZero = FORMAT::kZero == kv::ZeroPoint::token;
  float low = 0.0f, high = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    low = dev::min(low, kZero ? x[i] : 0.0f);
    high = dev::max(high, kZero ? x[i] : dev::abs(x[i]));
  }
#pragma unroll
  for (dev::u32 mask = LANES / 2; mask > 0; mask /= 2) {
    low = dev::min(low, dev::float_from_bits(dev::shuffle_xor(dev::float_bits(low), mask)));
    high = dev::max(high, dev::float_from_bits(dev::shuffle_xor(dev::float_bits(high), mask)));
  }
  low = dev::max(low, -kMostRange);
  const float range = dev::min(high, kMostRange) - low;
  const float scale =
      range == 0.0f ? 1.0f
                    : dev::max(range, kLeastRange) * (kZero ? 1.0f / 255 : 1.0f / dev::kLargestCode<typename FORMAT::Element>);
  const float inverse = dev::rcp(scale);
  // Rounded as codes are, so that a 0 stays one.
  const float zero = kZero ? dev::floor(-128.0f - low * inverse + 0.5f) : 0.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = dev::fma(x[i], inverse, zero);
  if (at.exists && at.chunk == 0) {
    kv::Table{scales.token_scale, at.head}.set_token(place, scale);
    if constexpr (kZero) kv::Table{scales.zero, at.head}.set_token(place, zero);
  }
}

// Stores 8 elements of a vector at `address`. By all lanes.
template <class FORMAT, int LANES>
LATHE_DEVICE void store_vector(float (&x)[8], void* address, const abi::KvScales& scales, const Vector& at, kv::Place place) {
  using Stored = typename FORMAT::Element;
  if constexpr (!kCodes<FORMAT>) {
    if (at.exists) dev::global_store8<Stored>(address, x);
    return;
  } else {
    apply_given_scales<FORMAT>(x, scales, at);
    if constexpr (FORMAT::kTokenScale) apply_made_scale<FORMAT, LANES>(x, scales, at, place);
    if constexpr (FORMAT::kZero == kv::ZeroPoint::channel) {
#pragma unroll
      for (int i = 0; i < 8; ++i)
        if (at.exists) x[i] += kv::Table{scales.zero, at.head}.of_channel(8 * at.chunk + i);
    }
    if (at.exists) dev::global_store8_codes<Stored>(address, x);
  }
}

}  // namespace append
