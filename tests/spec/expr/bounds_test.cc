// Tensors whose elements are declared to lie within [least, greatest].
#include "lathe/spec/expr/bounds.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "lathe/spec/expr/interpret.h"
#include "lathe/spec/expr/json.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/expr/range.h"
#include "lathe/spec/expr/simplify.h"

namespace lathe::expr {
namespace {

constexpr const char* kIndexed = "tensor t: i32[TOK] in [0, 5], bs: f32[HQ, 6]; logits = score + bs[h, t[tok]]";

TEST(Bounds, AreReadBackAsTheyAreWritten) {
  const std::pair<const char*, const char*> declarations[] = {
      {"tensor t: i32[TOK] in [0, 5]; mask = t[tok] < kv", "tensor t: i32[TOK] in [0, 5];\n"},
      {"tensor t: i32[TOK] summary in [-7, 5] sorted; mask = t[tok] < kv", "tensor t: i32[TOK] in [-7, 5] summary sorted;\n"},
      {"tensor t: i8[TOK] sorted in [-128, 127]; mask = t[tok] < kv", "tensor t: i8[TOK] in [-128, 127] sorted;\n"},
      {"const M = 9; tensor t: u32[TOK] in [1, M]; mask = t[tok] < 3u", "tensor t: u32[TOK] in [1, 9];\n"},
      {"tensor t: u32[TOK] in [0, 4294967295]; mask = t[tok] < 3u", "tensor t: u32[TOK] in [0, 4294967295];\n"},
      {"tensor t: f16[HQ] in [-0.1, 16777217]; sink = t[h]", "tensor t: f16[HQ] in [-0.1, 16777216.0];\n"},
      {"tensor t, u: i32[TOK] in [0, 5], c: u8[HQ] in [1, 2]; mask = t[tok] + u[tok] + c[h] < kv",
       "tensor u: i32[TOK] in [0, 5];\n"},
      {kIndexed, "logits = score + bs[h, t[tok]];\n"},
      // A clamp that the text itself has stays there.
      {"tensor t: i32[TOK] in [0, 5]; mask = clamp(t[tok], 0, 5) < kv", "mask = min(max(t[tok], 0), 5) < kv;\n"},
      {"tensor t: i32[TOK] in [0, 5]; mask = min(max(kv, 0), 5) < t[tok]", "mask = min(max(kv, 0), 5) < t[tok];\n"},
  };
  for (const auto& [text, part] : declarations) {
    const Result<Hooks> hooks = parse(text);
    ASSERT_TRUE(hooks.ok()) << text << "\n" << hooks.status().to_string();
    const std::string printed = to_text(*hooks), json = to_json(*hooks);
    EXPECT_NE(printed.find(part), std::string::npos) << printed;
    for (const Result<Hooks>& again : {parse(printed), hooks_from_json(json)}) {
      ASSERT_TRUE(again.ok()) << printed << json << again.status().to_string();
      EXPECT_TRUE(*again == *hooks) << printed << json;
      EXPECT_TRUE(canonical_bytes(*again) == canonical_bytes(*hooks)) << printed << json;
    }
    EXPECT_TRUE(canonical_bytes(*parse(to_text(canonicalise(*hooks)))) == canonical_bytes(*hooks)) << text;
  }
}

/// Elements within elements within elements, and each of them many times: the texts need lets.
TEST(Bounds, DeepAndSharedElementsAreReadBack) {
  std::string deep = "kv % 9", sum = "kv";
  for (int i = 0; i < 7; ++i) deep = "t[abs(abs(abs(abs(abs(-" + deep + "))))) % 9]";
  for (int i = 0; i < 6; ++i) sum = "(t[clamp(" + sum + ", 0, 8)] + " + sum + " % 7)";
  for (const std::string& expression : {deep, sum}) {
    const Result<Hooks> hooks = parse("tensor t: i32[9] in [-3, 8]; mask = " + expression + " < 4");
    ASSERT_TRUE(hooks.ok()) << hooks.status().to_string();
    const std::string printed = to_text(*hooks);
    EXPECT_NE(printed.find("let "), std::string::npos) << printed;
    const Result<Hooks> again = parse(printed);
    ASSERT_TRUE(again.ok()) << printed << again.status().to_string();
    EXPECT_TRUE(*again == *hooks) << printed << to_text(*again);
  }
}

TEST(Bounds, AreARangeInJson) {
  EXPECT_EQ(to_json(*parse(kIndexed)),
            R"({"tensors":{"t":{"elem":"i32","axes":["TOK"],"range":[0,5]},"bs":{"elem":"f32","axes":["HQ",6]}},)"
            R"("logits":"score + bs[h, t[tok]]"})");
}

struct Refusal {
  const char* text;
  const char* message;
};

void expect_refused(const Result<Hooks>& hooks, const Refusal& c) {
  ASSERT_FALSE(hooks.ok()) << c.text;
  const std::string found = hooks.status().to_string();
  EXPECT_NE(found.find(c.message), std::string::npos) << c.text << "\n" << found;
  EXPECT_EQ(found.find('\n'), std::string::npos) << "one problem is one problem\n" << c.text << "\n" << found;
}

TEST(Bounds, RefusedInText) {
  const Refusal cases[] = {
      {"tensor t: i32[TOK] in [5, 0]; mask = t[tok] < kv",
       "column 23: the range is empty; allowed: [least, greatest] (the least number comes first)"},
      {"tensor t: i32[TOK] in [0, 1.5]; mask = t[tok] < kv",
       "column 27: the range of i32 ends at '1.5'; allowed: a whole number in [-2147483648, 2147483647]"},
      {"tensor t: i32[TOK] in [0.5, 2]; mask = t[tok] < kv", "column 24: the range of i32 ends at '0.5'"},
      {"tensor t: u8[HQ] in [0, 300]; mask = t[h] < kv",
       "column 25: the range of u8 ends at '300'; allowed: a whole number in [0, 255]"},
      {"tensor t: u8[HQ] in [-1, 5]; mask = t[h] < kv",
       "column 22: the range of u8 ends at '-1'; allowed: a whole number in [0, 255]"},
      {"tensor t: i8[HQ] in [0, 128]; mask = t[h] < kv",
       "column 25: the range of i8 ends at '128'; allowed: a whole number in [-128, 127]"},
      {"tensor t: u32[HQ] in [-1, 5]; mask = t[h] < 3u",
       "column 23: the range of u32 ends at '-1'; allowed: a whole number in [0, 4294967295]"},
      {"tensor t: i32[TOK] in [0, 3000000000]; mask = t[tok] < kv", "column 27: the range of i32 ends at '3000000000'"},
      {"tensor t: i32[TOK] in [0, 99999999999999999999]; mask = kv < 3",
       "column 27: found '99999999999999999999', expected a number (as an end of the range of i32, a whole number in [-2147483648, "
       "2147483647])"},
      {"tensor t: i32[TOK] in 0, 5; mask = kv < 3", "column 23: found '0', expected '[' (a range is [least, greatest])"},
      {"tensor t: i32[TOK] in; mask = kv < 3", "column 22: found ';', expected '['"},
      {"tensor t: i32[TOK] in [0]; mask = kv < 3", "column 25: found ']', expected ','"},
      {"tensor t: i32[TOK] in [0, 5] in [0, 5]; mask = t[tok] < kv", "column 30: found a second range, expected one"},
      {"tensor t: bool[TOK] in [0, 1]; mask = t[tok]", "column 24: a bool has no range"},
      {"tensor t: f32[HQ] in [0, 1e99]; sink = 0", "column 26: found '1e99', expected a number"},
      {"tensor t: f32[HQ] in [0, inf]; sink = 0",
       "column 8: tensor t has the range [0, inf]; allowed: [least, greatest] of f32 (both ends are finite"},
      {"tensor t: f16[HQ] in [0, 5u]; sink = t[h]", "column 26: the range of f16 ends at '5u'; allowed: a number of f32"},
  };
  for (const Refusal& c : cases) expect_refused(parse(c.text), c);
}

TEST(Bounds, RefusedInJson) {
  const auto with = [](const char* elem, const char* range) {
    return R"({"tensors": {"t": {"elem": ")" + std::string(elem) + R"(", "axes": ["TOK"], "range": )" + range +
           R"(}}, "sink": "0"})";
  };
  const std::pair<std::string, const char*> cases[] = {
      {with("i32", "[5, 0]"),
       "tensors.t: tensor t has the range [5, 0]; allowed: [least, greatest] of i32, in [-2147483648, 2147483647]"},
      {with("i32", "[0.5, 2]"), "tensors.t: tensor t has the range [0.5, 2]"},
      {with("u8", "[0, 256]"), "tensors.t: tensor t has the range [0, 256]; allowed: [least, greatest] of u8, in [0, 255]"},
      {with("i32", "[0, 99999999999999999999]"), "tensors.t: tensor t has the range [0, 1e+20]"},
      {with("u32", "[-1e300, 1]"), "tensors.t: tensor t has the range [-1e+300, 1]"},
      {with("f32", "[0, 1e300]"), "tensors.t: tensor t has the range [0, 1e+300]; allowed: [least, greatest] of f32"},
      {with("bool", "[0, 1]"), "tensors.t: tensor t has the range [0, 1]; allowed: none, as bool has no range"},
      {with("i32", "[1]"), "tensors.t.range: [1]; allowed: [least, greatest]"},
      {with("i32", "\"0..5\""), "tensors.t.range: \"0..5\"; allowed: [least, greatest]"},
      {with("i32", "[0, true]"), "tensors.t.range: [0,true]; allowed: [least, greatest]"},
  };
  for (const auto& [json, message] : cases) expect_refused(hooks_from_json(json), {json.c_str(), message});
  // What is refused binds no element, so that reading one is no problem of its own.
  expect_refused(
      hooks_from_json(R"({"tensors": {"t": {"elem": "i32", "axes": ["TOK"], "range": [-1e300, 4e300]}}, "mask": "t[tok] < kv"})"),
      {"a read", "tensors.t: tensor t has the range [-1e+300, 4e+300]"});
}

std::string said(const char* text) {
  std::vector<Finding> warnings;
  const Result<Hooks> hooks = parse(text, &warnings);
  std::string out = hooks.ok() ? "" : hooks.status().to_string();
  for (const Finding& warning : warnings) out += warning.text() + "; ";
  return out;
}

TEST(Bounds, ProveWhatRestsOnElements) {
  const char* const hint = "clamp(x, 0, 5), or declare what it is read from as in tensor t: i32[TOK] in [0, 5]";
  // Of any i32 it is clamped with a warning, of a u8 it is refused.
  EXPECT_EQ(said(kIndexed), "");
  EXPECT_NE(said("tensor t: i32[TOK], bs: f32[HQ, 6]; logits = score + bs[h, t[tok]]").find(hint), std::string::npos);
  EXPECT_EQ(said("tensor t: u8[TOK] in [0, 5], bs: f32[HQ, 6]; logits = score + bs[h, t[tok]]"), "");
  expect_refused(parse("tensor t: u8[TOK], bs: f32[HQ, 6]; logits = score + bs[h, t[tok]]"), {"u8", hint});
  expect_refused(parse("tensor t: i32[TOK] in [0, 6], bs: f32[HQ, 6]; logits = score + bs[h, t[tok]]"),
                 {"one too many", "index 2 of tensor bs, 't[tok]', lies in [0, 6] and may leave its axis; allowed: [0, 5]"});
  const std::pair<const char*, const char*> others[] = {
      {"tensor t: i32[TOK] in [-9, 9]; mask = kv // (t[tok] + 10) < 3", "tensor t: i32[TOK]; mask = kv // (t[tok] + 10) < 3"},
      {"tensor t: i32[TOK] in [-9, 9]; mask = t[tok] * t[tok] < kv", "tensor t: i32[TOK]; mask = t[tok] * t[tok] < kv"},
      {"tensor t: f16[HQ] in [0.5, 2]; logits = score * log(t[h])", "tensor t: f16[HQ]; logits = score * log(t[h])"},
      {"tensor t: f32[HQ] in [-80, 80]; logits = score * exp(t[h])", "tensor t: f32[HQ]; logits = score * exp(t[h]) * exp(t[h])"},
  };
  for (const auto& [bounded, open] : others) {
    EXPECT_EQ(said(bounded), "") << bounded;
    EXPECT_NE(said(open), "") << open;
  }
  // Declared as it is, what may overflow is refused as with a param.
  expect_refused(parse("tensor t: i32[TOK] in [0, 65536]; mask = t[tok] * t[tok] < kv"), {"product", "may overflow"});
}

TEST(Bounds, RangesAreThoseDeclared) {
  struct Case {
    const char* text;
    double lo, hi;
  };
  const Case cases[] = {
      {"tensor t: i32[HQ] in [-4, 5]; logits = score + f32(t[h])", -4, 5},
      {"tensor t: u8[HQ] in [2, 5]; logits = score + f32(t[h])", 2, 5},
      {"tensor t: e5m2[HQ] in [-0.5, 3]; logits = score + t[h]", -0.5, 3},
      {"tensor t: f32[HQ] in [-0.5, 3]; logits = score + t[h]", -0.5, 3},
  };
  for (const Case& c : cases) {
    const Hooks hooks = *parse(c.text);
    const Range range = ranges(hooks)[hooks.graph[hooks.root(Hook::logits)].args[1]];
    EXPECT_EQ(range.lo, c.lo) << c.text;
    EXPECT_EQ(range.hi, c.hi) << c.text;
    EXPECT_FALSE(range.nan || range.undeclared || range.overflows) << c.text;
  }
}

/// Gives one element, whatever is asked for.
class OneElement : public Environment {
 public:
  explicit OneElement(Value element) : element_(element) {}
  Value input(Input) const override { return {}; }
  Value param(uint32_t) const override { return {}; }
  Value read(uint32_t, std::span<const int32_t>) const override { return element_; }

