// What is refused, with its column and hint, and what is warned of.
#include "lathe/spec/expr/check.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/print.h"

namespace lathe::expr {
namespace {

struct Case {
  const char* text;
  const char* message;
};

void expect_refused(const Case& c) {
  Result<Hooks> hooks = parse(c.text);
  ASSERT_FALSE(hooks.ok()) << c.text;
  EXPECT_NE(hooks.status().to_string().find(c.message), std::string::npos) << c.text << "\n" << hooks.status().to_string();
}

TEST(ParseErrors, NameColumnAndWhatWasExpected) {
  const Case cases[] = {
      {"mask = kv_pos <= ", "column 18: found the end, expected an expression"},
      {"mask = (kv_pos <= q_pos", "column 24: found the end, expected ')'"},
      {"mask = kv_pos <= q_pos)", "column 23: found ')', expected ';'"},
      {"mask kv <= q", "column 6: found 'kv', expected '='"},
      {"mask := kv <= q", "column 6: found ':=', expected '='"},
      {"\nmask = kv <=", "line 2, column 13: found the end"},
      {"masks = true",
       "column 1: found 'masks', expected a declaration (param, const, tensor, let), normalizer, rotary, or a hook"},
      {"layout = paged", "column 1: found 'layout', expected a declaration"},
      {"mask = kv < 3 < q", "column 15: found '<', expected the end of the comparison (comparisons do not chain"},
      {"mask = kv_poss <= q_pos", "column 8: unknown name 'kv_poss' (did you mean kv_pos?)"},
      {"mask = window <= q_pos", "column 8: unknown name 'window' (declare it: param, const, tensor or let)"},
      {"logits = tahn(score)", "column 10: unknown function 'tahn' (did you mean tanh?)"},
      {"param W:i64; mask = kv < W", "column 9: found 'i64', expected a type: i32, u32, f32, bool"},
      {"tensor t:f64[HQ]; sink = t[h]", "column 10: found 'f64', expected an element type"},
      {"tensor t:f32[HEADS]; sink = t[h]", "column 14: found 'HEADS', expected an axis: B, HQ"},
      {"tensor t:f32[0]; sink = t[0]", "column 14: an axis is '0' long; allowed: 1..2147483647"},
      {"tensor t:f32[1,2,3,4,5]; sink = t[h]", "found a fifth axis, expected at most 4"},
      {"tensor t:f32 HQ; sink = t[h]", "column 14: found 'HQ', expected '['"},
      {"tensor t:f32[HQ]; sink = t", "column 27: found the end, expected '[': t is a tensor"},
      {"tensor t:f32[HQ]; sink = t(h)", "column 26: 't' is no function (tensors are read with [ ])"},
      {"tensor t:f32[HQ]; sink = t[h,h]", "column 26: tensor t is read at 2 indices; allowed: one for each of its axes: 1"},
      {"tensor t:f32[HQ]; sink = t[1.5]", "index 1 of tensor t is f32; allowed: i32"},
      {"param W:i32 in [5, 2]; mask = kv < W", "column 16: the range is empty"},
      {"param W:i32 in [0, 1.5]; mask = kv < W", "column 20: the range of i32 ends at '1.5'"},
      {"param W:bool in [0, 1]; mask = W", "column 17: a bool has no range"},
      {"param kv:i32; mask = kv < 3", "column 7: 'kv' is an input of hooks; allowed: another name"},
      {"param max:i32; mask = kv < 3", "column 7: 'max' is a word of the language"},
      {"param mask:i32; mask = kv < 3", "column 7: 'mask' is a word of the language"},
      {"param W:i32; param W:i32; mask = kv < W", "column 20: 'W' is declared already"},
      {"let p = kv; let p = q; mask = p < 3", "column 17: 'p' is declared already"},
      {"mask = kv < 3; mask = kv < 4", "column 16: the hook 'mask' is given already; allowed: once"},
      {"normalizer = softmin", "column 14: found 'softmin', expected softmax or none"},
      {"mask = kv < 99999999999", "column 13: '99999999999' is no number of the language"},
      {"mask = kv < 12abc", "column 13: '12abc' is no number"},
      {"logits = score * 1e99", "column 18: '1e99' is no number"},
      {"logits = score * 1e-99", "column 18: '1e-99' is no number"},
      {"mask = kv < 3 @ q", "column 15: found '@', which is no sign of the language"},
      {"mask = kv < \xd0\xba", "column 13: found byte 0xD0, expected ASCII (letters and signs of other scripts"},
      {"mask = kv < \x01", "column 13: found byte 0x01, expected printable ASCII"},
      {"mask = kv <= q_pos && (kv_pos", "found the end, expected ')'"},
      {"logits = rot(score)", "column 14: found 'score', expected 'x'"},
      {"param W:i32 in [0, 3000000000]; mask = kv < W", "column 20: the range of i32 ends at '3000000000'"},
      {"param a:f32 in [0, 5u]; sink = a", "column 20: the range of f32 ends at '5u'"},
  };
  for (const Case& c : cases) expect_refused(c);
  EXPECT_NE(parse(std::string_view("mask = kv\0 < 3", 14)).status().to_string().find("column 10: found byte 0x00"),
            std::string::npos);
}

TEST(ParseErrors, TypesAreStrict) {
  const Case cases[] = {
      {"mask = kv + q", "column 11: mask is i32; allowed: bool"},
      {"logits = kv", "column 10: logits is i32; allowed: f32"},
      {"logits = score + kv", "column 16: operands of '+' are f32 and i32; allowed: two of one type (convert with f32() or i32())"},
      {"logits = score * f32(kv / 2)",
       "column 25: operands of '/' are i32 and i32; allowed: f32 ('//' divides integers, f32() converts them)"},
      {"mask = kv && q", "operands of '&&' are i32 and i32; allowed: bool (compare first, as in x != 0)"},
      {"mask = !kv", "column 8: operand of '!' is i32; allowed: bool"},
      {"mask = -(kv < 3)", "column 8: operand of '-' is bool"},
      {"mask = kv ? true : false", "column 11: condition of '?' is i32; allowed: bool"},
      {"logits = kv < q ? score : kv", "column 17: operands of '? :' are f32 and i32"},
      {"mask = (kv < 3) < (q < 3)", "operands of '<' are bool; allowed: i32, u32, f32"},
      {"mask = (kv < 3) & (q < 3)", "operands of '&' are bool; allowed: i32, u32 ('&&' and '||' join conditions)"},
      {"logits = score << 2", "operands of '<<' are f32 and i32"},
      {"mask = bit(kv, 3)", "bit: an argument is i32; allowed: u32 (declare the words as u32)"},
      {"logits = exp(f32(kv < 3))", "f32: the argument is bool; allowed: i32, u32, f32 (f32(i32(...)))"},
      {"logits = exp(kv)", "exp: an argument is i32; allowed: f32 (f32() converts)"},
      {"logits = max(score)", "column 10: max: 1 arguments; allowed: 2"},
      {"logits = max(score, kv)", "operands of 'max' are f32 and i32"},
      {"param n:i32; logits = score", "is an input of hooks"},
      {"param e:i32; logits = powi(score, e)",
       "powi: the exponent is not a constant whole number (x * x, or exp2(y * log2(x)) for a positive x)"},
      {"logits = powi(score, 2000)", "powi: the exponent is 2000; allowed: -1024..1024"},
      {"param u:u32; mask = kv < u", "operands of '<' are i32 and u32"},
      {"param u:u32; mask = u < -1", "operands of '<' are u32 and i32"},
      {"logits = score * 16777217", "operands of '*' are f32 and i32"},
      {"mask = kv < 3000000000",
       "operands of '<' are i32 and u32; allowed: two of one type (3000000000 is past 2147483647, the greatest "
       "i32, so it is a u32)"},
      {"logits = 3000000000 * score",
       "operands of '*' are u32 and f32; allowed: two of one type (3000000000 is a u32: write "
       "3000000000.0)"},
  };
  for (const Case& c : cases) expect_refused(c);
}

/// What is wrong with a declaration was told of without its column.
TEST(Check, DeclarationsHaveTheirColumn) {
  std::string many = "param p0", tensors;
  for (int i = 1; i < 70; ++i) many += ", p" + std::to_string(i);
  for (int i = 0; i < 65; ++i) tensors += "tensor t" + std::to_string(i) + ": f32[HQ];\n";
  const std::string params = many + ": i32; mask = kv < p0", at = std::to_string(many.find("p64") + 1);
  const std::string of_param = "column " + at + ": 70 params and 0 tensors; allowed: 64 each";
  tensors += "sink = t0[h]";
  const Case cases[] = {
      {"param b: i32; param a: f32 in [0, inf]; sink = a",
       "column 21: param a has the range [0, inf]; allowed: [least, greatest] of f32 (both ends are finite"},
      {params.c_str(), of_param.c_str()},
      {tensors.c_str(), "line 65, column 8: 0 params and 65 tensors; allowed: 64 each"},
  };
  for (const Case& c : cases) expect_refused(c);
}

TEST(Check, WholeNumbersAreFloatsInTheRangeOfAFloat) {
  const std::pair<const char*, double> cases[] = {{"param a: f32 in [0, 3000000000]; sink = a", 3e9},
                                                  {"param a: f32 in [-1, 5000000000]; sink = a", 5e9},
                                                  {"param a: f32 in [-3000000000, 16777217]; sink = a", 16777216},
                                                  {"const C = 3; param a: f32 in [0, C]; sink = a", 3}};
  for (const auto& [text, most] : cases) {
    const Result<Hooks> hooks = parse(text);
    ASSERT_TRUE(hooks.ok()) << hooks.status().to_string();
    EXPECT_EQ((*hooks->params[0].range)[1], most) << text;
  }
}

TEST(Check, MessagesHaveHints) {
  const Case cases[] = {
      {"logits = score / 0", "column 16: division by zero in 'score / 0.0' (a divisor of 0 is no number"},
      {"sink = inf", "inf in sink; allowed: in logits (write a large finite number, such as 1e30)"},
      {"logits = score + sin(inf)", "allowed: finite numbers (guard it with clamp(x, -1e6, 1e6))"},
  };
  for (const Case& c : cases) expect_refused(c);
}

TEST(Check, HooksMayUseWhatTheyHave) {
  const Case cases[] = {
      {"mask = score < 3", "column 8: mask uses score; allowed: b, h, hk, q, kv, tok, slot"},
      {"logits = o + score", "column 10: logits uses o; allowed:"},
      {"logits = f32(kv)", "column 10: logits drops what it transforms; expected a use of dot, score"},
      {"logits = f32(kv) + 0 * 2.0", "logits drops what it transforms"},
      {"weight = 2", "weight drops what it transforms; expected a use of w"},
      {"output = lse", "output drops what it transforms; expected a use of o"},
      {"query = f32(d)", "query drops what it transforms; expected a use of x, rot(x)"},
      {"lse_transform = 1", "lse_transform drops what it transforms; expected a use of lse"},
      {"epilogue = acc2", "epilogue drops what it transforms; expected a use of acc"},
      {"sink = f32(kv)", "column 12: sink uses kv; allowed: h"},
      {"kv_pos := kv_pos + 1", "kv_pos uses kv_pos; allowed: b, kv, slot"},
      {"q_pos := kv", "q_pos uses kv; allowed: b, q, tok"},
      {"normalizer = none; sink = 1",
       "sink with normalizer = none; allowed: with softmax (without a normalizer there is no log-sum-exp)"},
      {"normalizer = none; lse_transform = lse", "lse_transform with normalizer = none"},
      {"normalizer = none; output = o * exp(lse)", "column 37: output uses lse with normalizer = none"},
  };
  for (const Case& c : cases) expect_refused(c);
}

TEST(Check, IndicesStayInside) {
  const Case cases[] = {
      {"tensor t:f32[HQ]; logits = score + t[kv]",
       "column 38: index 1 of tensor t, 'kv', is an index of axis KVPOS; allowed: an index of axis HQ"},
      {"tensor t:f32[HQ]; logits = score + t[h + 1]",
       "column 40: index 1 of tensor t, 'h + 1', lies in [1, 65536] and may leave its axis"},
      {"tensor t:f32[HQ]; logits = score + t[h - 1]", "may leave its axis"},
      {"tensor t:f32[HQ]; logits = score + t[max(h, 5)]", "may leave its axis"},
      {"tensor t:f32[HQ]; logits = score + t[kv < 3 ? h : hk]", "may leave its axis"},
      {"tensor t:f32[HQ]; logits = score + t[min(kv, q)]", "may leave its axis"},
      {"tensor t:f32[KVPOS]; logits = score + t[kv - q]", "may leave its axis"},
      {"tensor t:f32[KVPOS]; logits = score + t[kv | 1]", "may leave its axis"},
      {"tensor t:f32[32]; logits = score + t[kv]",
       "lies in [0, 16777215] and may leave its axis; allowed: [0, 31] (clamp(x, 0, 31), or declare "
       "what it is read from as in tensor t: i32[TOK] in [0, 31])"},
      {"tensor t:f32[32]; logits = score + t[32]", "lies in [32, 32] and may leave its axis"},
      {"tensor t:f32[32]; logits = score + t[-1]", "lies in [-1, -1]"},
      {"tensor t:f32[N]; logits = score + t[q_pos]", "may leave its axis; allowed: an index of axis N"},
      {"tensor t:f32[SLOT]; logits = score + t[tok]", "is an index of axis TOK; allowed: an index of axis SLOT"},
      {"param P:i32; tensor t:f32[P]; logits = score + t[kv - q]", "allowed: less than param P"},
      {"kv_pos := kv * 2; tensor t:f32[KVPOS]; logits = score + t[kv_pos]", "may leave its axis"},
  };
  for (const Case& c : cases) expect_refused(c);

  const char* const inside[] = {
      "tensor t:f32[HQ,HKV,TOK,SLOT]; logits = score + t[h,hk,tok,slot]",
      "tensor t:f32[B,QLEN,KVPOS]; logits = score + t[b,q,kv]",
      "tensor t:f32[B,QLEN,KVPOS]; logits = score + t[0,q,kv_pos]",
      "tensor t:f32[32]; logits = score + t[clamp(q_pos - kv_pos, 0, 31)]",
      "tensor t:f32[32]; logits = score + t[kv % 32] + t[kv & 31] + t[31]",
      "tensor t:f32[KVPOS]; logits = score + t[max(kv - 3, 0)] + t[kv >> 2] + t[min(kv, 5)]",
      "param P:i32 in [8, 9]; tensor t:f32[P]; logits = score + t[kv % P] + t[kv & 7]",
      "tensor t:f32[QLEN]; logits = score + t[kv < q ? q : q // 2]",
  };
  for (const char* text : inside) {
    std::vector<Finding> warnings;
    Result<Hooks> hooks = parse(text, &warnings);
    ASSERT_TRUE(hooks.ok()) << text << "\n" << hooks.status().to_string();
    for (const Finding& warning : warnings)
      EXPECT_EQ(warning.message.find("is clamped"), std::string::npos) << text << "\n" << warning.message;
  }
}

TEST(Check, NumbersStayNumbers) {
  const Case cases[] = {
      {"logits = log(score)", "column 10: log of 'score', which lies in"},
      {"logits = log2(score * score)", "allowed: what is proven to be positive (guard it with max(x, 1e-6)"},
      {"logits = score * log(f32(kv))", "which lies in [0, 16777215]; allowed: what is proven to be positive"},
      {"logits = score * sqrt(f32(q_pos - kv_pos))", "sqrt of 'f32(q_pos - kv_pos)'"},
      {"logits = score * rsqrt(f32(kv))", "rsqrt of"},
      {"logits = acos(score)", "allowed: [-1, 1] (guard it with clamp(x, -1, 1))"},
      {"param c:f32; logits = score * log(c)", "log of 'c'"},
      {"logits = score + (kv < 3 ? inf : 0) - (q < 3 ? inf : 0)", "may be inf - inf, which is no number"},
      {"logits = (score + inf) + (score - inf)", "may be inf - inf"},
      {"logits = score * (kv < 3 ? inf : 0)", "may be 0 * inf"},
      {"logits = (score + inf) / inf", "may be inf / inf"},
      {"logits = sin(score + inf)", "sin of"},
      {"weight = w + inf", "column 14: inf in weight; allowed: in logits"},
      {"logits = score / 0", "column 16: division by zero in 'score / 0.0'"},
      {"mask = kv // 0 == 1", "column 11: division by zero in 'kv // 0'"},
      {"mask = q % kv == 1", "the divisor 'kv' may be 0 (max(..., 1))"},
      {"mask = kv * 65536 * 2 < q",
       "column 19: the i32 'kv * 65536 * 2' may overflow (clamp its parts, or declare smaller ranges)"},
      {"mask = 2147483647 + 1 < kv", "column 19: the i32 '2147483647 + 1' may overflow"},
      {"mask = tok + tok < 3", "the i32 'tok + tok' may overflow"},
      {"param W:i32 in [0, 2000000000]; mask = W + W < kv", "may overflow"},
  };
  for (const Case& c : cases) expect_refused(c);

  const char* const sound[] = {
      "param c:f32 in [0.5, 2]; logits = score * log(c) * rsqrt(c)",
      "logits = score * log(f32(kv) + 1) * sqrt(abs(score))",
      "logits = log(exp(score) + 1)",
      "logits = kv < 3 ? score : -inf",
      "logits = score + (kv < 3 ? 0 : -inf)",
      "logits = acos(tanh(score)) + sqrt(score * score)",
      "mask = q % max(kv, 1) == 1",
  };
  for (const char* text : sound) EXPECT_TRUE(parse(text).ok()) << text << "\n" << parse(text).status().to_string();
}

TEST(Check, WarnsOfWhatRunTimeDataDecide) {
  const Case cases[] = {
      {"param W:i32; mask = kv * W < 3", "the i32 'kv * W' may overflow; it wraps"},
      {"param W:i32; mask = kv // W < 3", "the divisor 'W' may be 0; the result is then 0"},
      {"tensor t:i32[HQ], u:f32[16]; logits = score + u[t[h]]",
       "index 1 of tensor u, 't[h]', is not proven to stay in its axis; it is clamped"},
      {"param P:i32; tensor t:u32[P]; mask = bit(t[kv >> 5], kv)", "is not proven to stay in its axis"},
      {"tensor t,u,v:f32[HQ]; logits = score + t[h] + u[h] + v[h]", "logits reads tensors 3 times"},
  };
  for (const Case& c : cases) {
    std::vector<Finding> warnings;
    Result<Hooks> hooks = parse(c.text, &warnings);
    ASSERT_TRUE(hooks.ok()) << hooks.status().to_string();
    ASSERT_EQ(warnings.size(), 1u) << c.text;
    EXPECT_NE(warnings[0].text().find(c.message), std::string::npos) << warnings[0].text();
    EXPECT_TRUE(warnings[0].where.starts_with("column ")) << warnings[0].where;
  }
}

TEST(Check, LimitsHold) {
  std::string sum = "score";
  for (int i = 0; i < 300; ++i) sum += " + f32(kv + " + std::to_string(i) + ")";
  expect_refused({("logits = " + sum).c_str(), "nodes; allowed: at most 256"});

  std::string reads = "tensor t:f32[64]; logits = score";
  for (int i = 0; i < 9; ++i) reads += " + t[" + std::to_string(i) + "]";
  expect_refused({reads.c_str(), "logits reads tensors 9 times; allowed: at most 8"});

  std::string params = "param p0:i32";
  for (int i = 1; i < 70; ++i) params += ", p" + std::to_string(i) + ":i32";
  expect_refused({(params + "; mask = kv < p0").c_str(), "70 params and 0 tensors; allowed: 64 each"});

  EXPECT_TRUE(parse("mask = " + std::string(60, '(') + "kv" + std::string(60, ')') + " < 3").ok());
  expect_refused(
      {("mask = " + std::string(70, '(') + "kv" + std::string(70, ')') + " < 3").c_str(), "at most 64 levels of nesting"});
  expect_refused({("mask = " + std::string(20'000, '!') + "true").c_str(), "at most 64 levels of nesting"});
  expect_refused({("logits = score" + std::string(30'000, ' ') + std::string(40'000, '+')).c_str(),
                  "found 70014 bytes, expected at most 65536"});
  expect_refused({("param " + std::string(65, 'W') + ":i32; mask = kv < 3").c_str(), "is longer than 64 bytes"});
}

TEST(Check, TellsAllProblemsAtOnce) {
  const std::string message =
      parse("param W:i64; let t = foo; mask = kv + ; logits = score + kv; sink = f32(kv); weight = t").status().to_string();
  for (const char* part : {"column 9: found 'i64'", "unknown name 'foo'", "column 39: found ';', expected an expression",
                           "operands of '+' are f32 and i32", "sink uses kv"}) {
    EXPECT_NE(message.find(part), std::string::npos) << part << "\n" << message;
  }
  EXPECT_EQ(message.find("weight"), std::string::npos) << "what uses a broken name is no problem of its own\n" << message;
}

/// Values that nobody parsed are looked at too.
TEST(Check, RefusesBrokenValues) {
  auto first = [](const Hooks& hooks) {
    const std::vector<Finding> found = check(hooks);
    return found.empty() ? std::string() : found[0].message;
  };
  Hooks hooks;
  EXPECT_EQ(first(hooks), "");
  hooks.params = {{"a b", Type::i32, {}}};
  EXPECT_NE(first(hooks).find("\"a b\" is not a letter"), std::string::npos);
  hooks.params = {{"a", Type::f32, std::array{0.0, HUGE_VAL}}};
  EXPECT_NE(first(hooks).find("allowed: [least, greatest] of f32"), std::string::npos);
  hooks.params = {{"a", Type::u32, std::array{-1.0, 3.0}}};
  EXPECT_NE(first(hooks).find("allowed: [least, greatest] of u32"), std::string::npos);
  hooks.params = {};
  hooks.tensors = {{"t", Elem::f32, {{Axis::param, 0}}}};
  EXPECT_NE(first(hooks).find("has an axis of no i32 param"), std::string::npos);
}

}  // namespace
}  // namespace lathe::expr
