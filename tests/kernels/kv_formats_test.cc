// Keys and values as codes of 8 bits, on the host executor with every check on, against the fp64 oracle.
#include <gtest/gtest.h>

#include <array>
#include <ostream>

#include "lathe/plan/attention_image.h"
#include "lathe/proof/harness.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

struct Format {
  DType elements;
  KvScale scale = KvScale::none;
  KvZero zero = KvZero::none;
};

// Every form of K and of V, in pairs that differ.
struct FormatCase {
  const char* name;
  Format k, v;
};
void PrintTo(const FormatCase& c, std::ostream* out) {
  *out << c.name;
}

using enum DType;
constexpr std::array kFormats{
    FormatCase{"E4m3", {e4m3}, {e4m3}},
    FormatCase{"E5m2", {e5m2}, {e5m2}},
    FormatCase{"I8", {i8}, {i8}},
    FormatCase{"KeysOnly", {e4m3, KvScale::token}, {bf16}},
    FormatCase{"ValuesOnly", {bf16}, {e4m3, KvScale::token}},
    FormatCase{"Tokens", {i8, KvScale::token}, {i8, KvScale::token}},
    FormatCase{"Channels", {i8, KvScale::channel}, {e4m3, KvScale::channel}},
    FormatCase{"TokensAndChannels", {e5m2, KvScale::token_channel}, {i8, KvScale::token_channel}},
    FormatCase{"ZeroOfTokens", {i8, KvScale::token, KvZero::token}, {i8, KvScale::token, KvZero::token}},
    FormatCase{"ZeroOfChannels", {i8, KvScale::channel, KvZero::channel}, {i8, KvScale::channel, KvZero::channel}},
    FormatCase{"Crossed", {i8, KvScale::token, KvZero::channel}, {i8, KvScale::channel, KvZero::token}},
    FormatCase{"ZeroAlone", {i8, KvScale::none, KvZero::token}, {i8, KvScale::none, KvZero::channel}},
};

AttentionSpec spec_of(const FormatCase& c, DType q_dtype) {
  AttentionSpec spec;
  spec.q_dtype = spec.o_dtype = q_dtype;
  const auto set = [&](const Format& from, DType& format, KvScale& scale, KvZero& zero) {
    format = is_code(from.elements) ? from.elements : q_dtype, scale = from.scale, zero = from.zero;
  };
  set(c.k, spec.kfmt, spec.kscale, spec.kzero);
  set(c.v, spec.vfmt, spec.vscale, spec.vzero);
  spec.lse = LseOut::ln;
  return spec;
}

BatchShape draw_shape(std::mt19937_64& rng) {
  const auto length = [&](int32_t most) { return 1 + static_cast<int32_t>(rng() % static_cast<uint32_t>(most)); };
  const int32_t chunk = length(90);
  return {.num_kv_heads = 1 + static_cast<int32_t>(rng() % 2),
          .qo_lens = {1, chunk, 1, 0, length(5)},
          .kv_lens = {300 + length(200), chunk + length(200), length(60), 40, 5 + length(120)},
          .window = length(300),
          .soft_cap = 20};
}

class KvFormats : public ::testing::TestWithParam<FormatCase> {
 protected:
  std::mt19937_64 rng_{seed()};

  void prove_equal(const AttentionSpec& spec, int batches) {
    const auto device = host_device({.seed = rng_(), .check = true});
    Result<Attention> attention = Attention::prepare(engine(), device, spec);
    ASSERT_TRUE(attention.ok()) << attention.status().to_string();
    for (int i = 0; i < batches; ++i) EXPECT_EQ(prove(device, *attention, draw_shape(rng_), rng_(), repeat_command()), "");
  }
};

// Both element types of q, prefill and decodes, several parts; head dims with an odd number of chunks among them.
TEST_P(KvFormats, EqualTheOracle) {
  for (DType q_dtype : {DType::bf16, DType::f16}) {
    AttentionSpec spec = spec_of(GetParam(), q_dtype);
    spec.head_dim_qk = 16 * (1 + static_cast<int32_t>(rng_() % 9)), spec.head_dim_vo = 16 * (1 + static_cast<int32_t>(rng_() % 9));
    spec.group_size = 1 + static_cast<int32_t>(rng_() % 4);
    spec.mask = std::array{Mask::none, Mask::causal, Mask::causal_window}[rng_() % 3];
    spec.layout.kind = q_dtype == DType::bf16 ? LayoutKind::paged : LayoutKind::ragged;
    spec.soft_cap = rng_() % 3 == 0;
    prove_equal(spec, 2);
  }
}

// Hooks see scores of what the codes stand for, and weights before the tokens' scales.
TEST_P(KvFormats, WithHooks) {
  AttentionSpec spec = spec_of(GetParam(), DType::bf16);
  spec.head_dim_qk = 64, spec.head_dim_vo = 48, spec.group_size = 2;
  spec.hooks = *expr::parse(
      "param W: i32 in [20, 90]; tensor a: f32[HQ]; query = x * 0.5; mask = kv_pos <= q_pos && q_pos - kv_pos < W;\n"
      "logits = score + 0.25 * tanh(dot) + a[h] * 0.1 + 0.125 * tanh(qsum) * f32(kv & 1) - f32(kv % 3) * qnorm * 0.0625; weight = "
      "w * (1 + 0.5 * f32(kv & 1)); sink = a[h]; output = o * 2");
  prove_equal(spec, 1);
}

