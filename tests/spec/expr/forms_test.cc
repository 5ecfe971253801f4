// The JSON form and the C++ operators build what the text form builds.
#include <gtest/gtest.h>

#include <cmath>

#include "examples.h"
#include "lathe/spec/expr/json.h"
#include "lathe/spec/expr/operators.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/print.h"

namespace {

using namespace lathe;
using expr::Axis;
using expr::Elem;
using expr::Hook;
using expr::Hooks;
using expr::TensorTerm;
using expr::Term;
using expr::Type;

TEST(HooksJson, RoundTrip) {
  for (const auto& example : expr::testing::kExamples) {
    SCOPED_TRACE(example.name);
    const Hooks hooks = *expr::parse(example.text);
    const std::string json = to_json(hooks);
    Result<Hooks> again = expr::hooks_from_json(json);
    ASSERT_TRUE(again.ok()) << json << "\n" << again.status().to_string();
    EXPECT_TRUE(*again == hooks) << json;
    EXPECT_EQ(to_json(*again), json);
  }
}

TEST(HooksJson, IsWhatTheHeaderSays) {
  const Hooks hooks = *expr::parse(
      "param W:i32 in [0, 4096]; param c:f32 in [0.5, 2]; tensor t:u8[HQ, 32, W] summary sorted; normalizer = none;"
      "mask = kv_pos <= q_pos && t[h, 3, 0] == 0; logits = score * c");
  EXPECT_EQ(to_json(hooks),
            R"({"params":{"W":{"type":"i32","range":[0,4096]},"c":{"type":"f32","range":[0.5,2.0]}},)"
            R"("tensors":{"t":{"elem":"u8","axes":["HQ",32,"W"],"summary":true,"sorted":true}},"normalizer":"none",)"
            R"("logits":"score * c","mask":"kv_pos <= q_pos && t[h, 3, 0] == 0"})");
}

TEST(HooksJson, KeysComeInAnyOrder) {
  const Result<Hooks> hooks = expr::hooks_from_json(
      R"json({"mask": "t[tok, 0] < kv", "tensors": {"t": {"axes": ["TOK", "W"], "elem": "i32"}}, "params": {"W": {"type": "i32"}}})json");
  ASSERT_TRUE(hooks.ok()) << hooks.status().to_string();
  EXPECT_TRUE(*hooks == *expr::parse("param W:i32; tensor t:i32[TOK,W]; mask = t[tok, 0] < kv"));
}

TEST(HooksJson, RefusesWithPathAndColumn) {
  struct Case {
    const char* json;
    const char* message;
  };
  const Case cases[] = {
      {"", "not JSON"},
      {"[]", "a JSON object"},
      {R"({"mask": 5})", "mask: 5; allowed: an expression as text"},
      {R"({"masks": "true"})", "masks: unknown field"},
      {R"({"mask": "kv <="})", "mask, column 6: found the end, expected an expression"},
      {R"({"mask": "true", "mask": "false"})", "given twice"},
      {R"({"mask": "kv <= q; logits = score"})", "mask, column 10: found 'logits', expected the end"},
      {R"({"normalizer": "softmin"})", "normalizer: \"softmin\""},
      {R"({"params": []})", "params: []"},
      {R"({"params": {"W": {"type": "i64"}}})", "params.W.type: \"i64\"; allowed: i32, u32, f32, bool"},
      {R"({"params": {"W": {}}})", "params.W.type: is missing"},
      {R"({"params": {"W": {"type": "i32", "range": [1]}}})", "params.W.range: [1]"},
      {R"({"params": {"W": {"type": "i32", "range": [2, 1]}}})", "has the range [2, 1]"},
      {R"({"params": {"W": {"type": "i32", "range": [0, 1e30]}}})", "has the range [0, 1e+30]"},
      {R"({"params": {"W": {"type": "u32", "range": [-1e300, 4888888888888888888888888]}}})", "has the range [-1e+300, 4.8888"},
      {R"({"params": {"W": {"type": "i32", "range": [0.5, 2]}}})", "has the range [0.5, 2]"},
      {R"({"params": {"W": {"type": "i32", "rank": 1}}})", "params.W.rank: unknown field"},
      {R"({"params": {"W;mask=true": {"type": "i32"}}})", "is not a letter or '_', followed by letters"},
      {R"({"params": {"kv": {"type": "i32"}}})", "\"kv\" is an input of hooks"},
      {R"({"params": {"s": {"type": "i32"}}, "tensors": {"s": {"elem": "f32", "axes": ["HQ"]}}})", "is declared already"},
      {R"({"tensors": {"s": {"elem": "f64", "axes": ["HQ"]}}})", "tensors.s.elem: \"f64\""},
      {R"({"tensors": {"s": {"elem": "f32"}}})", "tensors.s.axes: is missing"},
      {R"({"tensors": {"s": {"elem": "f32", "axes": ["HQ; x"]}}})", "tensors.s.axes: \"HQ; x\""},
      {R"({"tensors": {"s": {"elem": "f32", "axes": []}}})", "has 0 axes"},
      {R"({"tensors": {"s": {"elem": "f32", "axes": [0]}}})", "has an axis of 0"},
      {R"({"tensors": {"s": {"elem": "f32", "axes": [-1]}}})", "tensors.s.axes: -1"},
      {R"({"tensors": {"s": {"elem": "f32", "axes": ["HQ"], "sorted": 1}}})", "tensors.s.sorted: 1; allowed: true, false"},
  };
  for (const Case& c : cases) {
    Result<Hooks> hooks = expr::hooks_from_json(c.json);
    ASSERT_FALSE(hooks.ok()) << c.json;
    EXPECT_NE(hooks.status().to_string().find(c.message), std::string::npos) << c.json << "\n" << hooks.status().to_string();
  }
}

// Bounds of f32 were kept as doubles: 0.1 had another key than in text, 16777217 and 1e-50 did not come back from text.
TEST(HooksForms, BoundsOfF32AreNumbersOfF32) {
  const char* const json = R"({"params":{"a":{"type":"f32","range":[0.1,16777217]}},"logits":"score * a"})";
  const Term a = expr::param("a", Type::f32, std::array{0.1, 16777217.0});
  const Result<Hooks> written = expr::parse("param a: f32 in [0.1, 16777217]; logits = score * a");
  const Result<Hooks> read = expr::hooks_from_json(json), built = expr::make_hooks({{Hook::logits, expr::score * a}});
  ASSERT_TRUE(written.ok() && read.ok() && built.ok()) << read.status().to_string() << built.status().to_string();
  const Hooks &from_text = *written, &from_json = *read, &from_terms = *built;
  EXPECT_TRUE(from_json == from_text);
  EXPECT_TRUE(from_terms == from_text);
  EXPECT_TRUE(*expr::parse(to_text(from_text)) == from_text) << to_text(from_text);
  EXPECT_TRUE(*expr::hooks_from_json(to_json(from_text)) == from_text) << to_json(from_text);

  for (const char* range : {"[1e-50, 1]", "[0, 1e300]", "[-1e39, 0]"}) {
    const std::string text = R"({"params":{"a":{"type":"f32","range":)" + std::string(range) + R"(}},"logits":"score * a"})";
    const Result<Hooks> hooks = expr::hooks_from_json(text);
    ASSERT_FALSE(hooks.ok()) << text;
    EXPECT_NE(hooks.status().to_string().find("allowed: [least, greatest] of f32"), std::string::npos)
        << hooks.status().to_string();
  }
  for (const std::array range : {std::array{1e-50, 1.0}, std::array{0.0, 1e300}}) {
    EXPECT_FALSE(expr::make_hooks({{Hook::logits, expr::score * expr::param("a", Type::f32, range)}}).ok());
  }
}

// A hand-made value may hold any bound; its text is asked for when it is refused.
TEST(HooksForms, BoundsPast64Bits) {
  Hooks hooks;
  hooks.params = {{"W", Type::i32, {{-1e30, 4.5e39}}}, {"U", Type::u32, {{0.5, 4294967295.0}}}};
  EXPECT_EQ(to_text(hooks.params[0]), "param W: i32 in [-1e+30, 4.5e+39]");
  EXPECT_EQ(to_text(hooks.params[1]), "param U: u32 in [0.5, 4294967295]");
  EXPECT_EQ(to_json(hooks),
            R"({"params":{"W":{"type":"i32","range":[-1e+30,4.5e+39]},"U":{"type":"u32","range":[0.5,4294967295]}}})");
}

TEST(Operators, BuildWhatTextBuilds) {
  using expr::h, expr::kv, expr::kv_pos, expr::q, expr::q_pos, expr::score, expr::tok, expr::x;
  const Term W = expr::param("W", Type::i32);
  const Term S = expr::param("S", Type::i32);
  const Term cap = expr::param("cap", Type::f32, std::array{1.0, 100.0});
  const TensorTerm a("a", Elem::f32, {Axis::qo_heads});
  const TensorTerm bits("bits", Elem::u32, {Axis::tokens, 4}, /*summary=*/true);
  const TensorTerm wide("wide", Elem::i8, {W, Axis::kv_pos}, /*summary=*/false, /*sorted=*/true);
  const TensorTerm bounded("bounded", Elem::i32, {Axis::tokens}, /*summary=*/true, /*sorted=*/false, std::array{-1.0, 5.0});
  const TensorTerm part("part", Elem::f16, {Axis::qo_heads}, /*summary=*/false, /*sorted=*/false, std::array{0.1, 16777217.0});
  struct Case {
    std::vector<std::pair<Hook, Term>> hooks;
    const char* text;
  };
  const Case cases[] = {
      {{{Hook::mask, kv_pos <= q_pos}}, "mask = kv_pos <= q_pos"},
      {{{Hook::mask, kv_pos <= q_pos && (kv_pos < S || q_pos - kv_pos < W)}},
       "param S,W:i32; mask = kv_pos <= q_pos && (kv_pos < S || q_pos - kv_pos < W)"},
      {{{Hook::logits, cap * expr::call("tanh", {score / cap})}}, "param cap:f32 in [1, 100]; logits = cap * tanh(score / cap)"},
      {{{Hook::logits, score + a(h) * expr::call("f32", {kv_pos - q_pos})}, {Hook::sink, a(h)}},
       "tensor a:f32[HQ]; logits = score + a[h] * f32(kv_pos - q_pos); sink = a[h]"},
      {{{Hook::mask, expr::call("bit", {bits(tok, expr::call("clamp", {kv >> 5, 0, 3})), kv & 31})}},
       "tensor bits:u32[TOK,4] summary; mask = bit(bits[tok, clamp(kv >> 5, 0, 3)], kv & 31)"},
      {{{Hook::mask, bounded(tok) < kv}}, "tensor bounded:i32[TOK] in [-1, 5] summary; mask = bounded[tok] < kv"},
      {{{Hook::sink, part(h)}}, "tensor part:f16[HQ] in [0.1, 16777217]; sink = part[h]"},
      {{{Hook::mask, wide(0, kv) != 3}}, "param W:i32; tensor wide:i8[W,KVPOS] sorted; mask = wide[0, kv] != 3"},
      {{{Hook::kv_pos, kv * 4 + 3}, {Hook::mask, expr::floor_div(kv_pos, 8) == q_pos % 8 || !(q > kv) || -q >= (kv | 1) << 2}},
       "kv_pos := kv * 4 + 3; mask = kv_pos // 8 == q_pos % 8 || !(q > kv) || -q >= (kv | 1) << 2"},
      {{{Hook::logits, expr::select(q == kv, score, 0)}}, "logits = q == kv ? score : 0"},
      {{{Hook::sink, 0}, {Hook::weight, expr::w * 0.5}, {Hook::query, expr::rot_x - x}},
       "sink = 0; weight = w * 0.5; query = rot(x) - x"},
      {{{Hook::mask, (kv ^ q) != 7 || true}}, "mask = (kv ^ q) != 7 || true"},
  };
  for (const Case& c : cases) {
    Result<Hooks> text = expr::parse(c.text);
    ASSERT_TRUE(text.ok()) << text.status().to_string();
    Result<Hooks> built = expr::make_hooks(c.hooks);
    ASSERT_TRUE(built.ok()) << c.text << "\n" << built.status().to_string();
    EXPECT_TRUE(*built == *text) << to_text(*built) << to_text(*text);
  }
}

TEST(Operators, RefuseWhatTextRefuses) {
  using expr::h, expr::kv, expr::kv_pos, expr::q_pos, expr::score;
  auto message = [](const std::vector<std::pair<Hook, Term>>& hooks) {
    Result<Hooks> built = expr::make_hooks(hooks);
    EXPECT_FALSE(built.ok());
    return built.status().to_string();
  };
  auto expect = [&](const std::vector<std::pair<Hook, Term>>& hooks, const char* text) {
    const std::string found = message(hooks);
    EXPECT_NE(found.find(text), std::string::npos) << found;
  };
  // NaN was printed as nan.0, and 1e-60 became 0, which text refuses.
  expect({{Hook::logits, score + Term(NAN)}}, "the number nan is none of f32");
  expect({{Hook::logits, score + Term(1e-60)}}, "the number 1e-60 is none of f32");
  expect({{Hook::logits, score + 1e60}}, "the number 1e+60 is none of f32");
  EXPECT_TRUE(expr::make_hooks({{Hook::logits, expr::select(kv < 3, score + 1e-45, -INFINITY)}}).ok());
  expect({{Hook::mask, kv_pos + q_pos}}, "mask is i32; allowed: bool");
  expect({{Hook::mask, kv_pos <= score}}, "operands of '<=' are i32 and f32");
  expect({{Hook::logits, kv_pos / q_pos}}, "operands of '/' are i32 and i32; allowed: f32");
  expect({{Hook::logits, expr::call("tan", {score})}}, "no function 'tan'");
  expect({{Hook::logits, expr::call("tanh", {score, score})}}, "tanh: 2 arguments; allowed: 1");
  expect({{Hook::mask, kv < 3}, {Hook::mask, kv < 4}}, "the hook is given already");
  expect({{Hook::mask, kv < expr::param("W", Type::i32) && kv < expr::param("W", Type::u32)}}, "operands of '<' are i32 and u32");
  expect({{Hook::mask, kv < expr::param("W", Type::i32) && kv < expr::param("W", Type::i32, std::array{0.0, 4.0})}},
         "is declared twice");
  expect({{Hook::mask, kv < expr::param("W; mask", Type::i32)}}, "the name \"W; mask\" is not a letter");
  for (const std::array range :
       {std::array{5.0, 0.0}, std::array{0.5, 1.0}, std::array{static_cast<double>(NAN), 1.0}, std::array{0.0, 1e300}})
    expect({{Hook::mask, TensorTerm("t", Elem::i32, {Axis::qo_heads}, false, false, range)(h) < 3}},
           "allowed: [least, greatest] of i32");
  expect({{Hook::mask, TensorTerm("t", Elem::i32, {})() < 3}}, "has 0 axes");
  expect({{Hook::mask, TensorTerm("t", Elem::i32, {-4})(kv) < 3}}, "has an axis of 4294967292");
  expect({{Hook::mask, TensorTerm("t", Elem::i32, {Term(kv)})(kv) < 3}}, "no i32 param");
  expect({{Hook::mask, TensorTerm("t", Elem::i32, {Axis::qo_heads})(kv) < 3}}, "is an index of axis KVPOS");
}

}  // namespace
