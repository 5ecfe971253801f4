// What f32 does to what is proven of hooks: rounding, overflow, underflow, NaN.
#include <gtest/gtest.h>

#include <cmath>

#include "examples.h"
#include "lathe/spec/expr/check.h"
#include "lathe/spec/expr/device_source.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/expr/simplify.h"

namespace lathe::expr {
namespace {

struct Case {
  const char* text;
  const char* message;
};

void expect_refused(const Case& c) {
  const Result<Hooks> hooks = parse(c.text);
  ASSERT_FALSE(hooks.ok()) << c.text;
  EXPECT_NE(hooks.status().to_string().find(c.message), std::string::npos) << c.text << "\n" << hooks.status().to_string();
}

/// `message` empty: no warning.
void expect_warned(const Case& c) {
  std::vector<Finding> warnings;
  const Result<Hooks> hooks = parse(c.text, &warnings);
  ASSERT_TRUE(hooks.ok()) << c.text << "\n" << hooks.status().to_string();
  std::string all;
  for (const Finding& warning : warnings) all += warning.text() + "\n";
  if (*c.message == '\0') {
    EXPECT_EQ(all, "") << c.text;
  }
  EXPECT_NE(all.find(c.message), std::string::npos) << c.text << "\n" << all;
}

bool reads_as_it_is(const char* text) {
  const Hooks hooks = canonicalise(*parse(text));
  return device_source(hooks, Hook::logits).body().find("dev::inside") == std::string::npos;
}

// sigmoid and tanh round up to 1, so the last index was one too large and was read as proven to be inside.
TEST(FloatIndices, RoundUpToTheirEnd) {
  for (const char* text : {"tensor t: f32[32]; logits = score + t[i32(32.0 * sigmoid(min(score, 20.0)))]",
                           "tensor t: f32[10]; logits = score + t[i32(10.0 * tanh(clamp(score, 0, 9.0)))]",
                           "tensor t: f32[3]; logits = score + t[i32(f32(min(kv, 16777215)) / 5592405.0)]",
                           "tensor t: f32[2]; logits = score + t[i32(exp(min(abs(score), 0.6931472)))]",
                           "tensor t: f32[2]; logits = score + t[i32(min(abs(tanh(score)), 10.0))]"}) {
    const Result<Hooks> hooks = parse(text);
    EXPECT_TRUE(!hooks.ok() || !reads_as_it_is(text)) << text;
  }
  for (const char* text : {"tensor t: f32[33]; logits = score + t[i32(32.0 * sigmoid(min(score, 20.0)))]",
                           "tensor t: f32[11]; logits = score + t[i32(10.0 * tanh(clamp(score, 0, 9.0)))]",
                           "tensor t: f32[11]; logits = score + t[i32(clamp(score * score, 0, 10))]"}) {
    ASSERT_TRUE(parse(text).ok()) << text << parse(text).status().to_string();
    EXPECT_TRUE(reads_as_it_is(text)) << text;
  }
}

// An index is not proven by what is promised of finite floats: these are inside of their tensors only then.
TEST(FloatIndices, HoldOfInfinitiesAndNaNToo) {
  for (const char* text : {"tensor t: f32[100]; logits = score + t[i32(log(1.0 / max(score * score, 1.0))) + 89]",
                           "tensor t: f32[2]; logits = score + t[i32(min(abs(tanh(score - score * score)), 9.0))]"}) {
    ASSERT_TRUE(!parse(text).ok() || !reads_as_it_is(text)) << text;
  }
}

TEST(FloatProofs, SumsRoundBeyondTheirEnd) {
  std::string sum = "p";
  for (int i = 1; i < 18; ++i) sum += "+p";
  const std::string text = "param p: f32 in [0, 0.055555552]; logits = score + acos(" + sum + ")";
  expect_refused({text.c_str(), "allowed: [-1, 1]"});
}

TEST(FloatProofs, ProductsUnderflow) {
  expect_refused({"param a: f32 in [1e-30, 1]; logits = score * rsqrt(a * a)", "which lies in [0, 1]; allowed: what is proven"});
  expect_refused({"param a: f32 in [1e-30, 1]; logits = score * log(powi(a, 2))", "allowed: what is proven to be positive"});
  expect_refused({"logits = score + log(exp(clamp(score, -200, 0)))", "allowed: what is proven to be positive"});
  expect_refused({"logits = score + log(exp(-200))", "allowed: what is proven to be positive"});
  expect_refused({"param a: f32 in [-40, 1e30]; logits = score + log(1 / exp(a))", "allowed: what is proven to be positive"});
}

TEST(FloatProofs, QuotientsByZeroAreInfinite) {
  expect_refused({"logits = score + (inf / (score + 1) - inf / (score + 1))", "may be inf - inf"});
  expect_refused({"logits = score + 1 / f32(kv)", "logits may be infinite"});
  expect_refused({"logits = score * tanh(f32(kv) / f32(q))", "may be 0 / 0"});
  expect_warned({"logits = score * tanh(f32(kv) / f32(q + 1))", ""});
  // The first key's logit was infinite: run-time floats were taken to stay finite, whatever divides them.
  expect_refused({"logits = score / f32(kv)", "logits may be infinite"});
  expect_refused({"param T: f32 in [0, 2]; logits = score / T", "logits may be infinite"});
  expect_refused({"query = x / f32(pos)", "query may be infinite"});
  expect_warned({"logits = score / f32(kv + 1)", ""});
  expect_warned({"param T: f32 in [0.1, 2]; logits = score / T", ""});
  expect_warned({"param cap: f32; logits = cap * tanh(score / cap)", ""});
}

TEST(FloatProofs, OverflowIsInfinite) {
  expect_refused({"logits = score + (exp(1000) - exp(1000))", "may be inf - inf"});
  expect_refused({"logits = score + (1e38 * 10 - 1e38 * 10)", "may be inf - inf"});
  expect_refused({"logits = score + (1e38 * 10 - 2e38 * 10)", "may be inf - inf"});
  expect_refused({"param a: f32 in [0, 3e38]; logits = score * tanh((a + a) * (a + a) * 0.0)", "may be 0 * inf"});
  expect_refused({"weight = w * exp(1000)", "may be 0 * inf"});
  expect_refused({"query = x + 1e38 * 10", "query may be infinite"});
  expect_warned({"logits = score + (exp(score) - exp(score + 1))", "may be inf - inf, which is no number (bound what exp"});
  expect_warned({"logits = score + tanh(exp(score) * score)", "may be 0 * inf"});
  expect_warned({"logits = score + sin(exp(score))", "may be sin(inf)"});
  expect_warned({"logits = score + exp(min(score, 80))", ""});
  expect_warned({"tensor a, e: f32[HQ]; logits = score * score + a[h] * e[h] - score * 3", ""});
}

// The log-sum-exp of a row without a key is -inf, and 0 * -inf is NaN.
TEST(FloatProofs, LseIsInfiniteWithoutAKey) {
  expect_refused({"mask = q_pos < 3 && kv_pos < 2; output = o * lse", "'o * lse' may be 0 * inf"});
  expect_refused({"output = o * sin(lse)", "sin of 'lse'"});
  expect_warned({"output = o * max(lse, -1e30)", ""});
  expect_warned({"output = o * sigmoid(lse)", ""});
  expect_warned({"lse_transform = lse * 0.5", ""});
}

TEST(FloatProofs, OnlyMinusInfinityIsALogit) {
  expect_refused({"logits = kv == 1 ? inf : score", "logits may be infinite; allowed: finite numbers and -inf"});
  expect_refused({"logits = score - (kv == 1 ? -inf : 0)", "logits may be infinite"});
  expect_warned({"logits = kv == 1 ? -inf : score", ""});
  expect_warned({"logits = exp(score)", "logits may be infinite"});
  expect_refused({"normalizer = none; logits = kv <= q ? score : -inf",
                  "allowed: finite numbers, as normalizer = none makes weights of them"});
  expect_warned({"normalizer = none; logits = kv <= q ? score : 0", ""});
}

// Softmax works with powers of 2: a sink times log2(e) became inf.
TEST(FloatProofs, SinksStayFiniteAsPowersOf2) {
  expect_refused({"sink = 3e38", "sink lies in [3e+38, 3e+38]; allowed: [-2.35"});
  expect_refused({"param s: f32 in [0, 3e38]; sink = s", "sink lies in"});
  expect_warned({"sink = 2e38", ""});
}

TEST(FloatProofs, ExamplesKeepTheirWarnings) {
  for (const auto& example : testing::kExamples) {
    std::vector<Finding> warnings;
    ASSERT_TRUE(parse(example.text, &warnings).ok()) << example.name;
    for (const Finding& warning : warnings) {
      EXPECT_EQ(warning.message.find("no number"), std::string::npos) << example.name << ": " << warning.message;
      EXPECT_EQ(warning.message.find("infinite"), std::string::npos) << example.name << ": " << warning.message;
    }
  }
}

TEST(Check, LeftShiftsOverflowAsProductsDo) {
  expect_refused({"mask = kv * 1048576 < 3", "the i32 'kv * 1048576' may overflow"});
  expect_refused({"mask = kv << 20 < 3", "the i32 'kv << 20' may overflow"});
  expect_refused({"mask = 1 << (kv & 31) < 3", "may overflow"});
  expect_refused({"mask = 1 << kv < 3", "may overflow"});
  expect_warned({"param W: i32; mask = W << 4 < kv", "the i32 'W << 4' may overflow; it wraps"});
  expect_warned({"mask = kv << 6 < 3 && 1 << (kv & 15) < 3 && kv << 32 < 3", ""});
  expect_warned({"param u: u32; mask = u << 20 < 3u && 1u << (kv & 31) < 3u", ""});
}

TEST(Check, LogitsThatComeToTheSameForEveryScore) {
  for (const char* text : {"logits = true ? 1.0 : score", "logits = score - score + 1", "logits = kv < 3 ? score * 0 : 2.0",
                           "logits = kv >= 0 ? 1.0 : score", "logits = clamp(score, 3, 3)"}) {
    expect_refused({text, "logits drops what it transforms: it is the same for every dot, score"});
  }
  expect_refused({"logits = score * 0 + inf", "logits may be infinite"});
  expect_refused({"output = o * 0 + 1", "output drops what it transforms"});
  expect_warned({"logits = kv < 3 ? score : 0", ""});
}

// rot(x) is of the input, whatever x is by then: this was x * 2 + rot of x.
TEST(Check, ALetMustNotHideTheXOfRot) {
  expect_refused({"query = let x = x * 2; x + rot(x)", "rot(x) is of the input x, which a let of that name hides here"});
  expect_refused({"let x = f32(d); query = rot(x)", "rot(x) is of the input x"});
  expect_warned({"query = let x = x + rot(x); x * 2", ""});
}

TEST(Check, ConstantsAreNumbers) {
  Hooks hooks = *parse("logits = score");
  const std::array args{hooks.root(Hook::logits), hooks.graph.add(f32_node(NAN))};
  hooks.root(Hook::logits) = hooks.graph.add(op_node(Op::add, Type::f32, args));
  const std::vector<Finding> found = check(hooks);
  ASSERT_FALSE(found.empty());
  EXPECT_NE(found[0].message.find("NaN in logits; allowed: numbers"), std::string::npos) << found[0].message;
}

}  // namespace
}  // namespace lathe::expr