 private:
  Value element_;
};

TEST(Bounds, HoldWhateverIsRead) {
  const auto of = [](const char* declared, Value element) {
    const Hooks hooks = *parse("tensor t: " + std::string(declared) + "; logits = score + f32(t[h])");
    const Hooks canonical = canonicalise(hooks);
    EXPECT_EQ(interpret(canonical, canonical.root(Hook::logits), OneElement(element)).f,
              interpret(hooks, hooks.root(Hook::logits), OneElement(element)).f);
    return interpret(hooks, hooks.root(Hook::logits), OneElement(element)).f;
  };
  using Limits = std::numeric_limits<int32_t>;
  for (int32_t element : {Limits::min(), -6, -5, -4, 0, 6, 7, 8, Limits::max()}) {
    EXPECT_EQ(of("i32[HQ] in [-5, 7]", Value::of(element)), std::clamp(element, -5, 7)) << element;
    const auto word = static_cast<uint32_t>(element);
    EXPECT_EQ(of("u32[HQ] in [3, 7]", Value::of(element)), std::clamp(word, 3u, 7u)) << word;
  }
  for (double element : {-HUGE_VAL, -3.0, -0.5, 0.0, 2.0, 2.5, HUGE_VAL})
    EXPECT_EQ(of("f32[HQ] in [-0.5, 2]", Value::of(element)), std::clamp(element, -0.5, 2.0)) << element;
  EXPECT_EQ(of("f32[HQ] in [-0.5, 2]", Value::of(std::nan(""))), -0.5);
  EXPECT_EQ(of("e4m3[HQ] in [0.25, 2]", Value::of(std::nan(""))), 0.25);
}

}  // namespace
}  // namespace lathe::expr
