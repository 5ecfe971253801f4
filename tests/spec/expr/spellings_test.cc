// Which spellings share a kernel: pairs of hooks whose canonical bytes are equal, and pairs whose differ.
#include <gtest/gtest.h>

#include <array>
#include <set>

#include "examples.h"
#include "lathe/spec/attention_hooks.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/expr/simplify.h"

namespace lathe::expr {
namespace {

struct Pair {
  const char* a;
  const char* b;
};

constexpr std::array kEqual{
    Pair{"mask = kv_pos <= q_pos", "mask = q_pos >= kv_pos"},
    Pair{"mask = kv_pos <= q_pos", "mask = !(kv_pos > q_pos)"},
    Pair{"mask = kv_pos <= q_pos", "mask = !(q_pos < kv_pos)"},
    Pair{"mask = kv_pos <= q_pos", "mask = kv_pos < q_pos + 1"},
    Pair{"mask = kv_pos <= q_pos", "mask = 0 <= q_pos - kv_pos"},
    Pair{"mask = kv_pos <= q_pos", "mask = q_pos - kv_pos > -1"},
    Pair{"mask = kv_pos <= q_pos", "mask = kv - q <= kv_len - qo_len"},
    Pair{"mask = kv_pos <= q_pos", "mask = 2 * kv_pos <= 2 * q_pos"},
    Pair{"mask = kv_pos <= q_pos", "mask = 3 * kv_pos < 3 * q_pos + 2"},
    Pair{"mask = kv_pos <= q_pos", "mask = kv_pos <= q_pos && true"},
    Pair{"mask = kv_pos <= q_pos", "mask = kv_pos <= q_pos && kv >= 0"},
    Pair{"mask = kv_pos <= q_pos", "mask = kv_pos <= q_pos && kv_pos <= q_pos"},
    Pair{"mask = kv_pos <= q_pos", "mask = kv_pos <= q_pos ? true : false"},
    Pair{"mask = kv_pos <= q_pos", "mask = (kv_pos <= q_pos) == true"},
    Pair{"mask = kv_pos <= q_pos", "q_pos := q + kv_len - qo_len; mask = kv_pos <= q_pos"},
    Pair{"mask = kv_pos <= q_pos", "kv_pos := kv; mask = kv_pos <= q_pos"},
    Pair{"param W:i32; mask = q_pos - kv_pos < W", "param W:i32; mask = q_pos < W + kv_pos"},
    Pair{"param W:i32; mask = q_pos - kv_pos < W", "param W:i32; mask = kv_pos > q_pos - W"},
    Pair{"param W:i32; mask = q_pos - kv_pos < W", "param width:i32; mask = q_pos - kv_pos < width"},
    Pair{"param W:i32; mask = q_pos - kv_pos < W", "param unused:f32; param W:i32; mask = q_pos - kv_pos < W"},
    Pair{"param W:i32; mask = q_pos - kv_pos < W", "param W:i32; tensor t:f32[HQ]; mask = !(q_pos - kv_pos >= W)"},
    Pair{"param S,W:i32; mask = kv_pos < S || q_pos - kv_pos < W", "param W,S:i32; mask = q_pos - kv_pos < W || kv_pos < S"},
    Pair{"param S,W:i32; mask = kv_pos < S || q_pos - kv_pos < W", "param W,S:i32; mask = !(q_pos - kv_pos >= W && !(kv_pos < S))"},
    Pair{"param S,W:i32; mask = kv_pos <= q_pos && (kv_pos < S || q_pos - kv_pos < W)",
         "param A,W:i32; mask = (q_pos - kv_pos < W || kv_pos < A) && q_pos >= kv_pos"},
    Pair{"param W:i32; mask = kv <= q && kv < W && q < W", "param W:i32; mask = q < W && (kv < W && q >= kv)"},
    Pair{"param W:i32; mask = abs(q_pos - kv_pos) <= W", "param W:i32; mask = abs(kv_pos - q_pos) <= W"},
    Pair{"param W:i32; mask = abs(q_pos - kv_pos) <= W", "param W:i32; mask = W >= abs(kv_pos - q_pos + 0)"},
    Pair{"param W:i32; mask = abs(q_pos - kv_pos) <= W", "param W:i32; let n = q_pos - kv_pos; mask = abs(-n) <= W"},
    Pair{"const C = 64; mask = kv // C == q // C", "mask = q // 64 == kv // 64"},
    Pair{"mask = kv // 64 == q // 64", "mask = kv >> 6 == q >> 6"},
    Pair{"mask = kv // 64 == q // 64", "mask = kv // 64 - q // 64 == 0"},
    Pair{"mask = kv // 64 == q // 64", "mask = !(kv // (32 * 2) != q // 0x40)"},
    Pair{"mask = kv % 8 == 3", "mask = (kv & 7) == 3"},
    Pair{"mask = kv % 8 == 3", "mask = kv % 8 - 3 == 0"},
    Pair{"mask = kv << 3 <= q", "mask = q >= kv * 8"},
    Pair{"mask = (kv + q) * 2 < kv_len", "mask = 2 * q + kv * 2 < kv_len"},
    Pair{"mask = clamp(q - kv, 0, 9) < 4", "mask = min(9, max(0, q - kv)) < 4 && true || false"},
    Pair{"mask = max(kv, q) < 7", "mask = max(q, max(kv, q)) < 7"},
    Pair{"mask = kv <= q ? h < 2 : false", "mask = h < 2 && kv <= q"},
    Pair{"mask = kv <= q ? true : h < 2", "mask = h < 2 || kv <= q"},
    Pair{"tensor t:u32[TOK,4]; mask = bit(t[tok, clamp(kv>>5,0,3)], kv&31)",
         "tensor bits:u32[TOK,4]; mask = bit(bits[tok, max(min(kv//32,3),0)], kv)"},
    Pair{"tensor t:u32[TOK]; mask = bit(t[tok], kv % 64)", "tensor t:u32[TOK]; mask = bit(t[tok], kv & 31)"},
    Pair{"tensor lo,hi:i32[TOK]; mask = lo[tok]<=kv_pos && kv_pos<hi[tok]",
         "tensor hi,lo:i32[TOK]; mask = kv_pos<hi[tok] && kv_pos>=lo[tok]"},
    Pair{"tensor a:f32[HQ]; logits = score + a[h]", "tensor bias:f32[HQ]; logits = bias[h] + score"},
    Pair{"tensor a:f32[HQ]; logits = score - a[h]", "tensor a:f32[HQ]; logits = score + -a[h]"},
    Pair{"tensor a:f32[HQ]; logits = score + a[h] * f32(kv_pos - q_pos)",
         "tensor a:f32[HQ]; logits = f32(-q_pos + kv_pos) * a[h] + score"},
    Pair{"param cap:f32; logits = cap * tanh(score / cap)", "param c:f32; logits = tanh(score / c) * c"},
    Pair{"logits = score / 4", "logits = score * 0.25"},
    Pair{"logits = score - 2", "logits = -2.0 + score"},
    Pair{"logits = score * (2 * 3.0)", "const k = 6; logits = k * score"},
    Pair{"logits = kv <= q ? score : score * 2", "logits = !(kv <= q) ? score * 2 : score"},
    Pair{"logits = kv == q ? score : 0", "logits = q != kv ? 0 : score"},
    Pair{"logits = powi(score, 2)", "logits = score * score"},
    Pair{"logits = score * -1", "logits = -score"},
    Pair{"logits = clamp(score, -5, 5)", "logits = min(max(score, -5), 5)"},
    Pair{"logits = 1 / score", "logits = rcp(score)"},
    Pair{"let t = score * 2; logits = t + t * t", "logits = let t = 2 * score; t * t + t"},
    Pair{"mask = kv <= q; logits = score * 2", "logits = score * 2; mask = q >= kv"},
    Pair{"logits = abs(score - 1)", "logits = abs(-(score - 1))"},
    Pair{"mask = (kv_pos < 4) == (q_pos < 4)", "mask = (q_pos < 4) == (4 > kv_pos)"},
    Pair{"normalizer = softmax; mask = kv <= q", "mask = kv <= q"},
    Pair{"param u:u32; mask = u + 0u < 9u", "param u:u32; mask = u < 9u"},
    Pair{"param u:u32; mask = u - 0u < 9u", "param u:u32; mask = u << 0 < 9u"},
    Pair{"param u:u32; mask = u * 1u < 9u", "param u:u32; mask = u < 9u"},
    Pair{"param u:u32; mask = u * 0u < 9u", ""},
    Pair{"param u:u32; mask = u + 1u + 2u < 9u", "param u:u32; mask = u + 3u < 9u"},
    Pair{"param u:u32; mask = 2u * u * 3u < 9u", "param u:u32; mask = u * 6u < 9u"},
    Pair{"param u:u32; mask = u + 1u - 2u < 9u", "param u:u32; mask = u + 0xffffffffu < 9u"},
    Pair{"param u:u32; mask = u & 7u & 3u == 1u", "param u:u32; mask = u % 4u == 1u"},
    Pair{"param u:u32; mask = u // 3u // 5u == 1u", "param u:u32; mask = u // 15u == 1u"},
    Pair{"mask = kv & 7 & 3 == 1", "mask = kv & 3 == 1"},
    Pair{"mask = 3 & (kv & 7) == 1", "mask = kv % 8 % 4 == 1"},
    Pair{"mask = (kv & 12) & 7 == 4", "mask = kv & 4 == 4"},
    Pair{"mask = (kv % 16) & (q % 8) == 4", "mask = kv & q & 7 == 4"},
    Pair{"mask = kv // 2 // 2 == 1", "mask = kv // 4 == 1"},
    Pair{"mask = kv >> 1 >> 3 == 1", "mask = kv // 16 == 1"},
    Pair{"mask = kv % 12 % 4 == 1", "mask = kv % 4 == 1"},
    Pair{"mask = true", ""},
    Pair{"mask = kv >= 0 || h < 3", ""},
    Pair{"logits = score", ""},
    Pair{"query = x; key = x; value = x", ""},
    Pair{"weight = w * 1; output = o; lse_transform = lse", ""},
    Pair{"epilogue = --acc", ""},
    Pair{"param W:i32; logits = score; mask = kv < W", "param W:i32; mask = kv < W; output = 1 * o"},
    Pair{"tensor t:i32[TOK] in [0, 5]; mask = t[tok] < kv", "tensor t:i32[TOK]; mask = clamp(t[tok], 0, 5) < kv"},
    Pair{"tensor t:i32[TOK] in [0, 5]; mask = t[tok] < kv", "tensor t:i32[TOK] in [0, 5]; mask = clamp(t[tok], -1, 9) < kv"},
    Pair{"tensor t:i32[TOK] in [0, 5] sorted; mask = t[tok] < kv",
         "const M = 5; tensor t:i32[TOK] sorted in [-0, M]; mask = t[tok] < kv"},
    Pair{"tensor t:i32[TOK] in [3, 3]; mask = t[tok] < kv", "mask = 3 < kv"},
    Pair{"tensor t:u8[HQ] in [0, 255]; mask = t[h] < kv", "tensor t:u8[HQ]; mask = t[h] < kv"},
    Pair{"tensor t:u8[HQ] in [0, 7]; mask = t[h] < kv", "tensor t:u8[HQ]; mask = min(t[h], 7) < kv"},
    Pair{"tensor t:i8[HQ] in [-128, 127]; mask = t[h] < kv", "tensor t:i8[HQ]; mask = t[h] < kv"},
    Pair{"tensor t:i32[TOK] in [-2147483648, 2147483647]; mask = t[tok] < kv", "tensor t:i32[TOK]; mask = t[tok] < kv"},
    Pair{"tensor t:u32[TOK] in [0, 4294967295]; mask = t[tok] < 9u", "tensor t:u32[TOK]; mask = t[tok] < 9u"},
    Pair{"tensor t:f16[HQ] in [-1, 0.5]; logits = score * t[h]", "tensor t:f16[HQ]; logits = score * clamp(t[h], -1, 0.5)"},
};

constexpr std::array kDifferent{
    Pair{"mask = kv_pos <= q_pos", "mask = kv_pos < q_pos"},
    Pair{"mask = kv_pos <= q_pos", "mask = kv_pos >= q_pos"},
    Pair{"mask = kv_pos <= q_pos", "mask = kv_pos <= q_pos + 1"},
    Pair{"mask = kv_pos <= q_pos", "mask = kv <= q"},
    Pair{"mask = kv_pos <= q_pos", "mask = kv_pos == q_pos"},
    Pair{"mask = kv_pos <= q_pos", "mask = kv_pos <= q_pos || kv_pos < 4"},
    Pair{"mask = kv_pos <= q_pos", "param W:i32; mask = kv_pos <= q_pos && q_pos - kv_pos < W"},
    Pair{"mask = kv_pos <= q_pos", "kv_pos := kv * 2; mask = kv_pos <= q_pos"},
    Pair{"mask = kv_pos <= q_pos", "q_pos := q; mask = kv_pos <= q_pos"},
    Pair{"mask = kv_pos <= q_pos", "mask = 2 * kv_pos <= q_pos"},
    Pair{"mask = kv_pos <= q_pos", "mask = kv_pos <= q_pos; normalizer = none"},
    Pair{"mask = kv_pos <= q_pos", "mask = kv_pos <= q_pos; logits = score * 2"},
    Pair{"param W:i32; mask = q_pos - kv_pos < W", "param W:i32; mask = q_pos - kv_pos <= W"},
    Pair{"param W:i32; mask = q_pos - kv_pos < W", "param W:i32; mask = kv_pos - q_pos < W"},
    Pair{"param W:i32; mask = q_pos - kv_pos < W", "param W:i32 in [0, 100]; mask = q_pos - kv_pos < W"},
    Pair{"param W:i32; mask = q_pos - kv_pos < W", "const W = 4096; mask = q_pos - kv_pos < W"},
    Pair{"const W = 4096; mask = q_pos - kv_pos < W", "const W = 4095; mask = q_pos - kv_pos < W"},
    Pair{"param W:i32; mask = q_pos - kv_pos < W", "tensor W:i32[HQ]; mask = q_pos - kv_pos < W[h]"},
    Pair{"param S,W:i32; mask = kv_pos < S || q_pos - kv_pos < W", "param S:i32; mask = kv_pos < S || q_pos - kv_pos < S"},
    Pair{"param S,W:i32; mask = kv_pos < S || q_pos - kv_pos < W", "param S,W:i32; mask = kv_pos < S && q_pos - kv_pos < W"},
    Pair{"param W:i32; mask = abs(q_pos - kv_pos) <= W", "param W:i32; mask = q_pos - kv_pos <= W"},
    Pair{"mask = kv // 64 == q // 64", "mask = kv // 32 == q // 32"},
    Pair{"mask = kv // 64 == q // 64", "mask = kv % 64 == q % 64"},
    Pair{"mask = kv // 64 == q // 64", "mask = kv // 64 <= q // 64"},
    Pair{"mask = kv // 64 == q // 64", "mask = kv // 64 != q // 64"},
    Pair{"mask = kv % 8 == 3", "mask = kv % 8 == 4"},
    Pair{"mask = kv % 8 == 3", "mask = kv % 7 == 3"},
    Pair{"mask = kv & 5 == 1", "mask = kv | 5 == 1"},
    Pair{"mask = kv ^ q < 8", "mask = kv & q < 8"},
    Pair{"mask = max(kv, q) < 7", "mask = min(kv, q) < 7"},
    Pair{"mask = kv <= q ? h < 2 : h < 3", "mask = kv <= q ? h < 3 : h < 2"},
    Pair{"tensor t:u32[TOK]; mask = bit(t[tok], kv)", "tensor t:u32[TOK]; mask = bit(t[tok], q)"},
    Pair{"tensor t:u32[TOK]; mask = bit(t[tok], kv)", "tensor t:u32[TOK]; mask = bit(t[tok], kv & 15)"},
    Pair{"tensor t:u32[TOK]; mask = bit(t[tok], kv)", "tensor t:u32[TOK] summary; mask = bit(t[tok], kv)"},
    Pair{"tensor t:i32[TOK]; mask = t[tok] <= kv", "tensor t:i32[TOK] sorted; mask = t[tok] <= kv"},
    Pair{"tensor t:i32[TOK]; mask = t[tok] <= kv", "tensor t:i32[QLEN]; mask = t[q] <= kv"},
    Pair{"tensor t:i32[TOK]; mask = t[tok] <= kv", "tensor t:i8[TOK]; mask = t[tok] <= kv"},
    Pair{"tensor lo,hi:i32[TOK]; mask = lo[tok]<=kv_pos && kv_pos<hi[tok]",
         "tensor lo:i32[TOK]; mask = lo[tok]<=kv_pos && kv_pos<lo[tok]"},
    Pair{"tensor a:f32[HQ]; logits = score + a[h]", "tensor a:f32[HQ]; logits = score * a[h]"},
    Pair{"tensor a:f32[HQ]; logits = score + a[h]", "tensor a:f16[HQ]; logits = score + a[h]"},
    Pair{"tensor a:f32[HQ]; logits = score + a[h]", "tensor a:f32[HKV]; logits = score + a[hk]"},
    Pair{"tensor a:f32[HQ]; logits = score - a[h]", "tensor a:f32[HQ]; logits = a[h] - score"},
    Pair{"tensor a:f32[HQ]; logits = score + a[h]", "tensor a:f32[HQ]; logits = dot + a[h]"},
    Pair{"tensor a:f32[HQ]; logits = score + a[h]", "tensor a:f32[HQ]; logits = score; sink = a[h]"},
    Pair{"param s,t:f32; logits = (score + s) + t", "param s,t:f32; logits = score + (s + t)"},
    Pair{"param s,t:f32; logits = score * s + t", "param a:f32; logits = score * a + a"},
    Pair{"param s,t:f32; logits = s / t * score", "param s,t:f32; logits = s * score / t"},
    Pair{"logits = score / 3", "logits = score * 0.33333334"},
    Pair{"logits = score * 1e-4", "logits = score * 1.00001e-4"},
    Pair{"logits = tanh(score)", "logits = sigmoid(score)"},
    Pair{"logits = exp(score)", "logits = exp2(score)"},
    Pair{"logits = log(max(score, 1))", "logits = log2(max(score, 1))"},
    Pair{"logits = powi(score, 3)", "logits = powi(score, 4)"},
    Pair{"logits = kv <= q ? score : 0", "logits = kv <= q ? score : -inf"},
    Pair{"logits = kv <= q ? score : 0", "logits = kv <= q ? 0 : score"},
    Pair{"logits = score == inf ? 0 : score", "logits = score"},  // at run time it may be infinite
    Pair{"logits = max(score, 0)", "logits = abs(score)"},
    Pair{"logits = score < 0 ? 0 : score", "logits = score <= 0 ? 0 : score"},
    Pair{"weight = w * 2", "output = o * 2"},
    Pair{"key = x * 2", "value = x * 2"},
    Pair{"key = x * 2", "key = rot(x) * 2"},
    Pair{"output = o * max(lse, 1)", "output = o / max(lse, 1)"},
    Pair{"param u:u32; mask = u + 1u < 9u", "param u:u32; mask = u + 2u < 9u"},
    Pair{"param u:u32; mask = u - 1u < 9u", "param u:u32; mask = u + 1u < 9u"},
    Pair{"mask = kv // 2 // 2 == 1", "mask = kv // 2 == 1"},
    Pair{"mask = kv % 12 % 8 == 1", "mask = kv % 8 == 1"},
    Pair{"normalizer = none; logits = score", "normalizer = none; logits = score * 2"},
    Pair{"logits = dot", ""},
    Pair{"tensor t:i32[TOK] in [0, 5]; mask = t[tok] < kv", "tensor t:i32[TOK]; mask = t[tok] < kv"},
    Pair{"tensor t:i32[TOK] in [0, 5]; mask = t[tok] < kv", "tensor t:i32[TOK] in [0, 6]; mask = t[tok] < kv"},
    Pair{"tensor t:i32[TOK] in [0, 5]; mask = t[tok] < kv", "tensor t:i32[TOK] in [1, 5]; mask = t[tok] < kv"},
    Pair{"tensor t:u8[HQ] in [0, 254]; mask = t[h] < kv", "tensor t:u8[HQ]; mask = t[h] < kv"},
    Pair{"tensor t:f32[HQ] in [-1, 1]; logits = score * t[h]", "tensor t:f32[HQ]; logits = score * t[h]"},
};

Bytes bytes_of(const char* text) {
  Result<Hooks> hooks = parse(text);
  EXPECT_TRUE(hooks.ok()) << text << "\n" << hooks.status().to_string();
  return hooks.ok() ? canonical_bytes(*hooks) : Bytes{};
}

std::string canonical_text(const char* text) {
  Result<Hooks> hooks = parse(text);
  return hooks.ok() ? to_text(canonicalise(*hooks)) : "";
}

TEST(Spellings, EqualOnesShareAKernel) {
  static_assert(kEqual.size() >= 50);
  for (const Pair& pair : kEqual) {
    EXPECT_TRUE(bytes_of(pair.a) == bytes_of(pair.b)) << pair.a << "\nbecomes\n"
                                                      << canonical_text(pair.a) << pair.b << "\nbecomes\n"
                                                      << canonical_text(pair.b);
  }
}

TEST(Spellings, DifferentOnesDoNot) {
  static_assert(kDifferent.size() >= 50);
  for (const Pair& pair : kDifferent) EXPECT_FALSE(bytes_of(pair.a) == bytes_of(pair.b)) << pair.a << "\n" << pair.b;
}

TEST(Spellings, ExamplesDifferFromEachOther) {
  std::set<Bytes> seen;
  for (const auto& example : testing::kExamples) EXPECT_TRUE(seen.insert(bytes_of(example.text)).second) << example.name;
}

TEST(Spellings, NoHooksAreOneKernel) {
  EXPECT_TRUE(bytes_of("") == bytes_of("param W:i32; tensor s:f32[HQ]; const C = 3; let n = kv;"));
  for (const char* text : {"mask = true", "logits = score; output = o", "param W:i32;"})
    EXPECT_TRUE(AttentionHooks(*parse(text)).key_bytes().empty()) << text;
  EXPECT_FALSE(AttentionHooks(*parse("normalizer = none; logits = score")).key_bytes().empty());
}

}  // namespace
}  // namespace lathe::expr
