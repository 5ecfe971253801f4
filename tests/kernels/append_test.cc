// The append kernel against the fp64 oracle.
#include "lathe/api/append.h"

#include <gtest/gtest.h>

#include <algorithm>

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
