// The append kernel against the fp64 oracle.
#include "lathe/api/append.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "lathe/proof/append_case.h"
#include "lathe/proof/harness.h"
#include "lathe/spec_testing/random_spec.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

Append prepared(const std::shared_ptr<Device>& device, const AppendSpec& spec) {
  Result<Append> append = Append::prepare(engine(), device, spec);
  EXPECT_TRUE(append.ok()) << append.status().to_string();
  return *std::move(append);
}

void expect_right(const AppendSpec& spec, std::mt19937_64& rng, int cases) {
  // Few enough blocks that warps go round.
  auto device = host_device({.seed = rng(), .check = true, .num_sms = 1});
  const Append append = prepared(device, spec);
  for (int n = 0; n < cases; ++n) {
    ASSERT_EQ(AppendCase(spec, rng).run(device, append), "") << to_json(spec) << "\nrepeat: " << repeat_command();
  }
}

// Every way to place tokens and to turn them.
class AppendWays : public ::testing::TestWithParam<std::tuple<TokenPlace, RopePairs>> {};
TEST_P(AppendWays, AgreeWithTheOracle) {
  std::mt19937_64 rng(seed());
  for (int i = 0; i < 5; ++i) {
    AppendSpec spec = random_append_spec(rng);
    spec.arch = "host";
    spec.place = std::get<0>(GetParam());
    spec.rope = std::get<1>(GetParam());
    if (spec.rope == RopePairs::none) spec.rope_dims = 0;
    if (spec.place == TokenPlace::slots) spec.layout.index = PageIndex::csr;
    ASSERT_NO_FATAL_FAILURE(expect_right(spec, rng, 4));
  }
}
INSTANTIATE_TEST_SUITE_P(, AppendWays,
                         ::testing::Combine(::testing::Values(TokenPlace::slots, TokenPlace::positions),
                                            ::testing::Values(RopePairs::none, RopePairs::neox, RopePairs::interleaved)));

// Every format of the cache with every scale and zero-point that can be made for it.
class AppendFormats : public ::testing::TestWithParam<DType> {};
TEST_P(AppendFormats, AgreeWithTheOracle) {
  std::mt19937_64 rng(seed());
  for (const KvScale scale : {KvScale::none, KvScale::token, KvScale::channel, KvScale::token_channel}) {
    AppendSpec spec = random_append_spec(rng);
    spec.arch = "host";
    spec.kfmt = spec.vfmt = GetParam();
    spec.kscale = spec.vscale = scale;
    spec.kzero = spec.vzero = KvZero::none;
    // With zero-points, where there may be, in keys or in values.
    const bool of_token = scale == KvScale::token || scale == KvScale::token_channel;
    KvZero& zero = rng() % 2 == 0 ? spec.kzero : spec.vzero;
    if (GetParam() == DType::i8) zero = of_token ? KvZero::token : KvZero::channel;
    ASSERT_NO_FATAL_FAILURE(expect_right(spec, rng, 6));
  }
}
INSTANTIATE_TEST_SUITE_P(, AppendFormats, ::testing::Values(DType::e4m3, DType::e5m2, DType::i8),
                         [](const auto& format) { return std::string(name_of(format.param)); });

// What is rounded to each code: all values of 16 bits, infinities and NaN among them.
TEST(Append, EveryValueOf16Bits) {
  std::mt19937_64 rng(seed());
  for (const DType dtype : {DType::f16, DType::bf16}) {
    for (const DType format : {DType::e4m3, DType::e5m2, DType::i8}) {
      AppendSpec spec;
      spec.q_dtype = dtype;
      spec.kfmt = spec.vfmt = format;
      auto device = host_device({.seed = rng(), .check = true});
      const Append append = prepared(device, spec);
      EXPECT_EQ(AppendCase::all_values(spec, rng).run(device, append), "") << to_json(spec);
    }
  }
}

