#include "lathe/cli/trace_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "lathe/testing/temp_dir.h"

namespace lathe::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(TraceFiles, Folder) {
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
