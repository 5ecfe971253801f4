// Hooks whose expression is CUDA text: kept as it is in every form, and nothing is known of it.
#include <gtest/gtest.h>

#include "hostile_texts.h"
#include "lathe/spec/expr/bytes_read.h"
#include "lathe/spec/expr/device_hooks.h"
#include "lathe/spec/expr/json.h"
#include "lathe/spec/expr/lexer.h"
#include "lathe/spec/expr/operators.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/expr/simplify.h"
#include "lathe/spec/expr/skip_class.h"
#include "lathe/spec/expr/tiles.h"

namespace lathe::expr {
namespace {

const std::string kText = "const char* s = \"a\\\\\";\n\treturn a0 <= a1; // ' ? \\n";

std::string text_at(const Hooks& hooks, Hook hook) {
  const Node& node = hooks.graph[hooks.root(hook)];
  return node.op == Op::cuda ? hooks.graph.text(node.value) : "no text";
}

Hooks mask_of(const std::string& text) {
  return *parse("mask = unsafe_cuda(" + quoted_text(text) + ", kv_pos, q_pos)");
}

TEST(Cuda, EveryFormKeepsTheText) {
  const Hooks hooks = mask_of(kText);
  EXPECT_EQ(text_at(hooks, Hook::mask), kText);
  EXPECT_TRUE(uses_cuda(hooks));
  EXPECT_EQ(to_text(hooks),
            "mask = unsafe_cuda(\"const char* s = \\\"a\\\\\\\\\\\";\\n\\treturn a0 <= a1; // ' ? \\\\n\", kv_pos, q_pos);\n");
  EXPECT_TRUE(*parse(to_text(hooks)) == hooks);
  EXPECT_TRUE(*hooks_from_json(to_json(hooks)) == hooks);
  EXPECT_TRUE(*make_hooks({{Hook::mask, unsafe_cuda(kText, {kv_pos, q_pos})}}) == hooks);
  EXPECT_EQ(text_at(canonicalise(hooks), Hook::mask), kText);
  const auto read = hooks_from_bytes(canonical_bytes(hooks));
  ASSERT_TRUE(read);
  EXPECT_EQ(text_at(*read, Hook::mask), kText);
  EXPECT_TRUE(*read == canonicalise(hooks));
}

TEST(Cuda, LineEndsAndTabsMayStandInAText) {
  EXPECT_EQ(text_at(*parse("mask = unsafe_cuda(\"\n\treturn true;\n\")"), Hook::mask), "\n\treturn true;\n");
}

TEST(Cuda, TheTextIsHashedVerbatim) {
  EXPECT_NE(canonical_bytes(mask_of("return a0 <= a1;")), canonical_bytes(mask_of("return a0 <=  a1;")));
  EXPECT_NE(canonical_bytes(mask_of("return a0 <= a1;")), canonical_bytes(mask_of("return a0 <= a1; ")));
  EXPECT_FALSE(mask_of("return a0 <= a1;") == mask_of("return a0 <= a1; "));
}

// Operands are expressions: their spellings, and the names of params, share a kernel.
TEST(Cuda, OperandsAreBroughtIntoTheirNormalForm) {
  const auto bytes = [](const char* text) { return canonical_bytes(*parse(text)); };
  EXPECT_EQ(bytes("param W:i32; mask = unsafe_cuda(\"return a0 < a1;\", kv + 1 + W, q)"),
            bytes("param u:f32, V:i32; let k = V + kv; mask = unsafe_cuda(\"return a0 < a1;\", 1 + k, q)"));
  EXPECT_NE(bytes("mask = unsafe_cuda(\"return a0 < a1;\", kv, q)"), bytes("mask = unsafe_cuda(\"return a0 < a1;\", q, kv)"));
  EXPECT_EQ(bytes("logits = unsafe_cuda(\"return a0;\", score); output = unsafe_cuda(\"return -a0;\", o)"),
            bytes("output = unsafe_cuda(\"return -a0;\", o); logits = unsafe_cuda(\"return a0;\", score)"));
}

TEST(Cuda, RoundTripsWhateverTheOrderOfHooks) {
  const Hooks hooks = *parse(
      "tensor s:f32[HQ]; output = unsafe_cuda(\"return a0;\", o); sink = unsafe_cuda(\"return 1;\");"
      "logits = let x = score * 2; unsafe_cuda(\"return a0 + a1;\", x, s[h])");
  EXPECT_TRUE(*parse(to_text(hooks)) == hooks) << to_text(hooks);
  EXPECT_TRUE(*hooks_from_json(to_json(hooks)) == hooks);
}

// A causal mask as an expression, and the same as text: of the text nothing is known.
TEST(Cuda, NoTileIsSkipped) {
  Scope scope;
  scope.qo_len = scope.kv_len = 1024;
  const Tile above{{0, 63}, {512, 575}, {0, 0}}, below{{512, 575}, {0, 63}, {0, 0}};
  const MaskTiles expression(canonicalise(*parse("mask = kv_pos <= q_pos"))), text(canonicalise(mask_of("return a0 <= a1;")));
  EXPECT_EQ(expression(scope, above), Truth::empty);
  EXPECT_EQ(expression(scope, below), Truth::full);
  EXPECT_EQ(text(scope, above), Truth::partial);
  EXPECT_EQ(text(scope, below), Truth::partial);
  EXPECT_EQ(skip_class(mask_of("return a0 <= a1;")), SkipClass::off);
  EXPECT_EQ(skip_class(*parse("mask = unsafe_cuda(\"return true;\")")), SkipClass::off);
  EXPECT_FALSE(is_row_predicate(*parse("mask = unsafe_cuda(\"return a0 > 2;\", q)")));
}

// Text may do more than its operands tell, so it is called for each element, whatever they change with.
TEST(Cuda, IsPrintedOnceAndCalledForEachElement) {
  const std::string source = device_hooks(canonicalise(*parse("mask = unsafe_cuda(\"return a0 > 2; // x\", q)")));
  const size_t function = source.find("LATHE_DEVICE bool cuda1([[maybe_unused]] int a0) {\nreturn a0 > 2; // x\n}\n");
  ASSERT_NE(function, std::string::npos) << source;
  EXPECT_EQ(source.find("// x", function + 80), std::string::npos) << source;
  const size_t visible = source.find("LATHE_DEVICE bool visible(");
  EXPECT_GT(source.find("const bool v0 = cuda1(q);"), visible) << source;
  EXPECT_EQ(device_hooks(*parse("mask = kv <= q")).find("cuda"), std::string::npos);
}

TEST(Cuda, RefusesWithPlaceAndReason) {
  struct Case {
    std::string text;
    const char* message;
  };
  const std::string all(kMaxCudaBytes, 'x'), half(kMaxCudaBytes / 2 + 1, 'y');
  const Case cases[] = {
      {"mask = unsafe_cuda", "column 19: found the end, expected '('"},
      {"mask = unsafe_cuda()", "column 20: found ')', expected a text in double quotes"},
      {"mask = unsafe_cuda(kv)", "column 20: found 'kv', expected a text in double quotes"},
      {"mask = unsafe_cuda('return true;')", "found '''"},
      {"mask = unsafe_cuda(\"\")", "the text of unsafe_cuda is empty"},
      {"mask = unsafe_cuda(\"return true;)", "column 20: found a text without an end"},
      {"mask = unsafe_cuda(\"\\x41\")", "column 21: found '\\' in a text"},
      {"mask = unsafe_cuda(\"\\\"", "column 20: found a text without an end"},
      {std::string("mask = unsafe_cuda(\"a\0b\")", 25), "column 22: found byte 0x00"},
      {"mask = unsafe_cuda(\"a\rb\")", "column 22: found byte 0x0D"},
      {"mask = unsafe_cuda(\"\xd0\xb5\")", "column 21: found byte 0xD0"},
      {"mask = unsafe_cuda(\"x\" kv)", "expected ')'"},
      {"mask = unsafe_cuda(\"x\", )", "expected an expression"},
      {"mask = unsafe_cuda(\"x\", \"y\")", "expected an expression"},
      {"mask = unsafe_cuda(\"x\") && kv < q", "expected"},
      {"mask = (unsafe_cuda(\"x\"))", "column 9: unsafe_cuda is a part of an expression; allowed: all of a hook"},
      {"mask = !unsafe_cuda(\"x\")", "unsafe_cuda is a part of an expression; allowed: all of a hook"},
      {"let m = unsafe_cuda(\"x\"); mask = m", "unsafe_cuda is a part of an expression; allowed: all of a hook"},
      {"param unsafe_cuda:i32; mask = kv < 3", "'unsafe_cuda' is a word of the language"},
      {"mask = unsafe_cuda(\"x\", b, h, hk, q, kv, tok, slot, q_pos, kv_pos)", "9 operands; allowed: at most 8"},
      {"mask = unsafe_cuda(\"x\", score)", "mask uses score"},
      {"logits = unsafe_cuda(\"x\", kv)", "logits drops what it transforms"},
      {"q_pos := unsafe_cuda(\"x\", q)", "q_pos is unsafe_cuda; allowed: an expression"},
      {"kv_pos := unsafe_cuda(\"x\", kv)", "kv_pos is unsafe_cuda; allowed: an expression"},
      {"weight = unsafe_cuda(\"x\", w)", "weight is unsafe_cuda; allowed: an expression"},
      {"mask = unsafe_cuda(\"" + all + "x\")", "has 16385 bytes; allowed: at most 16384"},
      {"mask = unsafe_cuda(\"" + half + "\"); logits = unsafe_cuda(\"" + half + "z\", score)",
       "the texts of unsafe_cuda have 16387 bytes; allowed: at most 16384"},
      {"mask = \"x\"", "found '\"x\"', expected an expression"},
  };
  for (const Case& c : cases) {
    const Result<Hooks> hooks = parse(c.text);
    ASSERT_FALSE(hooks.ok()) << c.text.substr(0, 100);
    EXPECT_NE(hooks.status().to_string().find(c.message), std::string::npos) << hooks.status().to_string();
  }
  EXPECT_TRUE(parse("mask = unsafe_cuda(\"" + all + "\")").ok());
  EXPECT_FALSE(make_hooks({{Hook::mask, !unsafe_cuda("return true;", {})}}).ok());
  EXPECT_FALSE(make_hooks({{Hook::mask, unsafe_cuda(std::string(1, '\0'), {})}}).ok());
}

TEST(Cuda, ByteFormsThatNobodyWritesAreRefused) {
  const Bytes good = canonical_bytes(mask_of("return a0 <= a1;"));
  ASSERT_TRUE(hooks_from_bytes(good));
  for (size_t length = 0; length < good.size(); ++length) EXPECT_FALSE(hooks_from_bytes(BytesView(good).first(length))) << length;
  for (size_t at = 0; at + 1 < good.size(); ++at) {  // whatever is still read can be printed, and has no NUL
    Bytes bytes = good;
    bytes[at] = std::byte{0};
    const auto hooks = hooks_from_bytes(bytes);
    EXPECT_EQ(hooks ? to_text(*hooks).find('\0') : std::string::npos, std::string::npos);
  }
}

// The texts that hostile strings are: they come out of every form as they went in, or are refused.
TEST(Cuda, HostileTextsAreKeptOrRefused) {
  size_t kept = 0, refused = 0;
  for (const std::string& s : testing::hostile_strings()) {
    const Result<Hooks> hooks = make_hooks({{Hook::logits, unsafe_cuda(s, {score})}});
    if (!hooks.ok()) {
      ++refused;
      continue;
    }
    ++kept;
    EXPECT_EQ(text_at(*hooks, Hook::logits), s);
    EXPECT_TRUE(*parse(to_text(*hooks)) == *hooks) << s;
    EXPECT_TRUE(*hooks_from_json(to_json(*hooks)) == *hooks) << s;
    EXPECT_EQ(text_at(*hooks_from_bytes(canonical_bytes(*hooks)), Hook::logits), s);
  }
  EXPECT_GT(kept, 500u);
  EXPECT_GT(refused, 100u);
}

}  // namespace
}  // namespace lathe::expr
