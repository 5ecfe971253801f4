// Variants of attention, as hooks, on the host executor with every check on, against the fp64 oracle.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "examples.h"
#include "lathe/proof/harness.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

using expr::testing::Example;
using expr::testing::kExamples;

/// Vectors turned by factors that fp32 and double hold alike, so that they are rounded alike.
constexpr std::array kExact{
    Example{"turned, neox", "query = x * 0.5 + rot(x) * 2; key = x - rot(x) * 0.25"},
    Example{"turned, interleaved", "rotary = interleaved; query = x * 0.5 - rot(x); key = rot(x); mask = kv_pos <= q_pos"},
    Example{"turned, part of the vector", "rotary = neox(32); query = rot(x) * 2 + (d < 8 ? x : x * 0.5); value = x + rot(x)"},
};
const Example& example_at(size_t i) {
  return i < kExamples.size() ? kExamples[i] : kExact[i - kExamples.size()];
}

/// Those that need what this version does not serve.
bool is_served(const AttentionSpec& spec) {
  return validate(spec).ok();
}

/// MagicPIG's weight is 1 - (1 - a)^L - L a (1 - a)^(L - 1), about 0.01 as a difference of numbers near 1: fp32 keeps three digits
/// of its logarithm, whoever computes it. Angles of RoPE are products of fp32, off by 2^-24 of hundreds: now and then an element of
/// q or k is then rounded the other way. Everything else is held to the bounds of plain attention, kExact's turns of vectors among
/// them.
Bounds bounds_for(const AttentionSpec& spec, const Example& example) {
  Bounds bounds = bounds_of(spec);
  const std::string name = example.name;
  if (name == "MagicPIG" || name.starts_with("RoPE")) bounds = {2 * bounds.tensor, 4 * bounds.row, 2e-2};
  return bounds;
}

/// A small spec around the hooks of `example`; everything else is drawn.
AttentionSpec spec_of(const Example& example, std::mt19937_64& rng) {
  AttentionSpec spec;
  spec.q_dtype = spec.o_dtype = spec.kfmt = spec.vfmt = rng() % 2 == 0 ? DType::bf16 : DType::f16;
  spec.head_dim_qk = spec.head_dim_vo = 64;
  spec.group_size = std::array{1, 2, 4}[rng() % 3];
  spec.gqa_pack = rng() % 3 == 0 ? GqaPack::off : GqaPack::automatic;
  if (rng() % 3 == 0) {
    spec.layout.kind = LayoutKind::ragged;
  } else {
    spec.layout.page_size = std::array{1, 7, 16, 64}[rng() % 4];
    spec.layout.index = rng() % 2 == 0 ? PageIndex::csr : PageIndex::table;
  }
  spec.hooks = *expr::parse(example.text);
  if (spec.hooks.normalizes()) spec.lse = rng() % 2 == 0 ? LseOut::ln : LseOut::log2;
  if (rng() % 4 == 0) spec.determinism = Determinism::batch_invariant;
  return spec;
}

class Variants : public ::testing::TestWithParam<size_t> {};

// Prefill, decodes and a split, in one batch; another one of other lengths.
TEST_P(Variants, EqualTheOracle) {
  const Example& example = example_at(GetParam());
  std::mt19937_64 rng(mix(seed(), GetParam()));
  const AttentionSpec spec = spec_of(example, rng);
  if (!is_served(spec)) {
    EXPECT_THAT(validate(spec).to_string(), ::testing::HasSubstr("not served")) << example.name;
    return;
  }
  auto device = host_device({.seed = rng(), .check = true});
  Result<Attention> attention = Attention::prepare(engine(), device, spec);
  ASSERT_TRUE(attention.ok()) << example.name << ": " << attention.status().to_string();
  for (int i = 0; i < 2; ++i) {
    BatchShape shape;
    shape.num_kv_heads = 1 + static_cast<int32_t>(rng() % 2);
    const auto length = [&](int32_t most) { return 1 + static_cast<int32_t>(rng() % static_cast<uint32_t>(most)); };
    const int32_t chunk = length(90);
    shape.qo_lens = {1, chunk, 1, 0, length(5)};
    shape.kv_lens = {300 + length(200), chunk + length(200), length(60), 40, 5 + length(120)};
    const Bounds bounds = bounds_for(spec, example);
    EXPECT_EQ(prove(device, *attention, shape, rng(), repeat_command(), nullptr, &bounds), "") << example.name << "\n"
                                                                                               << spec.hooks.text();
  }
}

INSTANTIATE_TEST_SUITE_P(All, Variants, ::testing::Range<size_t>(0, kExamples.size() + kExact.size()), [](const auto& param) {
  std::string name;
  for (char c : std::string(example_at(param.param).name)) name += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return name;
});

}  // namespace
}  // namespace lathe::testing
