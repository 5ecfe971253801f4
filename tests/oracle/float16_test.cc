#include "lathe/oracle/float16.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

namespace lathe::oracle {
namespace {

TEST(Float16, KnownPatterns) {
  EXPECT_EQ(decode(DType::bf16, 0x3f80), 1.0);
  EXPECT_EQ(decode(DType::bf16, 0xc040), -3.0);
  EXPECT_EQ(decode(DType::f16, 0x3c00), 1.0);
  EXPECT_EQ(decode(DType::f16, 0x3555), 0.333251953125);
  EXPECT_EQ(decode(DType::f16, 0x0001), std::ldexp(1.0, -24));  // the smallest subnormal
  EXPECT_EQ(decode(DType::f16, 0x7bff), 65504.0);
  EXPECT_TRUE(std::isinf(decode(DType::f16, 0x7c00)));
  EXPECT_TRUE(std::isnan(decode(DType::f16, nan_pattern(DType::f16))));
  EXPECT_TRUE(std::isnan(decode(DType::bf16, nan_pattern(DType::bf16))));
}

// OCP 8-bit floating point specification 1.0, table 1.
TEST(Float16, KnownPatternsOf8Bits) {
  EXPECT_EQ(decode(DType::e4m3, 0x7e), 448.0);
  EXPECT_EQ(decode(DType::e4m3, 0x38), 1.0);
  EXPECT_EQ(decode(DType::e4m3, 0x81), -std::ldexp(1.0, -9));
  EXPECT_TRUE(std::isnan(decode(DType::e4m3, 0x7f)) && std::isnan(decode(DType::e4m3, 0xff)));
  EXPECT_EQ(encode(DType::e4m3, 1e9), 0x7e);
  EXPECT_EQ(decode(DType::e5m2, 0x7b), 57344.0);
  EXPECT_EQ(decode(DType::e5m2, 0xbc), -1.0);
  EXPECT_EQ(decode(DType::e5m2, 0x01), std::ldexp(1.0, -16));
  EXPECT_TRUE(std::isinf(decode(DType::e5m2, 0x7c)) && std::isnan(decode(DType::e5m2, 0x7d)));
  EXPECT_EQ(encode(DType::e5m2, -1e9), 0xfc);
  EXPECT_EQ(decode(DType::i8, 0x80), -128.0);
  EXPECT_EQ(encode(DType::i8, 127.6), 0x7f);
  EXPECT_EQ(encode(DType::i8, -2.5), 0xfe);
  for (DType dtype : {DType::e4m3, DType::e5m2, DType::i8}) {
    for (uint16_t bits = 0; bits < 0x100; ++bits) {
      const double value = decode(dtype, bits);
      if (std::isnan(value)) continue;
      EXPECT_EQ(encode(dtype, value), bits) << name_of(dtype);
    }
  }
  for (DType dtype : {DType::e4m3, DType::e5m2}) {
    for (uint16_t bits = 0; bits + 1 < (dtype == DType::e4m3 ? 0x7f : 0x7c); ++bits) {
      const double middle = (decode(dtype, bits) + decode(dtype, static_cast<uint16_t>(bits + 1))) / 2;
      EXPECT_EQ(encode(dtype, middle), bits % 2 == 0 ? bits : bits + 1) << name_of(dtype);
      EXPECT_EQ(encode(dtype, std::nextafter(middle, 0)), bits) << name_of(dtype);
    }
  }
}

// bf16 is the upper half of a binary32: the machine's own float decides.
TEST(Float16, Bf16IsTheUpperHalfOfAFloat) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto whole = static_cast<double>(std::bit_cast<float>(bits << 16));
    const double got = decode(DType::bf16, static_cast<uint16_t>(bits));
    if (std::isnan(whole)) {
      EXPECT_TRUE(std::isnan(got)) << std::hex << bits;
    } else {
      EXPECT_EQ(std::bit_cast<uint64_t>(got), std::bit_cast<uint64_t>(whole)) << std::hex << bits;
    }
  }
}

TEST(Float16, EveryPatternComesBack) {
  for (DType dtype : {DType::f16, DType::bf16}) {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
      const double value = decode(dtype, static_cast<uint16_t>(bits));
      if (std::isnan(value)) continue;
      EXPECT_EQ(encode(dtype, value), bits) << name_of(dtype);
    }
  }
}

TEST(Float16, RoundsToNearestEven) {
  for (DType dtype : {DType::f16, DType::bf16}) {
    for (uint32_t bits = 0; bits + 1 < (dtype == DType::f16 ? 0x7bffu : 0x7f7fu); ++bits) {
      const double low = decode(dtype, static_cast<uint16_t>(bits)), high = decode(dtype, static_cast<uint16_t>(bits + 1));
      const double middle = (low + high) / 2;
      EXPECT_EQ(encode(dtype, middle), bits % 2 == 0 ? bits : bits + 1);
      EXPECT_EQ(encode(dtype, std::nextafter(middle, low)), bits);
      EXPECT_EQ(encode(dtype, std::nextafter(middle, high)), bits + 1);
    }
  }
  EXPECT_EQ(encode(DType::f16, 65520.0), 0x7c00);  // half way to the next power of two: infinity
  EXPECT_EQ(encode(DType::f16, 65519.9), 0x7bff);
  EXPECT_EQ(encode(DType::f16, -1e9), 0xfc00);
}

}  // namespace
}  // namespace lathe::oracle
