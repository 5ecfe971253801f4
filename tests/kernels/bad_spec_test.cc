// Specs that cannot be served are refused by name and value, all problems at once, before anything is compiled.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <ostream>

#include "lathe/proof/harness.h"

namespace lathe::testing {
namespace {

using ::testing::HasSubstr;

// A compiler that must not be called.
class NoCompiler : public Compiler {
 public:
  Result<std::string> identity(const std::string&) override { return std::string("none"); }
  Result<CompileOutput> compile(const CompileJob&) override {
    ++calls;
    return Status(Code::unavailable, "no compiler here");
  }
  std::vector<std::string> archs() override { return {}; }
  std::string describe() override { return "none"; }
  int calls = 0;
};

struct BadSpec {
  const char* name;
  std::function<void(AttentionSpec&)> spoil;
  std::vector<const char*> words;  // of the refusal
};

void PrintTo(const BadSpec& bad, std::ostream* out) {
  *out << bad.name;
}

std::vector<BadSpec> bad_specs() {
  return {
      {"GroupSizeZero", [](AttentionSpec& s) { s.group_size = 0; }, {"group_size", "0", "1..128"}},
      {"GroupSizeHuge", [](AttentionSpec& s) { s.group_size = 129; }, {"group_size", "129", "1..128"}},
      {"HeadDim24", [](AttentionSpec& s) { s.head_dim_qk = 24; }, {"head_dim_qk", "24", "16"}},
      {"HeadDim272", [](AttentionSpec& s) { s.head_dim_vo = 272; }, {"head_dim_vo", "272", "256"}},
      {"HeadDimNegative", [](AttentionSpec& s) { s.head_dim_vo = -16; }, {"head_dim_vo", "-16"}},
      {"PageSizeZero", [](AttentionSpec& s) { s.layout.page_size = 0; }, {"page_size", "0"}},
      {"KfmtOther", [](AttentionSpec& s) { s.kfmt = DType::f16; }, {"kfmt", "f16", "bf16"}},
      {"EnumOutOfRange", [](AttentionSpec& s) { s.mask = static_cast<Mask>(9); }, {"mask", "9", "causal"}},
      {"SplitTokensZero",
       [](AttentionSpec& s) {
         s.split_kv = {SplitMode::fixed, 0};
       },
       {"split_kv"}},
      {"SplitTokensWithoutFixed",
       [](AttentionSpec& s) {
         s.split_kv = {SplitMode::off, 64};
       },
       {"split_kv"}},
      {"UnknownArch", [](AttentionSpec& s) { s.arch = "sm_75"; }, {"arch", "sm_75"}},
      {"NoArch", [](AttentionSpec& s) { s.arch = "volta"; }, {"arch", "volta"}},
      {"AnotherGpu", [](AttentionSpec& s) { s.arch = "sm_0"; }, {"arch", "sm_0"}},
      {"RaggedWithPages",
       [](AttentionSpec& s) { s.layout = {.kind = LayoutKind::ragged, .page_size = 32}; },
       {"page_size", "ragged"}},
      {"JointOfTwoDims",
       [](AttentionSpec& s) { s.layout.storage = KvStorage::joint, s.head_dim_qk = 64, s.head_dim_vo = 128; },
       {"joint", "64", "128"}},
      {"TileWarps",
       [](AttentionSpec& s) {
         s.tile = {false, 6, 2, {{16, 64}}};
       },
       {"tile.warps", "6", "4 or 8"}},
      {"TileStages",
       [](AttentionSpec& s) {
         s.tile = {false, 4, 5, {{16, 64}}};
       },
       {"tile.stages", "5", "1..4"}},
      {"TileTooLarge",
       [](AttentionSpec& s) {
         s.tile = {false, 8, 4, {{128, 256}}};
       },
       {"tile"}},
      {"TileRising",
       [](AttentionSpec& s) {
         s.tile = {false, 4, 1, {{16, 64}, {64, 16}}};
       },
       {"tile.classes[1]", "64", "16"}},
      {"ManyAtOnce",
       [](AttentionSpec& s) { s.group_size = 0, s.head_dim_qk = 7, s.layout.page_size = -1, s.vfmt = DType::f16; },
       {"4 problems", "group_size", "head_dim_qk", "layout.page_size", "vfmt"}},
  };
}

class BadSpecs : public ::testing::TestWithParam<BadSpec> {};

TEST_P(BadSpecs, IsRefusedBeforeCompiling) {
  auto compiler = std::make_shared<NoCompiler>();
  EngineOptions options;
  options.cache.mode = CacheMode::off;
  options.compiler = compiler;
  Engine fresh(options);
  AttentionSpec spec;
  GetParam().spoil(spec);
  Result<Attention> attention = Attention::prepare(fresh, host_device(), spec);
  ASSERT_FALSE(attention.ok());
  EXPECT_TRUE(attention.status().code() == Code::invalid_argument || attention.status().code() == Code::unsupported);
  for (const char* word : GetParam().words) EXPECT_THAT(attention.status().to_string(), HasSubstr(word));
  EXPECT_EQ(compiler->calls, 0);
  EXPECT_EQ(fresh.stats().compiles, 0u);
}
INSTANTIATE_TEST_SUITE_P(, BadSpecs, ::testing::ValuesIn(bad_specs()), [](const auto& bad) { return std::string(bad.param.name); });

TEST(PrepareAttention, MissingCompilerIsSaid) {
  EngineOptions options;
  options.cache.mode = CacheMode::off;
  options.compiler = std::make_shared<NoCompiler>();
  Engine fresh(options);
  Result<Attention> attention = Attention::prepare(fresh, host_device(), AttentionSpec{});
  ASSERT_FALSE(attention.ok());
  EXPECT_EQ(attention.status().code(), Code::unavailable);
}

TEST(PrepareAttention, NoDevice) {
  Result<Attention> attention = Attention::prepare(engine(), nullptr, AttentionSpec{});
  ASSERT_FALSE(attention.ok());
  EXPECT_THAT(attention.status().to_string(), HasSubstr("device"));
}

}  // namespace
}  // namespace lathe::testing
