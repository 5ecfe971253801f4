// What each primitive computes and moves, against scalar references.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "lathe/testing/seed.h"
#include "support.h"

namespace lathe::testing {
namespace {

const Probe& probe() {
  static const Probe instance(R"(
LATHE_KERNEL(where, Args, 64) {
  const u32 i = block_index() * 64 + thread_index();
  global_store_vec16(word(params.out, 4 * i), Vec16{{thread_index(), block_index(), lane_index() + 100 * warp_index(), grid_size()}});
}

LATHE_KERNEL(moves, Args, 32) {
  const u32 t = thread_index();
  shared_store_u32(t * 32, global_load_u32(word(params.in, t * 8)));
  shared_store_vec8(t * 32 + 8, global_load_vec8(word(params.in, t * 8 + 2)));
  shared_store_vec16(t * 32 + 16, global_load_vec16(word(params.in, t * 8 + 4)));
  warp_sync();
  const u32 other = (t + 5) % 32;
  global_store_u32(word(params.out, t * 8), shared_load_u32(other * 32));
  global_store_u32(word(params.out, t * 8 + 1), 7);
  global_store_vec8(word(params.out, t * 8 + 2), shared_load_vec8(other * 32 + 8));
  global_store_vec16(word(params.out, t * 8 + 4), shared_load_vec16(other * 32 + 16));
}

LATHE_KERNEL(collectives, Args, 32) {
  const u32 t = thread_index(), x = global_load_u32(word(params.in, t));
  u32 r[8];
  r[0] = shuffle(x, (t * 7 + 3) % 32);
  r[1] = shuffle_xor(x, params.n);
  r[2] = vote_any(x % 64 == 0);
  r[3] = vote_all(x % 64 != 0);
  r[4] = vote_any(true);
  r[5] = vote_all(false);
  r[6] = vote_any(t == 31);
  r[7] = vote_all(t != 31);
  for (u32 i = 0; i < 8; ++i) global_store_u32(word(params.out, i * 32 + t), r[i]);
}

LATHE_KERNEL(matrices, Args, 32) {
  const u32 t = thread_index();
  for (u32 i = 0; i < 4; ++i) shared_store_vec16((t + 32 * i) * 16, global_load_vec16(word(params.in, (t + 32 * i) * 4)));
  warp_sync();
  u32 r[4];
  const u32 row = global_load_u32(word(params.in, 512 + t));
  load_matrix_x4(r, row * 16);
  for (u32 i = 0; i < 4; ++i) global_store_u32(word(params.out, i * 32 + t), r[i]);
  load_matrix_x4_transposed(r, row * 16);
  for (u32 i = 0; i < 4; ++i) global_store_u32(word(params.out, 128 + i * 32 + t), r[i]);
}

template <class T>
LATHE_DEVICE void multiply(const Args& params) {
  const u32 t = thread_index();
  u32 a[4], b[2];
  float d[4];
  for (u32 i = 0; i < 4; ++i) a[i] = global_load_u32(word(params.in, i * 32 + t));
  for (u32 i = 0; i < 2; ++i) b[i] = global_load_u32(word(params.in, 128 + i * 32 + t));
  for (u32 i = 0; i < 4; ++i) d[i] = float_from_bits(global_load_u32(word(params.in, 192 + i * 32 + t)));
  mma_m16n8k16<T>(d, a, b[0], b[1]);
  for (u32 i = 0; i < 4; ++i) global_store_u32(word(params.out, i * 32 + t), float_bits(d[i]));
}
LATHE_KERNEL(mma_bf16, Args, 32) { multiply<bf16>(params); }
LATHE_KERNEL(mma_f16, Args, 32) { multiply<f16>(params); }

LATHE_KERNEL(copies, Args, 32) {
  const u32 t = thread_index();
  copy_async_16(t * 32, word(params.in, t * 4), true);
  copy_async_commit();
  copy_async_16(t * 32 + 16, nullptr, false);
  copy_async_commit();
  copy_async_commit();
  copy_async_wait<2>();
  global_store_vec16(word(params.out, t * 8), shared_load_vec16(t * 32));
  copy_async_wait<0>();
  global_store_vec16(word(params.out, t * 8 + 4), shared_load_vec16(t * 32 + 16));
}

LATHE_KERNEL(early_read, Args, 32) {
  const u32 t = thread_index();
  shared_store_vec16(t * 16, Vec16{{t, t, t, t}});
  copy_async_16(t * 16, word(params.in, t * 4), true);
  copy_async_commit();
  copy_async_wait<1>();
  global_store_vec16(word(params.out, t * 4), shared_load_vec16(t * 16));
  copy_async_wait<0>();
}

// One value per thread: the result of operation n on in[i] and in[i + 1].
LATHE_KERNEL(arithmetic, Args, 32) {
  for (u32 i = thread_index(); i + 1 < params.n; i += 32) {
    const float x = float_from_bits(global_load_u32(word(params.in, i))), y = float_from_bits(global_load_u32(word(params.in, i + 1)));
    const u32 packed_bf16 = pack2<bf16>(x, y), packed_f16 = pack2<f16>(x, y);
    Vec16 a{{float_bits(ex2(x)), float_bits(lg2(x)), float_bits(rcp(x)), float_bits(dev::max(x, y))}};
    Vec16 b{{packed_bf16, packed_f16, float_bits(dev::fma(x, y, x)), 0}};
    global_store_vec16(word(params.out, 8 * i), a);
    global_store_vec16(word(params.out, 8 * i + 4), b);
  }
}

// All 16-bit patterns of both types as floats.
LATHE_KERNEL(unpacking, Args, 32) {
  for (u32 x = thread_index(); x < 65536; x += 32) {
    const u32 both = x << 16 | (65535 - x);
    Vec16 v{{float_bits(unpack<bf16>(both, 1)), float_bits(unpack<f16>(both, 1)), float_bits(unpack<bf16>(both, 0)),
             float_bits(unpack<f16>(both, 0))}};
    global_store_vec16(word(params.out, 4 * x), v);
  }
}

LATHE_KERNEL(atomics, Args, 64) {
  const u32 old = atomic_add_acq_rel(word(params.work, 0), 3) + atomic_add_relaxed(word(params.work, 1), 1);
  global_store_u32(word(params.out, block_index() * 64 + thread_index()), old);
}
)");
  return instance;
}

std::vector<uint32_t> random_words(std::mt19937_64& random, size_t n) {
  std::vector<uint32_t> out(n);
  for (uint32_t& x : out) x = static_cast<uint32_t>(random());
  return out;
}

// Independent of the library's conversions: by value, with the standard library's exact arithmetic in double.
double value_of(uint32_t bits, int exponent_bits, int mantissa_bits) {
  const uint32_t mantissa = bits & ((1u << mantissa_bits) - 1);
  const int exponent = static_cast<int>(bits >> mantissa_bits & ((1u << exponent_bits) - 1));
  const double sign = (bits >> (exponent_bits + mantissa_bits) & 1) != 0 ? -1 : 1;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1u << mantissa_bits), exponent - bias - mantissa_bits);
}
double bf16_of(uint32_t bits) {
  return value_of(bits & 0xffff, 8, 7);
}
double f16_of(uint32_t bits) {
  return value_of(bits & 0xffff, 5, 10);
}

