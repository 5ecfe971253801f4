#include "lathe/replay/traces.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lathe {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string problem_of(const std::string& text) {
  auto parsed = parse_trace("t", text);
  return parsed.ok() ? "" : parsed.status().to_string();
}

TEST(Traces, Azure) {
  auto parsed = parse_trace("t",
                            "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-12-31 23:59:59.9799600,37,10\r\n\r\n"
                            "2024-01-01 00:00:01.25+00:00,0,16777216\n2023-12-31 23:59:58,1,1");
  ASSERT_TRUE(parsed.ok()) << parsed.status().to_string();
  EXPECT_THAT(*parsed, ElementsAre(TraceRequest{37, 10, 0}, TraceRequest{0, 1 << 24, 1271}, TraceRequest{1, 1, -1979}));
}

TEST(Traces, AzureColumnsInAnyPlace) {
  auto parsed = parse_trace("t", "GeneratedTokens,Model,ContextTokens\n5,a,70\n");
  ASSERT_TRUE(parsed.ok());
  EXPECT_THAT(*parsed, ElementsAre(TraceRequest{70, 5}));
}

TEST(Traces, Mooncake) {
  auto parsed = parse_trace("t", R"({"timestamp": 27000, "input_length": 758, "output_length": 5, "hash_ids": [0, 9007199254740992]}
{"output_length": 1, "input_length": 2}
{"output_length": 1, "input_length": 0, "hash_ids": []}
)");
  ASSERT_TRUE(parsed.ok()) << parsed.status().to_string();
  EXPECT_THAT(*parsed, ElementsAre(TraceRequest{758, 5, 27000, {0, int64_t{1} << 53}}, TraceRequest{2, 1}, TraceRequest{0, 1}));
}

TEST(Traces, NameLineAndValue) {
  EXPECT_THAT(problem_of("A,ContextTokens,GeneratedTokens\na,1,2\na,-1,2\na,1\na,1,2x\na,,2\na,16777217,1\n"),
              AllOf(HasSubstr("t line 3: ContextTokens -1"), HasSubstr("t line 4: has 2 cells, the header has 3"),
                    HasSubstr("t line 5: GeneratedTokens 2x"), HasSubstr("t line 6: ContextTokens "),
                    HasSubstr("t line 7: ContextTokens 16777217")));
  EXPECT_THAT(
      problem_of(
          "{\"input_length\":1,\"output_length\":1}\n{\"input_length\":1}\n[]\n{\"input_length\":\"1\",\"output_length\":2}"),
      AllOf(HasSubstr("t line 2: output_length is missing"), HasSubstr("t line 3: "), HasSubstr("t line 4: input_length")));
}

TEST(Traces, NameTheTimeThatIsNone) {
  for (const std::string time : {"", "x", "2023-11-16", "2023-11-16 18:17", "2023-13-01 00:00:00", "2023-02-29 00:00:00",
                                 "2023-11-16 24:00:00", "2023-11-16 18:60:00", "2023-11-16 18:17:03.", "2023-11-16 18:17:03.1x",
                                 "2023-11-16T18:17:03", "-023-11-16 18:17:03", "2023-11-16 18:17:03+01:00"}) {
    EXPECT_THAT(problem_of("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1,1\n" + time + ",1,1\n"),
                HasSubstr("t line 3: TIMESTAMP \"" + time + "\" is not allowed"))
        << time;
  }
  EXPECT_THAT(problem_of(R"({"timestamp":-1,"input_length":1,"output_length":1})"), HasSubstr("t line 1: timestamp -1"));
}

TEST(Traces, NameHashIdsThatDoNotFit) {
  const auto with = [](const std::string& ids) {
    return problem_of("{\"input_length\":513,\"output_length\":1,\"hash_ids\":" + ids + "}");
  };
  EXPECT_EQ(with("[3,3]"), "");
  EXPECT_THAT(with("[1]"), AllOf(HasSubstr("t line 1: hash_ids has 1 entries"), HasSubstr("which is 2")));
  EXPECT_THAT(with("[1,2,3]"), HasSubstr("hash_ids has 3 entries"));
  EXPECT_THAT(with("[1,-2]"), HasSubstr("hash_ids -2"));
  EXPECT_THAT(with("[1,9007199254740993]"), HasSubstr("hash_ids 9007199254740993"));
  EXPECT_THAT(with("[1,[2]]"), HasSubstr("hash_ids [2]"));
  EXPECT_THAT(with("7"), HasSubstr("hash_ids 7 is not a list"));
}

TEST(Traces, TellsAtMostEightProblems) {
  std::string text = "ContextTokens,GeneratedTokens\n";
  for (int i = 0; i < 1000; ++i) text += "x,y\n";
  EXPECT_THAT(problem_of(text), AllOf(HasSubstr("line 9"), ::testing::Not(HasSubstr("line 10"))));
}

TEST(Traces, Truncated) {
  const std::string azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n";
  EXPECT_THAT(problem_of(azure + "2023-11-16 18:17:04.03"), HasSubstr("t line 3: has 1 cells"));
  EXPECT_THAT(problem_of(azure + "2023-11-16 18:17:04.0319600,3180,"), HasSubstr("t line 3: GeneratedTokens"));
  const std::string mooncake = "{\"timestamp\": 0, \"input_length\": 2, \"output_length\": 5, \"hash_ids\": [0]}\n";
  for (size_t cut = 1; cut + 2 < mooncake.size(); ++cut) {
    EXPECT_THAT(problem_of(mooncake + mooncake.substr(0, cut)), HasSubstr("t line 2: ")) << cut;
  }
}

TEST(Traces, RefuseOtherFormats) {
  for (const std::string text : {"", "\n", "hello", "TIMESTAMP,ContextTokens\n1,2\n", "ContextTokens,GeneratedTokens\n"}) {
    EXPECT_NE(problem_of(text), "") << text;
  }
  EXPECT_THAT(problem_of("ContextTokens,GeneratedTokens\n" + std::string(70000, '1') + ",1\n"), HasSubstr("longer than 65536"));
  EXPECT_NE(problem_of(std::string(70000, ',')), "");
  EXPECT_NE(problem_of("{" + std::string(70000, ' ')), "");
  EXPECT_NE(problem_of(std::string("{\"input_length\":1,\"output_length\":1}\0", 38)), "");
}

}  // namespace
}  // namespace lathe
