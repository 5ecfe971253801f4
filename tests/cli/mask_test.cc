// lathe mask: counts that dense evaluation confirms, pictures and refusals.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "program.h"

namespace lathe::testing {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

std::vector<std::string> mask(const std::string& expr, std::vector<std::string> more = {}, const char* q_len = "512",
                              const char* kv_len = "768") {
  std::vector<std::string> args{"mask", "--expr", expr, "--q-len", q_len, "--kv-len", kv_len, "--tile", "64x32"};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

TEST(Mask, AnalysisIsDenseEvaluation) {
  Program lathe;
  const std::vector<std::vector<std::string>> cases{
      mask("kv_pos <= q_pos", {"--json"}),
      mask("param W: i32; mask = kv_pos <= q_pos && q_pos - kv_pos < W", {"--param", "W=100", "--json"}),
      mask("abs(q_pos - kv_pos) <= W", {"--param", "W=77", "--json"}),
      mask("kv_pos <= q_pos && (kv_pos < S || q_pos - kv_pos < W)", {"--param", "S=4", "--param", "W=200", "--json"}),
  };
  for (const auto& args : cases) {
    const Ran ran = lathe.run(args);
    ASSERT_EQ(ran.exit_code, 0) << ran.err;
    const Json json = Json::parse(ran.out);
    EXPECT_EQ(json["skip"], "ranges");
    for (const char* truth : {"empty", "full", "partial"}) EXPECT_EQ(json["analysis"][truth], json["dense"][truth]) << ran.out;
    EXPECT_EQ(json["dense"]["empty"].get<int>() + json["dense"]["full"].get<int>() + json["dense"]["partial"].get<int>(), 8 * 24);
    EXPECT_GT(json["dense"]["empty"], 0);
    EXPECT_GT(json["dense"]["partial"], 0);
  }
}

/// Rows with spans of their own: full tiles too are found, across the rows of several images.
// A mask that is true everywhere is dropped from the normal form; the command read it from there and died.
TEST(Mask, TrueEverywhereIsAMaskToo) {
  Program lathe;
  for (const char* expr : {"true", "q <= q", "-5 < kv_len", "mask = kv >= 0; logits = score * 2"}) {
    const Ran ran = lathe.run(mask(expr, {"--json"}));
    ASSERT_EQ(ran.exit_code, 0) << expr << ran.err;
    const Json json = Json::parse(ran.out);
    EXPECT_EQ(json["mask"], "true") << expr;
    EXPECT_EQ(json["analysis"]["full"], 8 * 24) << ran.out;
    EXPECT_EQ(json["dense"]["full"], 8 * 24) << ran.out;
    EXPECT_EQ(lathe.run(mask(expr)).exit_code, 0) << expr;
  }
}

TEST(Mask, SpansOfTensorsAreDenseEvaluation) {
  Program lathe;
  std::string begins, ends;
  for (int i = 0; i < 512; ++i) {
    const int position = i + 256, image = position / 50 * 50;
    const bool is_text = position / 50 % 3 == 0;
    begins += std::to_string(is_text ? position : image) + "\n";
    ends += std::to_string(is_text ? position : image + 100) + "\n";
  }
  const std::string lo = lathe.file("lo", begins), hi = lathe.file("hi", ends);
  const std::string expr = "tensor lo, hi: i32[TOK] summary; mask = kv_pos <= q_pos || (lo[tok] <= kv_pos && kv_pos < hi[tok])";
  const Ran ran = lathe.run(mask(expr, {"--tensor", "lo=" + lo, "--tensor", "hi=" + hi, "--json"}));
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  const Json json = Json::parse(ran.out);
  for (const char* truth : {"empty", "full", "partial"}) EXPECT_EQ(json["analysis"][truth], json["dense"][truth]) << ran.out;
  EXPECT_GT(json["dense"]["full"], 0);
  EXPECT_GT(json["dense"]["partial"], 0);
}

TEST(Mask, ReadsTensorsAndDrawsPictures) {
  Program lathe;
  std::string starts;
  for (int i = 0; i < 512; ++i) starts += std::to_string(256 + i / 100 * 100) + "\n";
  const std::string file = lathe.file("st", starts), svg = lathe.file("map.svg", "");
  const std::string expr = "tensor st: i32[TOK] sorted; mask = st[tok] <= kv_pos && kv_pos <= q_pos";
  const Ran json = lathe.run(mask(expr, {"--tensor", "st=" + file, "--json", "--svg", svg}));
  ASSERT_EQ(json.exit_code, 0) << json.err;
  EXPECT_EQ(Json::parse(json.out)["analysis"]["empty"], Json::parse(json.out)["dense"]["empty"]);
  std::ifstream stream(svg);
  const std::string picture{std::istreambuf_iterator<char>(stream), {}};
  EXPECT_THAT(picture, HasSubstr("<svg xmlns"));
  EXPECT_THAT(picture, HasSubstr("</svg>"));
  for (const char* truth : {"empty", "full", "partial"})
    EXPECT_THAT(picture, HasSubstr(">" + Json::parse(json.out)["analysis"][truth].dump() + " " + truth + "</text>"));
  const Ran text = lathe.run(mask(expr, {"--tensor", "st=" + file}));
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_THAT(text.out, HasSubstr(". empty   # full   + partial"));
  const Ran without = lathe.run(mask(expr));
  EXPECT_THAT(without.out, HasSubstr("not evaluated: not every tensor is given"));
}

/// The map of a spec is that of its mask in the kernel's own tiles, whether the mask is a field or a hook.
TEST(Mask, ExplainDrawsIt) {
  Program lathe;
  const std::string svg = lathe.file("map.svg", "");
  const std::string tile = R"("tile":{"warps":4,"stages":2,"classes":[{"q":64,"kv":32}]},"gqa_pack":"off")";
  const auto explained = [&](const std::string& mask, std::vector<std::string> more) {
    std::vector<std::string> args{"explain", "--spec", "{" + tile + "," + mask + "}", "--q-len", "512", "--kv-len", "768"};
    args.insert(args.end(), more.begin(), more.end());
    return lathe.run(args);
  };
  const Ran field = explained(R"("mask":"causal_window")", {"--param", "window=100", "--svg", svg});
  ASSERT_EQ(field.exit_code, 0) << field.err;
  const Ran hook = explained(R"("hooks":"param W: i32; mask = kv_pos <= q_pos && q_pos - kv_pos < W")", {"--param", "W=100"});
  ASSERT_EQ(hook.exit_code, 0) << hook.err;
  const Ran map = lathe.run(mask("kv_pos <= q_pos && q_pos - kv_pos < W", {"--param", "W=100", "--json"}));
  const Json counts = Json::parse(map.out)["analysis"];
  const std::string line = "512 rows and 768 keys in tiles of 64 by 32: " + counts["empty"].dump() + " empty, " +
                           counts["full"].dump() + " full, " + counts["partial"].dump() + " partial";
  EXPECT_THAT(field.out, HasSubstr(line));
  EXPECT_THAT(hook.out, HasSubstr(line));
  std::ifstream stream(svg);
  const std::string picture{std::istreambuf_iterator<char>(stream), {}};
  EXPECT_THAT(picture, HasSubstr(">" + counts["empty"].dump() + " empty</text>"));
  EXPECT_THAT(explained(R"("mask":"window")", {}).err, HasSubstr("--param: window is missing; the mask depends on it"));
  EXPECT_THAT(explained(R"("mask":"causal")", {"--svg", "/nonexistent/map.svg"}).err, HasSubstr("--svg: \"/nonexistent/map.svg\""));
  EXPECT_THAT(lathe.run({"explain", "--spec", R"({"op":"merge"})", "--q-len", "8"}).err, HasSubstr("only attention has a mask"));
  EXPECT_THAT(lathe.run({"explain", "--spec", "{}", "--svg", svg}).err, HasSubstr("--svg: is given without --q-len and --kv-len"));
  // They were passed over.
  EXPECT_THAT(lathe.run({"explain", "--spec", "{}", "--param", "W=3"}).err, HasSubstr("--param: is given without --q-len"));
  EXPECT_THAT(lathe.run({"explain", "--spec", "{}", "--tensor", "t=x"}).err, HasSubstr("--tensor: is given without --q-len"));
}

TEST(Mask, Refusals) {
  Program lathe;
  const std::string short_file = lathe.file("short", "1 2 3"), bad_file = lathe.file("bad", "1 two 3"),
                    wide_file = lathe.file("wide", "1 256");
  const std::string documents = "tensor st: i32[TOK]; mask = st[tok] <= kv_pos";
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases{
      {mask("kv_pos <= "), "column"},
      {mask("logits = score; mask = dot > 0.0"), "dot"},
      {mask("sink = 1.0; mask = true", {}, "0"), "--q-len: 0 is not allowed"},
      {mask("kv_pos <= q_pos", {}, "512", "99999999999"), "--kv-len"},
      {mask("kv_pos <= W"), "W"},
      {mask("kv_pos <= W", {"--param", "W"}), "--param: \"W\" is not of the form name=value"},
      {mask("kv_pos <= W", {"--param", "W=x"}), "is not a number"},
      {mask("kv_pos <= W", {"--param", "W=1.5"}), "a whole number"},
      {mask(documents, {"--tensor", "st=" + short_file}), "has 3 entries"},
      {mask(documents, {"--tensor", "st=" + bad_file}), "entry 1 is not in -2147483648..2147483647, as i32 is"},
      {mask("tensor on: u8[TOK]; mask = on[tok] > 0", {"--tensor", "on=" + wide_file}), "entry 1 is not in 0..255, as u8 is"},
      {mask(documents, {"--tensor", "su=" + short_file}), "\"su\" is not a tensor that the mask reads"},
      {mask(documents, {"--tensor", "st=/nowhere"}), "/nowhere"},
      {{"mask", "--expr", "kv_pos <= q_pos", "--q-len", "8", "--kv-len", "8", "--tile", "0x8"}, "--tile: \"0x8\""},
      {{"mask", "--expr", "kv < 3", "--q-len", "8", "--kv-len", "8", "--tile", "9223372036854775807x64"}, "both in 1..16777216"},
      {mask(documents, {"--tensor", "st=" + short_file, "--heads", "0x"}), "--heads"},
      {mask("kv < 3", {"--heads", "-1"}), "--heads: -1 is not allowed; allowed: 1..1024"},
      {mask("kv < 3", {"--heads", "6", "--group", "4"}), "--heads: 6 is not allowed; allowed: multiples of the 4"},
      {mask("kv < 3", {"--heads", "4", "--head", "4"}), "--head: 4 is not allowed; allowed: 0..3"},
      {mask("kv < 3", {"--group", "-1"}), "--group: -1 is not allowed; allowed: 1..1024"},
  };
  for (const auto& [args, words] : cases) {
    const Ran ran = lathe.run(args);
    EXPECT_EQ(ran.exit_code, 2) << args[2];
    EXPECT_THAT(ran.err, HasSubstr(words)) << args[2];
  }
}

/// They counted those of a prefix that nobody saw.
TEST(Mask, ColumnsAreThoseOfTheText) {
  Program lathe;
  EXPECT_THAT(lathe.run(mask("kv_pos <= WW + q_poz", {"--param", "WW=3"})).err,
              HasSubstr("--expr, column 16: unknown name 'q_poz' (did you mean q_pos?)"));
  EXPECT_THAT(lathe.run(mask("kv <")).err, HasSubstr("--expr, column 5: found the end, expected an expression"));
  for (const char* text : {"", ";", "const C = 3", "sink = 1"})
    EXPECT_THAT(lathe.run(mask(text)).err, HasSubstr("--expr: has no mask; expected an expression of bool, or hooks with mask ="));
}

TEST(Mask, DeclarationsMayComeBeforeTheExpression) {
  Program lathe;
  const Ran whole = lathe.run(mask("mask = kv_pos <= q_pos && kv < 3", {"--json"}));
  for (const auto& args :
       {mask("const C = 3; kv_pos <= q_pos && kv < C", {"--json"}), mask("let p = q_pos; kv_pos <= p && kv < 3;", {"--json"}),
        mask("kv_pos := kv; kv_pos <= q_pos && kv < W", {"--json", "--param", "W=3"}),
        mask("param W: i32; kv_pos <= q_pos && kv < W", {"--json", "--param", "W=3"}),
        mask("mask = kv_pos <= q_pos && kv < W", {"--json", "--param", "W=3"})}) {
    const Ran ran = lathe.run(args);
    ASSERT_EQ(ran.exit_code, 0) << args[2] << ran.err;
    for (const char* truth : {"empty", "full", "partial"})
      EXPECT_EQ(Json::parse(ran.out)["analysis"][truth], Json::parse(whole.out)["analysis"][truth]) << args[2];
  }
  EXPECT_THAT(lathe.run(mask("kv < 3; q < 3")).err, HasSubstr("--expr, column 9: found 'q', expected no second mask"));
  EXPECT_THAT(lathe.run(mask("masc = kv < 3")).err, HasSubstr("--expr, column 1: found 'masc', expected a declaration"));
}

/// A search for "mask =" by regular expression went down one level of the stack for each byte.
TEST(Mask, LongTextsAreRead) {
  Program lathe;
  const Ran ran = lathe.run(mask("mask<" + std::string(50'000, ' ') + ">= kv < 3"));
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_THAT(ran.err, HasSubstr("column 50006: found '>='"));
}

/// The product of the extents wrapped to the number of entries, and elements far outside were read.
TEST(Mask, ExtentsWhoseProductWrapsAreRefused) {
  Program lathe;
  std::string numbers;
  for (int i = 0; i < 64; ++i) numbers += "1 ";
  const Ran ran =
      lathe.run(mask("tensor t:i32[201561927,1047664195,2015683168,566877150]; mask = "
                     "t[100000000,clamp(q,0,7)*100000000,3,5] < kv",
                     {"--tensor", "t=" + lathe.file("numbers", numbers)}));
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_THAT(ran.err, HasSubstr("its axes need more than 2^63"));
}

TEST(Mask, ATensorIsGivenOnce) {
  Program lathe;
  const std::string a = lathe.file("a", "1"), b = lathe.file("b", "2");
  const Ran ran = lathe.run(mask("tensor t: i32[1]; mask = kv < t[0]", {"--tensor", "t=" + a, "--tensor", "t=" + b}));
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_THAT(ran.err, HasSubstr("--tensor: t is given twice; allowed: once"));
}

/// Only head 0 was looked at.
TEST(Mask, HeadsAreLookedAtTogetherOrOneByOne) {
  Program lathe;
  const std::string flags = lathe.file("flags", "0 1 1 1"), groups = lathe.file("groups", "0 1");
  const auto counts = [&](const std::string& expr, std::vector<std::string> more) {
    more.insert(more.end(), {"--param", "W=64", "--json", "--heads", "4"});
    const Ran ran = lathe.run(mask("param W: i32; " + expr, more));
    EXPECT_EQ(ran.exit_code, 0) << ran.err;
    const Json json = Json::parse(ran.out);
    EXPECT_EQ(json["heads"], 4);
    for (const char* truth : {"empty", "full", "partial"}) EXPECT_EQ(json["analysis"][truth], json["dense"][truth]) << ran.out;
    return json["analysis"].dump().substr(0, json["analysis"].dump().find("\"ms\""));
  };
  const std::string duo = "tensor st: u8[HQ]; mask = kv_pos <= q_pos && (st[h] == 0 || q_pos - kv_pos < W)";
  const std::string flag = "st=" + flags;
  const std::string causal = counts("mask = kv_pos <= q_pos || kv < -W", {}),
                    window = counts("mask = kv_pos <= q_pos && q_pos - kv_pos < W", {});
  EXPECT_NE(causal, window);
  EXPECT_EQ(counts(duo, {"--tensor", flag, "--head", "0"}), causal);
  EXPECT_EQ(counts(duo, {"--tensor", flag, "--head", "3"}), window);
  const std::string all = counts(duo, {"--tensor", flag});
  EXPECT_NE(all, causal);
  EXPECT_NE(all, window);
  const std::string of_groups = "tensor st: u8[HKV]; mask = kv_pos <= q_pos && (st[hk] == 0 || q_pos - kv_pos < W)";
  EXPECT_EQ(counts(of_groups, {"--tensor", "st=" + groups, "--group", "2", "--head", "1"}), causal);
  EXPECT_EQ(counts(of_groups, {"--tensor", "st=" + groups, "--group", "2", "--head", "2"}), window);
  const Ran text = lathe.run(mask("kv_pos <= q_pos", {"--heads", "4"}));
  EXPECT_THAT(text.out, HasSubstr("all 4 together: empty where none sees a key, full where each sees every one"));
  EXPECT_THAT(lathe.run(mask("kv_pos <= q_pos", {"--heads", "4", "--head", "1"})).out, HasSubstr("head 1 of 4"));
}

}  // namespace
}  // namespace lathe::testing