// x rounded to nearest even on the grid of the type; NaN is 0x7fff.
uint32_t rounded(float x, int exponent_bits, int mantissa_bits) {
  if (std::isnan(x)) return 0x7fff;
  const uint32_t sign = std::signbit(x) ? 0x8000 : 0;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double magnitude = std::fabs(static_cast<double>(x));
  const uint32_t infinity = ((1u << exponent_bits) - 1) << mantissa_bits;
  if (std::isinf(x)) return sign | infinity;
  if (magnitude == 0) return sign;
  const int exponent = std::max(std::ilogb(magnitude), 1 - bias);
  const double units = std::nearbyint(std::ldexp(magnitude, mantissa_bits - exponent));  // exact, then ties to even
  const uint32_t bits = static_cast<uint32_t>(units) + (static_cast<uint32_t>(exponent + bias - 1) << mantissa_bits);
  return sign | std::min(bits, infinity);
}

TEST(Values, Indices) {
  Memory memory{.in = {}, .out = std::vector<uint32_t>(3 * 64 * 4), .work = {}};
  for (const SimtOptions& options : {checked(), unchecked(), unchecked(3)}) {
    auto outcome = run(probe(), "where", memory, {.grid = 3, .threads = 64}, options);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
    for (uint32_t i = 0; i < 3 * 64; ++i) {
      const uint32_t thread = i % 64;
      EXPECT_EQ(memory.out[4 * i], thread);
      EXPECT_EQ(memory.out[4 * i + 1], i / 64);
      EXPECT_EQ(memory.out[4 * i + 2], thread % 32 + 100 * (thread / 32));
      EXPECT_EQ(memory.out[4 * i + 3], 3u);
    }
  }
}

