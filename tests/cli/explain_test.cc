// lathe explain: ranges of a mask, costs of hooks, warnings and notes, and what two specs share.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "program.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

constexpr const char* kTile = R"("tile":{"warps":4,"stages":2,"classes":[{"q":64,"kv":32}]},"gqa_pack":"off")";

Json explained(const Program& lathe, const std::string& fields, std::vector<std::string> more = {}) {
  std::vector<std::string> args{"explain", "--json", "--spec", "{" + fields + "}"};
  args.insert(args.end(), more.begin(), more.end());
  const Ran ran = lathe.run(args);
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  return Json::parse(ran.out);
}

/// 256 rows are the last of 1024 keys: row 0 is at position 768.
TEST(Explain, RangesOfTheFirstMiddleAndLastRows) {
  Program lathe;
  const std::string streaming =
      std::string(kTile) + R"x(,"hooks":"param S, W: i32; mask = kv_pos <= q_pos && (kv_pos < S || q_pos - kv_pos < W)")x";
  const std::vector<std::string> request{"--q-len", "256", "--kv-len", "1024", "--param", "S=4", "--param", "W=100"};
  const Json ranges = explained(lathe, streaming, request)["mask"]["ranges"];
  EXPECT_EQ(ranges, Json::parse(R"([
    {"rows":[0,64],"seen":[[0,4],[669,832]],"full":[[0,4],[732,769]]},
    {"rows":[128,192],"seen":[[0,4],[797,960]],"full":[[0,4],[860,897]]},
    {"rows":[192,256],"seen":[[0,4],[861,1024]],"full":[[0,4],[924,961]]}])"));
  std::vector<std::string> args{"explain", "--spec", "{" + streaming + "}"};
  args.insert(args.end(), request.begin(), request.end());
  EXPECT_THAT(lathe.run(args).out, AllOf(HasSubstr("[128, 192)  [0, 4) [797, 960)"), HasSubstr("[0, 4) [860, 897)")));
  const Json causal = explained(lathe, std::string(kTile) + R"(,"mask":"causal")", {"--q-len", "64", "--kv-len", "64"});
  EXPECT_EQ(causal["mask"]["ranges"], Json::parse(R"([{"rows":[0,64],"seen":[[0,64]],"full":[[0,1]]}])"));
}

/// It was told as "1 an element, 11 a row", but the source does all twelve for each element.
TEST(Explain, CostsAreThoseOfTheSource) {
  Program lathe;
  const std::string hooks =
      R"x("hooks":"param a: f32; param F: f32 in [1, 1e6]; param W: i32; query = x * (1 + a * log(floor(f32(pos + 1) / F) + 1));
       mask = kv_pos <= q_pos && q_pos - kv_pos < W; output = o * exp2(a)")x";
  std::string flat = hooks;
  flat.erase(std::remove(flat.begin(), flat.end(), '\n'), flat.end());
  const Json json = explained(lathe, flat)["hooks"]["hooks"];
  EXPECT_EQ(json["query"]["operations"], Json::parse(R"({"each":12,"of":"an element"})"));
  EXPECT_EQ(json["output"]["operations"], Json::parse(R"({"each":2,"of":"an element"})"));
  EXPECT_EQ(json["mask"]["operations"]["element"], 3);  // two comparisons and their conjunction
  EXPECT_GT(json["mask"]["operations"]["row"], 0);
  const Ran source = lathe.run({"source", "--spec", "{" + flat + "}"});
  const size_t begin = source.out.find("LATHE_DEVICE float query("), end = source.out.find("\n}\n", begin);
  ASSERT_NE(begin, std::string::npos) << source.err;
  const std::string body = source.out.substr(begin, end - begin);
  int statements = 0;
  for (size_t at = body.find(" v"); at != std::string::npos; at = body.find(" v", at + 1)) {
    const size_t sign = body.find_first_not_of("0123456789", at + 2);
    statements += body.compare(sign, 3, " = ") == 0 ? 1 : 0;
  }
  EXPECT_EQ(statements, 12) << body;
  EXPECT_THAT(lathe.run({"explain", "--spec", "{" + flat + "}"}).out,
              HasSubstr("operations: 12 an element; 11 of them are the same for a whole row or tile, and done again for each"));
}

