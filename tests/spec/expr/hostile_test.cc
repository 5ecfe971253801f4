// Bytes that nobody should send: they never crash the readers, and never reach printed source.
#include <gtest/gtest.h>

#include <algorithm>

#include "expression_cases.h"
#include "hostile_texts.h"
#include "lathe/spec/expr/device_source.h"
#include "lathe/spec/expr/json.h"
#include "lathe/spec/expr/names.h"
#include "lathe/spec/expr/operators.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/parser.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/expr/simplify.h"
#include "lathe/testing/seed.h"
#include "random_hooks.h"

namespace lathe::expr {
namespace {

using testing::hostile_strings;
using testing::jsons_with;
using testing::kMark;
using testing::Rng;
using testing::texts_with;

/// Prints every hook of `hooks`, as it is and canonical.
std::string source_of(const Hooks& hooks) {
  std::string out;
  for (const Hooks& form : {hooks, canonicalise(hooks)}) {
    for (size_t i = 0; i < kHooks; ++i) {
      if (form.roots[i] != kNone) out += device_source(form, static_cast<Hook>(i)).body();
    }
  }
  return out;
}

struct Counts {
  size_t tried = 0, accepted = 0, refused = 0;

  void take(const Result<Hooks>& hooks, const std::string& input) {
    ++tried;
    if (!hooks.ok()) {
      ++refused;
      const std::string message = hooks.status().to_string();
      EXPECT_TRUE(std::all_of(message.begin(), message.end(), [](char c) { return c == '\n' || static_cast<uint8_t>(c) >= 0x20; }))
          << "a control character in a message: " << message;
      EXPECT_LT(message.size(), 8'000u);
      return;
    }
    ++accepted;
    EXPECT_EQ(source_of(*hooks).find(kMark), std::string::npos) << input << "\n" << source_of(*hooks);
  }
};

TEST(Injection, NothingReachesPrintedSource) {
  const std::vector<std::string> strings = hostile_strings();
  ASSERT_GE(strings.size(), 1'000u);
  Counts counts;
  for (const std::string& s : strings) {
    for (const std::string& text : texts_with(s)) counts.take(parse(text), text);
    for (const std::string& json : jsons_with(s)) counts.take(hooks_from_json(json), json);
    counts.take(make_hooks({{Hook::mask, Term(InputTerm{Input::kv}) < param(s, Type::i32)}}), s);
    counts.take(make_hooks({{Hook::logits,
                             Term(InputTerm{Input::score}) + TensorTerm(s, Elem::f32, {Axis::qo_heads})(InputTerm{Input::h})}}),
                s);
    counts.take(make_hooks({{Hook::logits, call(s, {InputTerm{Input::score}})}}), s);
  }
  std::cout << strings.size() << " strings, " << counts.tried << " places: " << counts.refused << " refused, " << counts.accepted
            << " accepted, none in source\n";
  EXPECT_GT(counts.accepted, 20u) << "names that are sound are names";
  EXPECT_GT(counts.refused, 10'000u);
}

/// A hooks value that went past the readers is printed by slots all the same.
TEST(Injection, PrintedSourceKnowsNoNames) {
  for (const std::string& s : hostile_strings()) {
    Hooks hooks = *parse("param W:i32; tensor t:f32[HQ]; mask = kv < W; logits = score + t[h]");
    hooks.params[0].name = hooks.tensors[0].name = s;
    ASSERT_EQ(source_of(hooks).find(kMark), std::string::npos);
  }
}

TEST(Hostile, MutatedTextIsReadOrRefused) {
  Rng rng(lathe::testing::seed());
  testing::CaseCounts counts;
  for (int i = 0; i < 60'000; ++i) ASSERT_EQ(testing::check_mutated_text(rng, counts), "") << lathe::testing::repeat_command();
  EXPECT_GT(counts.read, 200);
}

TEST(Hostile, SharedExpressionsDoNotGrowWhenPrinted) {
  std::string text = "let v0 = score * 2;";
  for (int i = 1; i < 100; ++i)
    text += "let v" + std::to_string(i) + " = v" + std::to_string(i - 1) + " * v" + std::to_string(i - 1) + ";";
  const Result<Hooks> hooks = parse(text + "logits = v99");  // written out it has 2^99 factors
  ASSERT_TRUE(hooks.ok()) << hooks.status().to_string();
  const std::string printed = to_text(*hooks);
  EXPECT_LT(printed.size(), 10'000u);
  const Result<Hooks> again = parse(printed);
  ASSERT_TRUE(again.ok()) << again.status().to_string();
  EXPECT_TRUE(*again == *hooks);
  canonical_bytes(*hooks);
  EXPECT_FALSE(parse(text + "logits = log(v99)").ok()) << "messages show a part of it";
}

/// Lets that use the last one twice, for each way to combine: written out they would have 2^60 parts.
TEST(Hostile, SharedExpressionsDoNotGrowWhenSimplified) {
  const std::pair<const char*, const char*> combinations[] = {
      {"kv", "@ * @"},
      {"kv", "@ * (@ + 1)"},
      {"kv", "@ + (@ ^ 1)"},
      {"kv", "@ ^ (@ // 3)"},
      {"kv", "max(@, min(@, q) + 1)"},
      {"kv", "max(@ * 3, @)"},
      {"kv", "@ - abs(@ - q)"},
      {"kv", "kv < @ ? @ + 1 : @ - 1"},
      {"u", "@ * @ + @"},
      {"u", "@ ^ (@ + 1u)"},
      {"kv < 3", "(@ && kv < #) || (@ && q < #)"},
      {"kv < 3", "!(@ && kv < #) || (q < # && @)"},
      {"kv < 3", "!@ == (@ || q < #)"},
      {"kv < 3", "@ ? q < # : !@"},
  };
  for (const auto& [first, combination] : combinations) {
    std::string text = "param u:u32; let v0 = " + std::string(first) + ";";
    for (int i = 1; i < 60; ++i) {
      text += "let v" + std::to_string(i) + " = ";
      for (const char* c = combination; *c != '\0'; ++c) {
        if (*c == '@') {
          text += "v" + std::to_string(i - 1);
        } else if (*c == '#') {
          text += std::to_string(i * 1000);
        } else {
          text += *c;
        }
      }
      text += ";";
    }
    const std::string_view start = first;
    text += start == "kv" ? "mask = v59 < 3" : start == "u" ? "mask = v59 < 3u" : "mask = v59";
    Hooks hooks;
    {
      Parser parser;
      parser.add_statements({}, text);
      hooks = parser.hooks();  // before check(), which refuses the overflow of some
    }
    ASSERT_NE(hooks.root(Hook::mask), kNone) << text;
    const Hooks canonical = canonicalise(hooks);
    EXPECT_LT(canonical.graph.size(), 6'000u) << combination;
    Rng rng(lathe::testing::seed());
    for (int i = 0; i < 20; ++i) {
      const testing::RandomEnvironment environment(hooks, rng);
      const testing::RenamedEnvironment renamed(canonical, hooks, environment);
      ASSERT_EQ(interpret(hooks, hooks.root(Hook::mask), environment).i,
                interpret(canonical, canonical.root(Hook::mask), renamed).i)
          << combination;
    }
  }
}

}  // namespace
}  // namespace lathe::expr