TEST(Values, MovesOfAllSizes) {
  std::mt19937_64 random(seed());
  Memory memory{.in = random_words(random, 256), .out = std::vector<uint32_t>(256), .work = {}};
  for (const SimtOptions& options : {checked(), unchecked()}) {
    auto outcome = run(probe(), "moves", memory, {.shared = 1024}, options);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
    for (uint32_t t = 0; t < 32; ++t) {
      const uint32_t other = (t + 5) % 32;
      for (uint32_t i = 0; i < 8; ++i) EXPECT_EQ(memory.out[t * 8 + i], i == 1 ? 7 : memory.in[other * 8 + i]) << t << " " << i;
    }
  }
}

TEST(Values, ShufflesAndVotes) {
  std::mt19937_64 random(seed());
  for (uint32_t mask = 0; mask < 32; ++mask) {
    Memory memory{.in = random_words(random, 32), .out = std::vector<uint32_t>(256), .work = {}};
    bool any = false;
    for (uint32_t x : memory.in) any = any || x % 64 == 0;
    auto outcome = run(probe(), "collectives", memory, {}, checked(mask), mask);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
    for (uint32_t t = 0; t < 32; ++t) {
      const std::vector<uint32_t> want{memory.in[(t * 7 + 3) % 32], memory.in[t ^ mask], any, !any, 1, 0, 1, 0};
      for (uint32_t i = 0; i < 8; ++i) EXPECT_EQ(memory.out[i * 32 + t], want[i]) << i << " lane " << t;
    }
  }
}

TEST(Values, LoadMatrix) {
  std::mt19937_64 random(seed());
  for (int trial = 0; trial < 8; ++trial) {
    Memory memory{.in = random_words(random, 512 + 32), .out = std::vector<uint32_t>(256), .work = {}};
    for (uint32_t i = 0; i < 32; ++i) memory.in[512 + i] %= 128;  // any row, the same one too
    auto outcome = run(probe(), "matrices", memory, {.shared = 2048}, checked(trial));
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
    auto element = [&](uint32_t m, uint32_t row, uint32_t column) {
      const uint32_t x = memory.in[memory.in[512 + 8 * m + row] * 4 + column / 2];
      return column % 2 != 0 ? x >> 16 : x & 0xffff;
    };
    for (uint32_t l = 0; l < 32; ++l) {
      for (uint32_t m = 0; m < 4; ++m) {
        const uint32_t column = 2 * (l % 4);
        EXPECT_EQ(memory.out[m * 32 + l], element(m, l / 4, column) | element(m, l / 4, column + 1) << 16);
        EXPECT_EQ(memory.out[128 + m * 32 + l], element(m, column, l / 4) | element(m, column + 1, l / 4) << 16);
      }
    }
  }
}

// Small whole numbers: every product and sum is exact, so layout errors show as plain differences.
TEST(Values, MatrixProduct) {
  std::mt19937_64 random(seed());
  for (const bool bf16 : {true, false}) {
    int a[16][16], b[16][8], d[16][8];
    for (auto& row : a)
      for (int& x : row) x = static_cast<int>(random() % 17) - 8;
    for (auto& row : b)
      for (int& x : row) x = static_cast<int>(random() % 17) - 8;
    for (auto& row : d)
      for (int& x : row) x = static_cast<int>(random() % 2001) - 1000;
    auto bits = [&](int x) { return bf16 ? rounded(static_cast<float>(x), 8, 7) : rounded(static_cast<float>(x), 5, 10); };
    Memory memory{.in = std::vector<uint32_t>(320), .out = std::vector<uint32_t>(128), .work = {}};
    // The tables of the PTX ISA, "Matrix fragments for mma.m16n8k16": groupID = lane / 4, threadID_in_group = lane % 4.
    for (int lane = 0; lane < 32; ++lane) {
      const int group = lane >> 2, thread = lane % 4;
      for (int i = 0; i < 8; ++i) {
        const int row = (i < 2 || (i >= 4 && i < 6)) ? group : group + 8;
        const int column = thread * 2 + (i & 1) + (i < 4 ? 0 : 8);
        memory.in[static_cast<size_t>(i / 2 * 32 + lane)] |= bits(a[row][column]) << (16 * (i % 2));
      }
      for (int i = 0; i < 4; ++i) {
        const int row = thread * 2 + (i & 1) + (i < 2 ? 0 : 8);
        memory.in[static_cast<size_t>(128 + i / 2 * 32 + lane)] |= bits(b[row][group]) << (16 * (i % 2));
      }
      for (int i = 0; i < 4; ++i) {
        const int row = i < 2 ? group : group + 8, column = thread * 2 + (i & 1);
        memory.in[static_cast<size_t>(192 + i * 32 + lane)] = std::bit_cast<uint32_t>(static_cast<float>(d[row][column]));
      }
    }
    auto outcome = run(probe(), bf16 ? "mma_bf16" : "mma_f16", memory, {}, checked());
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
    EXPECT_EQ(outcome.counters.matrix_instructions, 1u);
    EXPECT_EQ(outcome.counters.idle_matrix_instructions, 0u);
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const int row = i < 2 ? lane / 4 : lane / 4 + 8, column = lane % 4 * 2 + (i & 1);
        int want = d[row][column];
        for (int k = 0; k < 16; ++k) want += a[row][k] * b[k][column];
        EXPECT_EQ(std::bit_cast<float>(memory.out[static_cast<size_t>(i * 32 + lane)]), static_cast<float>(want))
            << row << " " << column;
      }
    }
  }
}