// Hooks of keys and values see what the codes stand for, and logits the sums of queries without the channels' scales. In every run
// one of these: linear ones, partners and parts of vectors; ones that are not, so that no factor can be moved past them; one alone.
// What they make of numbers of few digits is exact in fp32, so that it is rounded to elements as the reference rounds it.
constexpr std::array kVectorHooks{
    "rotary = neox(32); key = x * 0.5 - rot(x); value = rot(x) + x * 0.5; mask = kv_pos <= q_pos",
    "rotary = interleaved; key = rot(x) * 0.5 + x; query = x * 0.5; value = d < 16 ? x + 0.5 : rot(x)",
    "tensor a: bf16[SLOT, HKV]; key = min(x, 0.75) + x * 0.25; value = clamp(x, -1, 0.5) + abs(a[slot, hk])",
    "key = min(x, 0.5); logits = score + 0.125 * qsum * f32(kv & 1) - 0.25 * qnorm * f32(kv % 3)",
    "param W: i32 in [20, 90]; mask = kv_pos <= q_pos && q_pos - kv_pos < W; value = x < 0.5 ? x + 0.25 : x * 0.5"};
class KvFormatHooks : public KvFormats {};
TEST_P(KvFormatHooks, EqualTheOracle) {
  for (DType q_dtype : {DType::bf16, DType::f16}) {
    AttentionSpec spec = spec_of(GetParam(), q_dtype);
    spec.head_dim_qk = 16 * (2 + static_cast<int32_t>(rng_() % 8)), spec.head_dim_vo = 16 * (3 + static_cast<int32_t>(rng_() % 7));
    spec.group_size = 1 + static_cast<int32_t>(rng_() % 4);
    spec.layout.kind = q_dtype == DType::bf16 ? LayoutKind::paged : LayoutKind::ragged;
    spec.hooks = *expr::parse(kVectorHooks[rng_() % kVectorHooks.size()]);
    prove_equal(spec, 2);
  }
}

// Where shared pages are read once for all, keys end with the item and not with the request.
TEST_P(KvFormats, SharedPages) {
  AttentionSpec spec = spec_of(GetParam(), DType::bf16);
  spec.head_dim_qk = spec.head_dim_vo = 64, spec.group_size = 2, spec.mask = Mask::causal;
  const auto device = host_device({.seed = rng_(), .check = true});
  Result<Attention> attention = Attention::prepare(engine(), device, spec);
  ASSERT_TRUE(attention.ok()) << attention.status().to_string();
  BatchShape shape{.num_kv_heads = 1, .qo_lens = {1, 1, 1, 2}, .kv_lens = {700, 690, 655, 701}};
  Batch batch{shape, draw_values(spec, shape, 1.0, rng_)};
  Placement placement{.seed = rng_(), .shared = {{1, 0, 40}, {2, 0, 40}, {3, 0, 40}}};
  share_values(spec, placement.shared, batch);
  const BatchImage image(spec, batch, placement);
  const Outcome outcome = run(device, *attention, image, shape.num_kv_heads);
  EXPECT_EQ(judge(spec, shape, image, outcome, repeat_command()), "");
  EXPECT_FALSE(view_plan(outcome.plan.plan.bytes()).linked.empty()) << "nothing was shared: the test says nothing";
}

INSTANTIATE_TEST_SUITE_P(, KvFormatHooks, ::testing::ValuesIn(kFormats), [](const auto& c) { return std::string(c.param.name); });
INSTANTIATE_TEST_SUITE_P(, KvFormats, ::testing::ValuesIn(kFormats), [](const auto& c) { return std::string(c.param.name); });

// Half the bytes of K and V leave the memory.
TEST(KvFormatBytes, AreReadOnce) {
  std::mt19937_64 rng(seed());
  const FormatCase format{"", {e4m3, KvScale::token}, {i8}};
  AttentionSpec spec = spec_of(format, DType::bf16);
  const auto device = host_device({.seed = rng(), .check = true});
  Result<Attention> attention = Attention::prepare(engine(), device, spec);
  ASSERT_TRUE(attention.ok()) << attention.status().to_string();
  const BatchShape shape{.num_kv_heads = 2, .qo_lens = {1, 1}, .kv_lens = {333, 70}};
  Outcome outcome;
  ASSERT_EQ(prove(device, *attention, shape, rng(), repeat_command(), &outcome), "");
  const auto bytes = [&](std::string_view name) -> uint64_t {
    for (const auto& tensor : outcome.counters.tensors)
      if (tensor.name == name) return tensor.bytes_read;
    return 0;
  };
  EXPECT_EQ(bytes("k"), 2u * (333 + 70) * 128);
  EXPECT_EQ(bytes("v"), 2u * (333 + 70) * 128);
}

}  // namespace
}  // namespace lathe::testing