// A token that had -inf, or a number beyond half of bf16's range, got a zero-point that was no code: no element of it could be read
// any more.
TEST(Append, ZeroPointOfAnInfiniteVectorIsACode) {
  constexpr int64_t kTokens = 4, kDim = 32, kPart = 1 << 14;
  constexpr uint16_t kOne = 0x3f80, kInf = 0x7f80, kMinusInf = 0xff80, kLow = 0xff61;  // of bf16; the last is -3e38
  AppendSpec spec;
  spec.q_dtype = DType::bf16, spec.head_dim_qk = spec.head_dim_vo = kDim;
  spec.kfmt = spec.vfmt = DType::i8, spec.kscale = spec.vscale = KvScale::token, spec.kzero = spec.vzero = KvZero::token;
  auto device = host_device({.check = true});
  const auto memory = *device->allocate(9 * kPart);
  ASSERT_TRUE(device->fill(memory.get(), 0, 9 * kPart, nullptr).ok());
  const auto part = [&](int i) { return memory.get() + i * kPart; };
  std::array<uint16_t, kTokens * kDim> x{};
  for (int64_t t = 0; t < kTokens; ++t) x[static_cast<size_t>(t * kDim)] = kOne;
  x[3] = kInf, x[kDim + 4] = kMinusInf, x[2 * kDim + 3] = kInf, x[2 * kDim + 4] = kMinusInf, x[3 * kDim + 4] = kLow;
  const std::array<int64_t, kTokens> slots{0, 1, 2, 3};
  AppendArgs args;
  const int64_t page_size = spec.layout.page_size;
  for (const int i : {0, 1}) ASSERT_TRUE(device->copy_in(part(i), x.data(), sizeof(x), nullptr).ok());
  ASSERT_TRUE(device->copy_in(part(2), slots.data(), sizeof(slots), nullptr).ok());
  args.k = Tensor::contiguous(part(0), {kTokens, 1, kDim}), args.v = Tensor::contiguous(part(1), {kTokens, 1, kDim});
  args.slot_mapping = reinterpret_cast<const int64_t*>(part(2));
  args.k_cache = Tensor::contiguous(part(3), {1, page_size, 1, kDim});
  args.v_cache = Tensor::contiguous(part(4), {1, page_size, 1, kDim});
  const auto table = [&](int i) { return Tensor::contiguous(part(i), {1, page_size, 1}); };
  args.k_scales = {1, table(5), {}, table(6)}, args.v_scales = {1, table(7), {}, table(8)};
  const Append append = prepared(device, spec);
  const Status status = append.run(args, nullptr);
  ASSERT_TRUE(status.ok()) << status.to_string();
  for (const int of : {0, 1}) {
    std::array<int8_t, kTokens * kDim> codes{};
    std::array<float, kTokens> scales{}, zeros{};
    ASSERT_TRUE(device->copy_out(codes.data(), part(3 + of), sizeof(codes), nullptr).ok());
    ASSERT_TRUE(device->copy_out(scales.data(), part(5 + 2 * of), sizeof(scales), nullptr).ok());
    ASSERT_TRUE(device->copy_out(zeros.data(), part(6 + 2 * of), sizeof(zeros), nullptr).ok());
    for (size_t t = 0; t < kTokens; ++t) {
      const int8_t* code = codes.data() + t * kDim;
      EXPECT_TRUE(scales[t] > 0 && std::isfinite(scales[t])) << scales[t];
      EXPECT_TRUE(zeros[t] >= -128 && zeros[t] <= 127) << "token " << t << ": " << zeros[t];
      EXPECT_EQ(static_cast<float>(code[9]), zeros[t]) << "a 0 of token " << t;
      const bool has_inf = t == 0 || t == 2, has_low = t != 0;
      EXPECT_TRUE(!has_inf || code[3] == 127) << "token " << t << ": " << int{code[3]};
      EXPECT_TRUE(!has_low || code[4] == -128) << "token " << t << ": " << int{code[4]};
    }
  }
}

// One captured launch serves fewer tokens: the rest is padding, whatever its rows hold.
TEST(Append, PaddingAlone) {
  std::mt19937_64 rng(seed());
  AppendSpec spec;
  spec.kfmt = DType::i8, spec.kscale = KvScale::token, spec.rope = RopePairs::neox;
  auto device = host_device({.seed = rng(), .check = true});
  const Append append = prepared(device, spec);
  for (int n = 0; n < 40; ++n) {
    const AppendCase drawn(spec, rng);
    if (drawn.tokens > 2) continue;
    EXPECT_EQ(drawn.run(device, append), "");
  }
}

// The figure: q, k and v are read once, codes and scales written once.
TEST(Append, MovesEachByteOnce) {
  std::mt19937_64 rng(seed());
  AppendSpec spec;
  spec.kfmt = spec.vfmt = DType::e4m3, spec.kscale = spec.vscale = KvScale::token;
  auto device = host_device({.seed = rng()});
  const Append append = prepared(device, spec);
  const AppendCase drawn(spec, rng);
  ASSERT_EQ(drawn.run(device, append), "");
  const auto vectors = static_cast<uint64_t>(std::ranges::count(drawn.padding, false) * drawn.kv_heads);
  for (const LaunchCounters::Tensor& t : device->counters().tensors) {
    const bool input = t.name == "k" || t.name == "v", cache = t.name.ends_with("_cache"), scale = t.name.ends_with("token_scale");
    EXPECT_EQ(t.bytes_read, input ? vectors * 256 : t.name == "slot_mapping" ? t.bytes_read : 0) << t.name;
    EXPECT_EQ(t.bytes_written, cache ? vectors * 128 : scale ? vectors * 4 : 0) << t.name;
  }
}

}  // namespace
}  // namespace lathe::testing