// Random values of every size, infinities and NaN: within fp32 rounding of the exact sum.
TEST(Values, MatrixProductRounding) {
  std::mt19937_64 random(seed());
  for (int trial = 0; trial < 20; ++trial) {
    const bool bf16 = trial % 2 == 0;
    Memory memory{.in = random_words(random, 320), .out = std::vector<uint32_t>(128), .work = {}};
    if (bf16) {  // keep sums finite
      for (size_t i = 0; i < 192; ++i) memory.in[i] = (memory.in[i] & 0x8fff8fff) | 0x30003000;
    }
    for (size_t i = 192; i < 320; ++i)
      memory.in[i] = std::bit_cast<uint32_t>(static_cast<float>(static_cast<int32_t>(memory.in[i])) * 1e-6f);
    auto outcome = run(probe(), bf16 ? "mma_bf16" : "mma_f16", memory, {}, unchecked());
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
    auto half = [&](size_t register_at, int lane, int part) {
      const uint32_t x = memory.in[register_at + static_cast<size_t>(lane)] >> (16 * part);
      return bf16 ? bf16_of(x) : f16_of(x);
    };
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const int row = i < 2 ? lane / 4 : lane / 4 + 8, column = lane % 4 * 2 + i % 2;
        double exact = std::bit_cast<float>(memory.in[static_cast<size_t>(192 + i * 32 + lane)]), size = std::fabs(exact);
        for (int k = 0; k < 16; ++k) {
          const double a = half(static_cast<size_t>((k / 8 * 2 + row / 8) * 32), row % 8 * 4 + k % 8 / 2, k % 2);
          const double b = half(static_cast<size_t>(128 + k / 8 * 32), column * 4 + k % 8 / 2, k % 2);
          exact += a * b;
          size += std::fabs(a * b);
        }
        const float got = std::bit_cast<float>(memory.out[static_cast<size_t>(i * 32 + lane)]);
        if (std::isnan(exact)) {
          EXPECT_TRUE(std::isnan(got));
        } else if (std::isinf(exact)) {
          EXPECT_EQ(got, exact);
        } else {
          EXPECT_NEAR(got, exact, size * 17 * 6e-8) << "trial " << trial;
        }
      }
    }
  }
}

TEST(Values, AsynchronousCopies) {
  std::mt19937_64 random(seed());
  Memory memory{.in = random_words(random, 128), .out = std::vector<uint32_t>(256), .work = {}};
  for (const SimtOptions& options : {checked(), unchecked()}) {
    auto outcome = run(probe(), "copies", memory, {.shared = 1024}, options);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
    EXPECT_EQ(outcome.counters.async_copies, 64u);
    for (uint32_t t = 0; t < 32; ++t) {
      for (uint32_t i = 0; i < 4; ++i) {
        EXPECT_EQ(memory.out[t * 8 + i], memory.in[t * 4 + i]);
        EXPECT_EQ(memory.out[t * 8 + 4 + i], 0u);
      }
    }
  }
}

// The latest legal moment: without checks, who reads early finds the old bytes every time.
TEST(Values, CopiesAreLate) {
  Memory memory{.in = std::vector<uint32_t>(128, 77), .out = std::vector<uint32_t>(128), .work = {}};
  auto outcome = run(probe(), "early_read", memory, {.shared = 512}, unchecked());
  ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
  for (uint32_t i = 0; i < 128; ++i) EXPECT_EQ(memory.out[i], i / 4);
}

