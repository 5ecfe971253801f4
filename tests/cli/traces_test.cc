#include "lathe/cli/traces.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "lathe/testing/temp_dir.h"

namespace lathe::cli {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string problem_of(const std::string& text) {
  auto parsed = parse_trace("t", text);
  return parsed.ok() ? "" : parsed.status().to_string();
}

TEST(Traces, Azure) {
  auto parsed = parse_trace("t", "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2000-01-01 00:00:00.1,37,10\r\n\r\nx,0,16777216");
  ASSERT_TRUE(parsed.ok()) << parsed.status().to_string();
  EXPECT_THAT(*parsed, ElementsAre(TraceRequest{37, 10}, TraceRequest{0, 1 << 24}));
}

TEST(Traces, AzureColumnsInAnyPlace) {
  auto parsed = parse_trace("t", "GeneratedTokens,Model,ContextTokens\n5,a,70\n");
  ASSERT_TRUE(parsed.ok());
  EXPECT_THAT(*parsed, ElementsAre(TraceRequest{70, 5}));
}

TEST(Traces, Mooncake) {
  auto parsed = parse_trace("t", R"({"timestamp": 0, "input_length": 6758, "output_length": 5, "hash_ids": [0, 1]}
{"output_length": 1, "input_length": 2}
)");
  ASSERT_TRUE(parsed.ok()) << parsed.status().to_string();
  EXPECT_THAT(*parsed, ElementsAre(TraceRequest{6758, 5}, TraceRequest{2, 1}));
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

TEST(Traces, TellsAtMostEightProblems) {
  std::string text = "ContextTokens,GeneratedTokens\n";
  for (int i = 0; i < 1000; ++i) text += "x,y\n";
  EXPECT_THAT(problem_of(text), AllOf(HasSubstr("line 9"), ::testing::Not(HasSubstr("line 10"))));
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

TEST(Traces, Folder) {
  testing::TempDir folder;
  EXPECT_THAT(read_trace_dir(folder.path().string()).status().to_string(), HasSubstr("holds 0 files"));
  std::ofstream(folder / "b.jsonl") << R"({"input_length":3,"output_length":4})";
  std::ofstream(folder / "a.csv") << "ContextTokens,GeneratedTokens\n1,2\n";
  std::ofstream(folder / "notes.txt") << "not a trace";
  auto read = read_trace_dir(folder.path().string());
  ASSERT_TRUE(read.ok()) << read.status().to_string();
  EXPECT_THAT(*read, ElementsAre(TraceRequest{1, 2}, TraceRequest{3, 4}));
  EXPECT_FALSE(read_trace_dir((folder / "none").string()).ok());
  EXPECT_FALSE(read_trace(folder.path().string()).ok());  // a folder is no trace
  EXPECT_FALSE(read_trace("/dev/zero").ok());
}

}  // namespace
}  // namespace lathe::cli
