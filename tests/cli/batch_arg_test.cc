#include "lathe/cli/batch_arg.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lathe::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string problem_of(const std::string& json, const AttentionSpec& spec = {}) {
  Result<testing::BatchShape> shape = batch_from_json(spec, json);
  return shape.ok() ? "" : shape.status().to_string();
}

TEST(BatchArg, ReadsLengthsAndArguments) {
  AttentionSpec spec;
  spec.mask = Mask::causal_window;
  spec.soft_cap = true;
  Result<testing::BatchShape> shape = batch_from_json(
      spec, R"({"num_kv_heads":8,"qo_lens":[1,0,128],"kv_lens":[300,17,512],"window":64,"sm_scale":0.5,"soft_cap":30})");
  ASSERT_TRUE(shape.ok()) << shape.status().to_string();
  EXPECT_EQ(shape->num_kv_heads, 8);
  EXPECT_EQ(shape->qo_lens, (std::vector<int32_t>{1, 0, 128}));
  EXPECT_EQ(shape->kv_lens, (std::vector<int32_t>{300, 17, 512}));
  EXPECT_EQ(shape->window, 64);
  EXPECT_EQ(shape->sm_scale, 0.5f);
  EXPECT_EQ(shape->soft_cap, 30.0f);
}

TEST(BatchArg, NamesEveryProblemAtOnce) {
  EXPECT_THAT(problem_of(R"({"num_kv_heads":0,"qo_lens":[1,-2,"x"],"kv_lens":7,"window":5,"soft_cap":1,"sm_scale":-1,"heads":3})"),
              AllOf(HasSubstr("num_kv_heads: 0 is not allowed"), HasSubstr("qo_lens[1]: -2"), HasSubstr("qo_lens[2]: \"x\""),
                    HasSubstr("kv_lens: is 7"), HasSubstr("window: is given, but the spec's mask is none"),
                    HasSubstr("soft_cap: is given"), HasSubstr("sm_scale: -1"), HasSubstr("heads: unknown field")));
}

TEST(BatchArg, SaysWhatIsMissing) {
  AttentionSpec spec;
  spec.mask = Mask::window;
  spec.soft_cap = true;
  EXPECT_THAT(problem_of("{}", spec),
              AllOf(HasSubstr("num_kv_heads: is missing"), HasSubstr("qo_lens: is missing"), HasSubstr("kv_lens: is missing"),
                    HasSubstr("window: is missing"), HasSubstr("the spec's mask is window"), HasSubstr("soft_cap: is missing")));
}

TEST(BatchArg, RefusesListsOfDifferentLength) {
  EXPECT_THAT(problem_of(R"({"num_kv_heads":1,"qo_lens":[1,2],"kv_lens":[1]})"), HasSubstr("has 1 entries, qo_lens has 2"));
}

TEST(BatchArg, RefusesWhatIsNoJson) {
  for (const char* text : {"", "{", "[1]", "nul", "{\"num_kv_heads\":1,\"num_kv_heads\":2}", "{\"a\":1}}"}) {
    EXPECT_NE(problem_of(text), "") << text;
  }
  EXPECT_NE(problem_of(std::string("{}\0x", 4)), "");
  EXPECT_THAT(problem_of(std::string(100, '[')), HasSubstr("deeper than"));
  EXPECT_THAT(problem_of(std::string(5 << 20, ' ')), HasSubstr("longer than"));
}

TEST(BatchArg, RefusesNumbersThatDoNotFit) {
  for (const char* number : {"2147483648", "-1", "1.5", "1e3", "18446744073709551615", "1e999", "null", "true"}) {
    EXPECT_NE(problem_of(std::string(R"({"num_kv_heads":1,"qo_lens":[1],"kv_lens":[)") + number + "]}"), "") << number;
    EXPECT_NE(problem_of(std::string(R"({"num_kv_heads":)") + number + R"(,"qo_lens":[1],"kv_lens":[1]})"), "") << number;
  }
  EXPECT_NE(problem_of(R"({"num_kv_heads":1,"qo_lens":[1],"kv_lens":[1],"sm_scale":1e300})"), "");
}

TEST(BatchArg, RefusesProductsThatLeave31Bits) {
  AttentionSpec spec;
  spec.group_size = 128;
  EXPECT_THAT(problem_of(R"({"num_kv_heads":2147483647,"qo_lens":[1],"kv_lens":[1]})", spec), HasSubstr("must be below 2^31"));
  EXPECT_THAT(problem_of(R"({"num_kv_heads":1,"qo_lens":[1,1],"kv_lens":[2000000000,2000000000]})"),
              HasSubstr("kv_lens: sum to 4000000000 tokens"));
}

TEST(BatchArg, RefusesWhatWouldTakeTooMuchMemory) {
  EXPECT_THAT(problem_of(R"({"num_kv_heads":64,"qo_lens":[1],"kv_lens":[2000000]})"),
              AllOf(HasSubstr("of memory"), HasSubstr("at most 8192 MiB")));
  EXPECT_EQ(problem_of(R"({"num_kv_heads":8,"qo_lens":[1],"kv_lens":[100000]})"), "");
}

TEST(BatchArg, MemoryCountsRowsSlotsAndTables) {
  AttentionSpec spec;
  testing::BatchShape shape{.num_kv_heads = 1, .qo_lens = {0}, .kv_lens = {1}};
  const int64_t small = memory_needed(spec, shape);
  shape.kv_lens = {17};  // a page more
  EXPECT_EQ(memory_needed(spec, shape) - small, (16 * 256 * 2 + 4) * 5);
  spec.layout.index = PageIndex::table;
  shape = {.num_kv_heads = 1, .qo_lens = std::vector<int32_t>(60000, 0), .kv_lens = std::vector<int32_t>(60000, 0)};
  shape.kv_lens[0] = 1 << 20;  // every request has a row that long in the table
  EXPECT_GT(memory_needed(spec, shape), int64_t{60000} * 65536 * 4);
  shape.num_kv_heads = INT32_MAX;
  shape.qo_lens[0] = INT32_MAX;
  EXPECT_EQ(memory_needed(spec, shape), INT64_MAX);
}

}  // namespace
}  // namespace lathe::cli
