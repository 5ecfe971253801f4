// Tensors with declared bounds whose elements lie far outside of them, on the host executor with every check on.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "lathe/oracle/attention.h"
#include "lathe/oracle/float16.h"
#include "lathe/proof/harness.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

using expr::Elem;
using expr::Value;

// What a tensor of the hooks below may hold.
struct Bound {
  const char* tensor;
  Elem elem;
  double lo, hi;
};
constexpr Bound kBounds[] = {{"t", Elem::i32, 0, 5},     {"bs", Elem::f32, -2, 2}, {"st", Elem::i32, 0, 90},
                             {"f", Elem::f16, 0.5, 1.5}, {"u", Elem::u8, 1, 2},    {"words", Elem::u32, 3, 0x7fff0000}};
// Of the kernel, and of the oracle, which knows of no bounds.
constexpr const char* kBounded =
    "tensor t: i32[TOK] in [0, 5], bs: f32[HQ, 6] in [-2, 2], st: i32[TOK] in [0, 90] sorted, f: f16[SLOT, HKV] in [0.5, 1.5],\n"
    "  u: u8[HQ] in [1, 2], words: u32[QLEN] in [3, 0x7fff0000];\n";
constexpr const char* kOpen =
    "tensor t: i32[TOK], bs: f32[HQ, 6], st: i32[TOK] sorted, f: f16[SLOT, HKV], u: u8[HQ], words: u32[QLEN];\n";
constexpr const char* kHooks =
    "mask = st[tok] <= kv_pos && kv_pos <= q_pos && !(kv_pos > 100 && bit(words[q], kv & 31));\n"
    "logits = score * f[slot, hk] + bs[h, t[tok]] * f32(u[h])";

size_t bytes_of(Elem elem) {
  return elem == Elem::u8 ? 1 : elem == Elem::f16 ? 2 : 4;
}

// What a caller who broke every promise would send.
uint32_t poison(Elem elem, std::mt19937_64& rng) {
  const auto float_bits = std::array{std::numeric_limits<float>::quiet_NaN(), HUGE_VALF, -HUGE_VALF, 1e30f, -0.0f}[rng() % 5];
  switch (elem) {
    case Elem::f32:
      return std::bit_cast<uint32_t>(float_bits);
    case Elem::f16:
      return std::array<uint32_t, 4>{0x7e00, 0x7c00, 0xfc00, 0xfbff}[rng() % 4];  // NaN, inf, -inf, -65504
    case Elem::u8:
      return std::array<uint32_t, 3>{0, 255, 128}[rng() % 3];
    default:
      return std::array<uint32_t, 4>{0x80000000u, 0x7fffffffu, 0xffffffffu, 0}[rng() % 4];
  }
}

// The element as it must be read, by its own code: nothing of csrc/spec is asked.
Value clamped(uint32_t bits, const Bound& bound) {
  if (bound.elem == Elem::f32 || bound.elem == Elem::f16) {
    const double x = bound.elem == Elem::f32 ? static_cast<double>(std::bit_cast<float>(bits))
                                             : oracle::decode(DType::f16, static_cast<uint16_t>(bits));
    return Value::of(!(x >= bound.lo) ? bound.lo : x > bound.hi ? bound.hi : x);
  }
  const int64_t x = bound.elem == Elem::i32 ? int64_t{static_cast<int32_t>(bits)} : int64_t{bits};
  const int64_t lo = static_cast<int64_t>(bound.lo), hi = static_cast<int64_t>(bound.hi);
  return Value::of(static_cast<int32_t>(x < lo ? lo : x > hi ? hi : x));
}

// Poisons some elements of a tensor in memory (all but their order, where it is sorted), and gives those that the oracle sees.
std::vector<Value> spoil(const Bound& bound, const Tensor& t, Bytes& memory, std::mt19937_64& rng) {
  const size_t size = bytes_of(bound.elem);
  const int64_t inner = t.shape[static_cast<size_t>(t.rank - 1)], outer = t.rank == 1 ? 1 : t.shape[0];
  std::vector<Value> out;
  for (int64_t i = 0; i < outer; ++i) {
    for (int64_t j = 0; j < inner; ++j) {
      const int64_t at = t.rank == 1 ? j * t.stride[0] : i * t.stride[0] + j * t.stride[1];
      std::byte* const place = memory.data() + static_cast<size_t>(at) * size;
      uint32_t bits = 0;
      std::memcpy(&bits, place, size);
      const bool is_sorted = std::string_view(bound.tensor) == "st";
      if (is_sorted ? j < 3 || j >= inner - 3 : rng() % 3 == 0)
        bits = is_sorted ? (j < 3 ? 0x80000000u : 0x7fffffffu) : poison(bound.elem, rng);
      std::memcpy(place, &bits, size);
      out.push_back(clamped(bits, bound));
    }
  }
  return out;
}

class HookBounds : public ::testing::TestWithParam<LayoutKind> {};

TEST_P(HookBounds, HoldWhateverTheMemoryHolds) {
  std::mt19937_64 rng(seed());
  AttentionSpec spec;
  spec.group_size = 2;
  spec.head_dim_qk = spec.head_dim_vo = 64;
  spec.lse = LseOut::ln;
  spec.layout.kind = GetParam();
  if (GetParam() == LayoutKind::paged) spec.layout.page_size = 5;
  spec.hooks = *expr::parse(std::string(kBounded) + kHooks);
  AttentionSpec open = spec;
  open.hooks = *expr::parse(std::string(kOpen) + kHooks);

  const BatchShape shape{.num_kv_heads = 2, .qo_lens = {1, 40, 3}, .kv_lens = {300, 130, 60}};
  BatchImage image(spec, {shape, draw_values(spec, shape, 2.0, rng)}, {.seed = rng(), .know_all = rng() % 2 == 0});
  const std::vector<HookTensor> tensors = image.hook_args();
  oracle::AttentionInput input = image.oracle_input();
  input.spec = open;
  ASSERT_EQ(tensors.size(), std::size(kBounds));
  for (size_t i = 0; i < tensors.size(); ++i) {
    ASSERT_EQ(tensors[i].name, kBounds[i].tensor);
    input.hooks.tensors[i].elements = spoil(kBounds[i], tensors[i].tensor, image.hook_tensors[i], rng);
  }
  const auto device = host_device({.seed = rng(), .check = true});
  Result<Attention> attention = Attention::prepare(engine(), device, spec);
  ASSERT_TRUE(attention.ok()) << attention.status().to_string();
  const Outcome outcome = run(device, *attention, image, shape.num_kv_heads);
  for (const std::string& problem : outcome.problems) ADD_FAILURE() << problem;
  const Accuracy accuracy = measure(spec, oracle::attention(input), outcome.o, outcome.lse, shape);
  const Bounds bounds = bounds_of(spec);
  EXPECT_LE(accuracy.tensor, bounds.tensor) << accuracy.worst << repeat_command();
  EXPECT_LE(accuracy.worst_row, bounds.row) << accuracy.worst << repeat_command();
  EXPECT_LE(accuracy.worst_lse, bounds.lse) << accuracy.worst << repeat_command();
}

INSTANTIATE_TEST_SUITE_P(, HookBounds, ::testing::Values(LayoutKind::ragged, LayoutKind::paged),
                         [](const auto& layout) { return layout.param == LayoutKind::paged ? "Paged" : "Ragged"; });

}  // namespace
}  // namespace lathe::testing
