#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "lathe/cli/demo_batch.h"
#include "lathe/plan/attention_plan.h"
#include "lathe/plan/attention_tile.h"
#include "program.h"

namespace lathe::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::Program;
using testing::Ran;

TEST(DemoBatch, MixesPrefillsAndDecodes) {
  const testing::BatchShape shape = demo_batch(quantile_requests(), 16);
  ASSERT_EQ(shape.batch(), 16u);
  EXPECT_EQ(shape.num_kv_heads, 8);
  EXPECT_EQ(std::ranges::count_if(shape.qo_lens, [](int32_t n) { return n > 1; }), 4);
  for (size_t i = 0; i < shape.batch(); ++i) {
    EXPECT_GE(shape.qo_lens[i], 1);
    EXPECT_LE(shape.qo_lens[i], 2048 / 16);
    EXPECT_GE(shape.kv_lens[i], shape.qo_lens[i]);
  }
}

// On the host's grid, so that a demo without a GPU shows split tiles and their merge.
TEST(DemoBatch, HasDecodesThatAreSplit) {
  AttentionSpec spec;
  spec.group_size = 4;
  spec.mask = Mask::causal;
  const Result<AttentionTile> tile = resolve_tile(spec, *arch_traits("host"));
  ASSERT_TRUE(tile.ok()) << tile.status().to_string();
  const testing::BatchShape shape = demo_batch(quantile_requests(), 16);
  const std::vector<int32_t> qo_indptr = testing::indptr(shape.qo_lens), kv_begin(shape.batch(), 0);
  const Result<AttentionPlan> plan =
      plan_attention({spec, *tile, shape.num_kv_heads, 12, {}}, {qo_indptr, shape.kv_lens, kv_begin, shape.window});
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  EXPECT_GT(plan->num_split_tiles, 0);
}

TEST(DemoBatch, WorksWithAnyTrace) {
  for (const TraceRequest& r : {TraceRequest{0, 0}, TraceRequest{1, 0}, TraceRequest{1 << 24, 1 << 24}}) {
    for (int scale : {1, 3, 1 << 20}) {
      const testing::BatchShape shape = demo_batch(std::vector{r}, scale);
      ASSERT_EQ(shape.batch(), 16u);
      EXPECT_GE(*std::ranges::min_element(shape.kv_lens), 1);
      EXPECT_GE(*std::ranges::min_element(shape.qo_lens), 1);
    }
  }
}

TEST(Demo, ReportsWithoutAGpuCompilerAndWithATrace) {
  Program lathe;
  std::string trace = "ContextTokens,GeneratedTokens\n";
  for (int i = 0; i < 16; ++i) trace += std::to_string(20 + 9 * i) + ",4\n";
  const Ran ran = lathe.run({"demo", "--target", "host", "--scale", "1", "--trace", lathe.file("trace.csv", trace)},
                            {{"LATHE_NVRTC", "/nonexistent"}});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("sm_90a skipped: unavailable"));
  EXPECT_THAT(ran.out, HasSubstr("4 prefill chunks"));
  EXPECT_THAT(ran.out, HasSubstr("16 of the 16 requests of "));
  EXPECT_THAT(ran.out, HasSubstr("All correct"));
  EXPECT_THAT(ran.out + ran.err, Not(HasSubstr("\x1b")));  // plain text
}

TEST(Demo, JsonHoldsThreeBuildsAndBothRuns) {
  Program lathe;
  const Ran ran = lathe.run({"demo", "--target", "host", "--scale", "256", "--json"}, {{"LATHE_NVRTC", "/nonexistent"}});
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  const auto json = nlohmann::json::parse(ran.out);
  EXPECT_EQ(json["passed"], true);
  const auto& host = json["kernels"][0];
  EXPECT_EQ(host["arch"], "host");
  EXPECT_EQ(host["executed"], true);
  EXPECT_EQ(host["first_build"]["origin"], "compiled");
  EXPECT_EQ(host["second_build"]["origin"], "disk");
  EXPECT_EQ(host["third_build"]["origin"], "memory");
  EXPECT_EQ(json["run"]["kernel"]["key"], host["key"]);
  EXPECT_EQ(json["run"]["check"]["passed"], true);
  EXPECT_GT(json["strict_run"]["counters"]["shared_accesses"], 0);
  for (const auto& c : json["run"]["tile"]["classes"]) EXPECT_GT(c["items"], 0) << c;  // every tile class is in use
  EXPECT_GE(json["run"]["tile"]["classes"].size(), 2u);
  EXPECT_THAT(std::string(json["kernels"][1]["error"]), HasSubstr("unavailable"));
}

TEST(Demo, RefusesWhatIsNoTrace) {
  Program lathe;
  const Ran ran = lathe.run({"demo", "--trace", lathe.file("trace.csv", "what,is,this\n1,2,3\n")});
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_EQ(ran.out, "");
  EXPECT_THAT(ran.err, HasSubstr("trace.csv"));
  EXPECT_EQ(lathe.run({"demo"}, {{"LATHE_TRACE_DIR", "/nonexistent"}}).exit_code, 2);
  EXPECT_EQ(lathe.run({"demo", "--scale", "0"}).exit_code, 2);
}

TEST(Demo, WithoutAnyCompilerItSaysWhatToInstall) {
  Program lathe;
  const Ran ran = lathe.run({"demo", "--target", "host"}, {{"LATHE_NVRTC", "/nonexistent"}, {"LATHE_CXX", "/nonexistent"}});
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_THAT(ran.out, HasSubstr("host skipped: unavailable"));
  EXPECT_THAT(ran.err, HasSubstr("install g++"));
}

}  // namespace
}  // namespace lathe::cli