TEST(Values, Arithmetic) {
  std::mt19937_64 random(seed());
  Memory memory{.in = random_words(random, 20000), .out = {}, .work = {}};
  const float special[] = {0.0f,
                           -0.0f,
                           1.0f,
                           -1.0f,
                           65504.0f,
                           65519.996f,
                           65520.0f,
                           5.9604645e-08f,
                           2.9802322e-08f,
                           2.9802326e-08f,
                           6.1035156e-05f,
                           6.1e-05f,
                           3.3895314e38f,
                           3.4e38f,
                           1e-40f,
                           -1e-40f,
                           1e38f,
                           2.0e38f,
                           -126.0f,
                           -127.0f,
                           127.5f,
                           128.0f,
                           std::numeric_limits<float>::infinity(),
                           -std::numeric_limits<float>::infinity(),
                           std::nanf("")};
  size_t at = 0;
  for (float x : special)
    for (float y : special) {
      memory.in[at++] = std::bit_cast<uint32_t>(x);
      memory.in[at++] = std::bit_cast<uint32_t>(y);
    }
  for (size_t i = at; i < at + 8000; ++i)
    memory.in[i] = std::bit_cast<uint32_t>(static_cast<float>(static_cast<int32_t>(memory.in[i])) * 0x1p-24f);
  for (size_t i = at + 8000; i < at + 10000; ++i) memory.in[i] &= 0xffffe000;  // f16 ties among them
  const auto n = static_cast<uint32_t>(memory.in.size());
  memory.out.resize(size_t{8} * n);
  auto outcome = run(probe(), "arithmetic", memory, {}, unchecked(), n);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
  constexpr float kLeast = std::numeric_limits<float>::min();
  auto flush = [&](float x) { return std::fabs(x) < kLeast ? std::copysign(0.0f, x) : x; };
  auto same = [](float got, double want, double ulps) {
    if (std::isnan(want)) return std::isnan(got);
    if (std::isinf(want) || want == 0) return got == want;
    return std::fabs(got - want) <= ulps * std::fabs(want) * 0x1p-23;
  };
  for (uint32_t i = 0; i + 1 < n; ++i) {
    const float x = std::bit_cast<float>(memory.in[i]), y = std::bit_cast<float>(memory.in[i + 1]);
    auto result = [&](uint32_t k) { return std::bit_cast<float>(memory.out[8 * i + k]); };
    SCOPED_TRACE(std::to_string(x) + " " + std::to_string(y) + " at " + std::to_string(i));
    ASSERT_TRUE(same(result(0), flush(std::exp2(x)), 2)) << result(0);
    ASSERT_TRUE(same(result(1), std::log2(flush(x)), 2) || std::fabs(result(1)) < 1e-6) << result(1);
    ASSERT_TRUE(same(result(2), flush(1.0f / flush(x)), 1)) << result(2);
    const float larger = std::isnan(x) ? y : std::isnan(y) || x > y ? x : y;  // fmax makes NaN of a signalling one
    ASSERT_TRUE(same(result(3), larger, 0)) << result(3);
    ASSERT_EQ(memory.out[8 * i + 4], rounded(x, 8, 7) | rounded(y, 8, 7) << 16);
    ASSERT_EQ(memory.out[8 * i + 5], rounded(x, 5, 10) | rounded(y, 5, 10) << 16);
    ASSERT_TRUE(same(result(6), std::fma(x, y, x), 0)) << result(6);
  }
}

TEST(Values, Unpacking) {
  Memory memory{.in = {}, .out = std::vector<uint32_t>(4 * 65536), .work = {}};
  auto outcome = run(probe(), "unpacking", memory, {}, unchecked());
  ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
  for (uint32_t x = 0; x < 65536; ++x) {
    const double want[] = {bf16_of(x), f16_of(x), bf16_of(65535 - x), f16_of(65535 - x)};
    for (uint32_t i = 0; i < 4; ++i) {
      const float got = std::bit_cast<float>(memory.out[4 * x + i]);
      if (std::isnan(want[i])) {
        ASSERT_TRUE(std::isnan(got)) << x;
      } else {
        ASSERT_EQ(got, want[i]) << x;
        ASSERT_EQ(std::signbit(got), std::signbit(want[i])) << x;
      }
    }
  }
}

TEST(Values, AtomicsAddUp) {
  for (const SimtOptions& options : {checked(), unchecked(), unchecked(4)}) {
    Memory memory{.in = {}, .out = std::vector<uint32_t>(8 * 64), .work = {5, 0}};
    auto outcome = run(probe(), "atomics", memory, {.grid = 8, .threads = 64}, options);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
    EXPECT_EQ(memory.work[0], 5 + 3 * 8 * 64u);
    EXPECT_EQ(memory.work[1], 8 * 64u);
  }
}

}  // namespace
}  // namespace lathe::testing