/// No command told of them.
TEST(Explain, WarningsAndNotesAreTold) {
  Program lathe;
  const std::string hooks = R"("hooks":"tensor t: f32[N], doc: i32[KVPOS]; param W: i32; logits = score + t[kv] * f32(W * q); )"
                            R"(key = x * 2; mask = doc[kv] != -1")";
  const Json json = explained(lathe, hooks)["hooks"];
  ASSERT_EQ(json["warnings"].size(), 2u) << json;
  EXPECT_THAT(json["warnings"].dump(), AllOf(HasSubstr("'kv', is not proven to stay in its axis; it is clamped"),
                                             HasSubstr("may overflow; it wraps"), HasSubstr("column ")));
  EXPECT_THAT(json["notes"].dump(),
              AllOf(HasSubstr("apply it once, when keys and values are appended"), HasSubstr("half-open bounds")));
  const std::string spec = "{" + hooks + "}";
  for (const auto& args : {std::vector<std::string>{"explain", "--spec", spec},
                           {"explain", "--json", "--spec", spec},
                           {"compile", "--spec", spec, "--arch", "toaster"}}) {
    const std::string err = lathe.run(args).err;
    const size_t first = err.find("lathe: warning: hooks: column ");
    ASSERT_NE(first, std::string::npos) << args[0] << err;
    EXPECT_THAT(err, AllOf(HasSubstr("it is clamped"), HasSubstr("it wraps")));
    EXPECT_EQ(err.find("it is clamped"), err.rfind("it is clamped")) << "once";
  }
  const Ran run = lathe.run({"run", "--spec", R"x({"hooks":"param W: i32; logits = score + f32(W * q)"})x", "--batch",
                             R"x({"num_kv_heads":1,"qo_lens":[1],"kv_lens":[1]})x"});
  EXPECT_THAT(run.err, HasSubstr("it wraps"));
}

TEST(Explain, HeadsThatAreApart) {
  Program lathe;
  const auto told = [&](const std::string& mask) {
    return lathe.run({"explain", "--spec", R"({"hooks":"mask = )" + mask + "\"}"}).out;
  };
  EXPECT_THAT(told("kv_pos <= q_pos && (hk == 0 || q_pos - kv_pos < 20)"),
              HasSubstr("heads see different keys and are planned one by one"));
  EXPECT_THAT(told("kv_pos <= q_pos"), AllOf(HasSubstr("skip"), Not(HasSubstr("one by one"))));
}

/// The canonical form has bounds in its expressions alone; what was declared is told beside them.
TEST(Explain, BoundsOfTensorsAreTold) {
  Program lathe;
  const std::string hooks = R"("hooks":"tensor t: i32[TOK] in [0, 5] sorted, bs: f32[HQ, 6]; logits = score + bs[h, t[tok]]")";
  const Json json = explained(lathe, hooks)["hooks"];
  EXPECT_EQ(json["tensors"], Json::parse(R"(["tensor t: i32[TOK] in [0, 5] sorted","tensor bs: f32[HQ, 6]"])"));
  EXPECT_EQ(json["hooks"]["logits"]["text"], "score + bs[h, min(max(t[tok], 0), 5)]");
  EXPECT_EQ(json["warnings"], Json::array());
  EXPECT_THAT(lathe.run({"explain", "--spec", "{" + hooks + "}"}).out, HasSubstr("tensor t: i32[TOK] in [0, 5] sorted"));
}

TEST(Explain, WhatTwoSpecsShare) {
  Program lathe;
  const auto beside = [&](const char* a, const char* b) { return lathe.run({"explain", "--spec", a, "--with", b}).out; };
  EXPECT_THAT(
      beside(R"({"hooks":"param W: i32; mask = kv_pos <= q_pos && q_pos - kv_pos < W"})",
             R"({"label":"x","hooks":"param unused: f32; param V: i32; mask = !(q_pos - V >= kv_pos) && q_pos >= kv_pos"})"),
      HasSubstr("one kernel: nothing that decides it differs"));
  const std::string other = beside(R"({"group_size":4,"hooks":"param W: i32; mask = q_pos - kv_pos < W; sink = 1"})",
                                   R"({"group_size":2,"hooks":"param W: i32 in [0, 9]; mask = q_pos - kv_pos <= W"})");
  EXPECT_THAT(other, AllOf(HasSubstr("two kernels"), HasSubstr("  group_size: --spec has 4, --with has 2\n"),
                           HasSubstr("  hooks.params: --spec has param p0: i32, --with has param p0: i32 in [0, 9]\n"),
                           HasSubstr("  hooks.sink: --spec has 1.0, --with has nothing\n"), HasSubstr("  hooks.mask: "),
                           Not(HasSubstr("canonical")), Not(HasSubstr("head_dim_qk: --spec"))));
  const Json json = explained(lathe, R"("group_size":4)", {"--with", R"({"group_size":4,"lse":"ln"})"})["with"];
  EXPECT_EQ(json["one_kernel"], false);
  EXPECT_EQ(json["differences"][0], Json::parse(R"({"field":"lse","spec":"none","with":"ln"})"));
  const Ran without = lathe.run({"explain", "--spec", "{}", "--with", "{}"}, {{"LATHE_CXX", "/nonexistent/c++"}});
  EXPECT_THAT(without.out, HasSubstr("one kernel"));
  EXPECT_EQ(lathe.run({"explain", "--spec", "-", "--with", "-"}).exit_code, 2);
  EXPECT_THAT(lathe.run({"explain", "--spec", "{}", "--with", R"({"group_size":0})"}).err, HasSubstr("group_size: 0"));
}

}  // namespace
}  // namespace lathe::testing
