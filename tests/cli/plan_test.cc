// lathe plan: figures, pictures and refusals.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>

#include "program.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

const std::vector<std::string> kShape{"--heads", "32/8", "--head-dim", "128", "--sms", "132"};

std::vector<std::string> with(std::vector<std::string> args, const std::vector<std::string>& more = kShape) {
  args.insert(args.begin(), "plan");
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

// 40 conversations, every second of which begins as the one before.
std::string mooncake() {
  std::string text;
  for (int i = 0; i < 40; ++i) {
    text += R"({"timestamp": )" + std::to_string(1000 * i) + R"(, "input_length": )" + std::to_string(600 + 37 * i % 400) +
            R"(, "output_length": )" + std::to_string(5 + i % 7) + R"(, "hash_ids": [)" + std::to_string(i / 2) + ", " +
            std::to_string(100 + i) + "]}\n";
  }
  return text;
}

TEST(Plan, JsonHoldsEveryPolicyAndKindOfStep) {
  Program lathe;
  const Ran ran = lathe.run(with({"--trace", lathe.file("t.jsonl", mooncake()), "--batch", "8", "--chunk", "512", "--json"}));
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  const Json json = Json::parse(ran.out);
  EXPECT_EQ(json["trace"]["requests"], 40);
  EXPECT_EQ(json["batch"], 8);
  EXPECT_EQ(json["heads"], "32/8");
  EXPECT_EQ(json["whole"], true);
  for (const char* policy : {"ours", "shared", "uniform_chunk", "no_split"}) {
    const Json& p = json[policy];
    EXPECT_EQ(p["steps"], p["decode"]["steps"].get<int>() + p["mixed"]["steps"].get<int>()) << policy;
    for (const Json* figures : {&p, &p["decode"], &p["mixed"], &p["drain"]}) {
      EXPECT_GT((*figures)["steps"], 0);
      for (const char* name : {"imbalance", "efficiency_loss", "plan_us"}) {
        const Json& f = (*figures)[name];
        EXPECT_LE(f["p50"], f["p99"]) << policy << name;
        EXPECT_LE(f["p99"], f["max"]) << policy << name;
      }
      EXPECT_GE((*figures)["imbalance"]["p50"], 0.999);
      // Useful work counts what requests share once for each of them.
      EXPECT_GE((*figures)["efficiency_loss"]["p50"], std::string_view(policy) == "shared" ? 0.5 : 1.0) << policy;
      EXPECT_GT((*figures)["bytes"], 0);
    }
    EXPECT_GE(p["imbalance"]["max"], p["decode"]["imbalance"]["max"]);
    EXPECT_EQ(p["mixed"]["steps"], json["ours"]["mixed"]["steps"]);
  }
  EXPECT_EQ(json["no_split"]["decode"]["bytes"], json["uniform_chunk"]["decode"]["bytes"]);  // decodes: every key once
}

TEST(Plan, SameInputSameFigures) {
  Program lathe;
  const auto figures = [&] {
    Json json =
        Json::parse(lathe.run(with({"--synthetic", "zipf", "--batch", "16", "--max-steps", "5", "--seed", "3", "--json"})).out);
    EXPECT_EQ(json["whole"], false);
    json.erase("seconds");
    for (const char* policy : {"ours", "shared", "uniform_chunk", "no_split"}) {
      json[policy].erase("plan_us");
      json[policy]["decode"].erase("plan_us");
    }
    return json;
  };
  const Json first = figures();
  EXPECT_EQ(first, figures());
  EXPECT_EQ(first["ours"]["decode"]["steps"], 5);
  EXPECT_EQ(first["synthetic"]["seed"], 3);
}

TEST(Plan, TableForPeople) {
  Program lathe;
  const Ran ran = lathe.run(with({"--trace", lathe.file("t.jsonl", mooncake()), "--batch", "8", "--policy", "ours,no_split"}));
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_THAT(ran.out, AllOf(HasSubstr("40 requests"), HasSubstr("mixed steps"), HasSubstr("decode steps"),
                             HasSubstr("drain steps"), HasSubstr("no_split"), Not(HasSubstr("uniform_chunk"))));
  const Ran decodes = lathe.run(with({"--trace", lathe.file("t.jsonl", mooncake()), "--batch", "8", "--chunk", "0"}));
  EXPECT_THAT(decodes.out, AllOf(HasSubstr("prompts computed elsewhere"), Not(HasSubstr("mixed steps"))));
}

TEST(Plan, TimelineOfAStep) {
  Program lathe;
  const std::string page = lathe.file("page.html", "");
  const Ran ran =
      lathe.run(with({"--synthetic", "one-long", "--batch", "64", "--max-steps", "2", "--timeline", page, "--step", "1"}));
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  std::ifstream in(page);
  const std::string html{std::istreambuf_iterator<char>(in), {}};
  EXPECT_THAT(html, AllOf(HasSubstr("one-long: step 1, decode, 64 requests"), HasSubstr("<h2>ours</h2>"),
                          HasSubstr("<h2>no_split</h2>"), HasSubstr("65536 keys"), HasSubstr("</html>")));
  const Ran beyond =
      lathe.run(with({"--synthetic", "one-long", "--batch", "64", "--max-steps", "2", "--timeline", page, "--step", "2"}));
  EXPECT_EQ(beyond.exit_code, 2);
  EXPECT_THAT(beyond.err, HasSubstr("--step: 2: there was no such step"));
  const Ran nowhere =
      lathe.run(with({"--synthetic", "one-long", "--batch", "64", "--max-steps", "2", "--timeline", "/nonexistent/page.html"}));
  EXPECT_EQ(nowhere.exit_code, 2);
  EXPECT_THAT(nowhere.err, HasSubstr("/nonexistent/page.html"));
}

TEST(Plan, RefusalsNameWhatIsWrong) {
  Program lathe;
  const std::string trace = lathe.file("t.jsonl", mooncake());
  const struct {
    std::vector<std::string> args;
    const char* says;
  } wrong[] = {
      {{"--batch", "8"}, "--trace"},
      {{"--trace", trace}, "--batch"},
      {{"--trace", trace, "--synthetic", "zipf", "--batch", "8"}, "not both"},
      {{"--trace", trace, "--batch", "0"}, "--batch"},
      {{"--trace", trace, "--batch", "x"}, "--batch"},
      {{"--trace", trace, "--batch", "99999999999"}, "--batch"},
      {{"--trace", trace, "--batch", "8", "--heads", "32"}, "--heads"},
      {{"--trace", trace, "--batch", "8", "--heads", "32/8/2"}, "--heads"},
      {{"--trace", trace, "--batch", "8", "--heads", "/8"}, "--heads"},
      {{"--trace", trace, "--batch", "8", "--heads", "30/8"}, "30 is not a multiple"},
      {{"--trace", trace, "--batch", "8", "--heads", "32/0"}, "num_kv_heads: 0"},
      {{"--trace", trace, "--batch", "8", "--head-dim", "24"}, "24"},
      {{"--trace", trace, "--batch", "8", "--sms", "-1"}, "num_sms: -1"},
      {{"--trace", trace, "--batch", "8", "--chunk", "7"}, "chunk: 7"},
      {{"--trace", trace, "--batch", "8", "--chunk", "-1"}, "--chunk"},
      {{"--trace", trace, "--batch", "8", "--page-size", "0"}, "page_size"},
      {{"--trace", trace, "--batch", "8", "--policy", "theirs"}, "--policy"},
      {{"--trace", trace, "--batch", "8", "--max-steps", "0"}, "--max-steps"},
      {{"--trace", trace, "--batch", "8", "--step", "1"}, "--timeline"},
      {{"--synthetic", "flat", "--batch", "8"}, "--synthetic"},
      {{"--synthetic", "zipf", "--batch", "8", "--mean", "0"}, "--mean"},
      {{"--trace", "/nonexistent", "--batch", "8"}, "there is no file \"/nonexistent\""},
      {{"--trace", "/", "--batch", "8"}, "not a regular file"},
  };
  for (const auto& [args, says] : wrong) {
    const Ran ran = lathe.run(with(args, {}));
    EXPECT_EQ(ran.exit_code, 2) << ::testing::PrintToString(args) << ran.err;
    EXPECT_EQ(ran.out, "") << ::testing::PrintToString(args);
    EXPECT_THAT(ran.err, HasSubstr(says)) << ::testing::PrintToString(args);
  }
}

TEST(Plan, BadTracesAreNamedWithTheLine) {
  Program lathe;
  const std::string good = mooncake();
  const struct {
    std::string text;
    const char* says;
  } wrong[] = {
      {"", "t.jsonl: is neither"},
      {"a,b\n1,2\n", "t.jsonl: is neither"},
      {"ContextTokens,GeneratedTokens\n", "t.jsonl: holds no request"},
      {good.substr(0, good.size() - 20), "t.jsonl line 40: "},
      {good + "[1]\n", "t.jsonl line 41: is not a JSON object"},
      {good + "{\"input_length\":1}\n", "t.jsonl line 41: output_length is missing"},
      {"TIMESTAMP,ContextTokens,GeneratedTokens\nnow,1,2\n", "t.jsonl line 2: TIMESTAMP \"now\""},
  };
  for (const auto& [text, says] : wrong) {
    const Ran ran = lathe.run(with({"--trace", lathe.file("t.jsonl", text), "--batch", "8"}));
    EXPECT_EQ(ran.exit_code, 2) << text.substr(0, 80);
    EXPECT_EQ(ran.out, "");
    EXPECT_THAT(ran.err, HasSubstr(says));
  }
}

}  // namespace
}  // namespace lathe::testing
