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
  EXPECT_THAT(explained(R"("mask":"causal")", {"--svg", "/nonexistent/map.svg"}).err, HasSubstr("--svg: /nonexistent/map.svg"));
  EXPECT_THAT(lathe.run({"explain", "--spec", R"({"op":"merge"})", "--q-len", "8"}).err, HasSubstr("only attention has a mask"));
  EXPECT_THAT(lathe.run({"explain", "--spec", "{}", "--svg", svg}).err, HasSubstr("--q-len: 0 is not allowed"));
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
      {mask("kv_pos <= W", {"--param", "W"}), "--param: W is not of the form name=value"},
      {mask("kv_pos <= W", {"--param", "W=x"}), "is not a number"},
      {mask("kv_pos <= W", {"--param", "W=1.5"}), "a whole number"},
      {mask(documents, {"--tensor", "st=" + short_file}), "has 3 entries"},
      {mask(documents, {"--tensor", "st=" + bad_file}), "entry 1 is not in -2147483648..2147483647, as i32 is"},
      {mask("tensor on: u8[TOK]; mask = on[tok] > 0", {"--tensor", "on=" + wide_file}), "entry 1 is not in 0..255, as u8 is"},
      {mask(documents, {"--tensor", "su=" + short_file}), "su is not read by the mask"},
      {mask(documents, {"--tensor", "st=/nowhere"}), "/nowhere"},
      {{"mask", "--expr", "kv_pos <= q_pos", "--q-len", "8", "--kv-len", "8", "--tile", "0x8"}, "--tile: 0x8"},
  };
  for (const auto& [args, words] : cases) {
    const Ran ran = lathe.run(args);
    EXPECT_EQ(ran.exit_code, 2) << args[2];
    EXPECT_THAT(ran.err, HasSubstr(words)) << args[2];
  }
}

}  // namespace
}  // namespace lathe::testing
