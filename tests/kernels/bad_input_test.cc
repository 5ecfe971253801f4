// What callers get wrong is refused by name and value, all of it at once, before anything is compiled or launched.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>
#include <optional>
#include <ostream>

#include "lathe/api/merge.h"
#include "lathe/proof/harness.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
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

TEST(BadInput, MissingCompilerIsSaid) {
  EngineOptions options;
  options.cache.mode = CacheMode::off;
  options.compiler = std::make_shared<NoCompiler>();
  Engine fresh(options);
  Result<Attention> attention = Attention::prepare(fresh, host_device(), AttentionSpec{});
  ASSERT_FALSE(attention.ok());
  EXPECT_EQ(attention.status().code(), Code::unavailable);
}

TEST(BadInput, NoDevice) {
  Result<Attention> attention = Attention::prepare(engine(), nullptr, AttentionSpec{});
  ASSERT_FALSE(attention.ok());
  EXPECT_THAT(attention.status().to_string(), HasSubstr("device"));
}

// A correct plan and run of one small paged batch, to be spoiled in one place.
class BadCall : public ::testing::Test {
 protected:
  static constexpr int64_t kPages = 4, kPageSize = 16, kHeads = 2, kDim = 32;

  void prepare(AttentionSpec spec) {
    Result<Attention> made = Attention::prepare(engine(), device_, spec);
    ASSERT_TRUE(made.ok()) << made.status().to_string();
    attention_.emplace(*std::move(made));
    memory_ = *device_->allocate(1 << 20);
    std::fill_n(memory_.get(), 1 << 20, std::byte{0});
    batch_.qo_indptr = qo_indptr_;
    batch_.kv_indptr = kv_indptr_;
    batch_.last_page_len = last_page_len_;
    batch_.window = spec.windowed() ? 8 : 0;
    args_.q = args_.o = Tensor::contiguous(memory_.get(), {3, kHeads * spec.group_size, kDim});
    args_.o.data = memory_.get() + (1 << 16);
    args_.k = Tensor::contiguous(memory_.get() + (2 << 16), {kPages, kPageSize, kHeads, kDim});
    args_.v = Tensor::contiguous(memory_.get() + (3 << 16), {kPages, kPageSize, kHeads, kDim});
    if (spec.lse != LseOut::none) args_.lse = Tensor::contiguous(memory_.get() + (4 << 16), {3, kHeads * spec.group_size});
    args_.kv_indices = reinterpret_cast<const int32_t*>(memory_.get() + (5 << 16));
    args_.num_kv_indices = 3;
    if (spec.soft_cap) args_.soft_cap = 30;
    workspace_ = memory_.get() + (6 << 16);
  }

  static AttentionSpec small() {
    AttentionSpec spec;
    spec.head_dim_qk = spec.head_dim_vo = kDim;
    spec.group_size = 2;
    spec.lse = LseOut::ln;
    return spec;
  }

  void expect_plan_refused(const AttentionBatch& batch, std::vector<const char*> words, int32_t num_kv_heads = kHeads) {
    Result<PlannedAttention> plan = attention_->plan(batch, num_kv_heads);
    ASSERT_FALSE(plan.ok());
    expect_words(plan.status(), words);
  }

  void expect_run_refused(const AttentionArgs& args, std::vector<const char*> words) {
    Result<PlannedAttention> plan = attention_->plan(batch_, kHeads);
    ASSERT_TRUE(plan.ok()) << plan.status().to_string();
    ASSERT_TRUE(attention_->upload(*plan, workspace_, plan->plan.workspace.total(), nullptr).ok());
    expect_words(attention_->run(args, *plan, workspace_, nullptr), words);
  }

  static void expect_words(const Status& status, const std::vector<const char*>& words) {
    EXPECT_EQ(status.code(), Code::invalid_argument) << status.to_string();
    for (const char* word : words) EXPECT_THAT(status.to_string(), HasSubstr(word));
  }

  std::shared_ptr<Device> device_ = host_device({.seed = seed(), .check = true});
  std::optional<Attention> attention_;
  std::shared_ptr<std::byte> memory_;
  std::vector<int32_t> qo_indptr_{0, 1, 3}, kv_indptr_{0, 2, 3}, last_page_len_{5, 16};
  AttentionBatch batch_;
  AttentionArgs args_;
  std::byte* workspace_ = nullptr;
};

TEST_F(BadCall, TheUnspoiledCallIsAccepted) {
  prepare(small());
  Result<PlannedAttention> plan = attention_->plan(batch_, kHeads);
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  ASSERT_TRUE(attention_->upload(*plan, workspace_, plan->plan.workspace.total(), nullptr).ok());
  Status status = attention_->run(args_, *plan, workspace_, nullptr);
  EXPECT_TRUE(status.ok()) << status.to_string();
}

TEST_F(BadCall, Indptr) {
  prepare(small());
  std::vector<int32_t> falling{0, 3, 2};
  batch_.qo_indptr = falling;
  expect_plan_refused(batch_, {"qo_indptr[2]", "2", "3"});
  std::vector<int32_t> late{1, 2, 3};
  batch_.qo_indptr = late;
  expect_plan_refused(batch_, {"qo_indptr[0]", "1", "0"});
  batch_.qo_indptr = {};
  expect_plan_refused(batch_, {"qo_indptr", "empty"});
  batch_.qo_indptr = qo_indptr_;
  batch_.kv_indptr = falling;
  expect_plan_refused(batch_, {"kv_indptr[2]", "2", "3"});
  batch_.kv_indptr = std::span(kv_indptr_).first(2);
  expect_plan_refused(batch_, {"kv_indptr", "2", "3"});
}

TEST_F(BadCall, SeveralArraysAtOnce) {
  prepare(small());
  std::vector<int32_t> falling{0, 3, 2}, lens{0, 17};
  batch_.qo_indptr = falling;
  batch_.last_page_len = lens;
  expect_plan_refused(batch_, {"3 problems", "qo_indptr[2]", "last_page_len[0]", "last_page_len[1]"});
}

TEST_F(BadCall, LastPageLen) {
  prepare(small());
  for (int32_t bad : {0, -1, 17}) {
    last_page_len_ = {5, bad};
    batch_.last_page_len = last_page_len_;
    expect_plan_refused(batch_, {"last_page_len[1]", std::to_string(bad).c_str(), "16"});
  }
  batch_.last_page_len = std::span(last_page_len_).first(1);
  expect_plan_refused(batch_, {"last_page_len", "1", "2"});
}

TEST_F(BadCall, TableLengths) {
  AttentionSpec spec = small();
  spec.layout.index = PageIndex::table;
  prepare(spec);
  std::vector<int32_t> seq_lens{40, -1};
  AttentionBatch batch{.qo_indptr = qo_indptr_, .seq_lens = seq_lens, .block_table_stride = 3};
  expect_plan_refused(batch, {"seq_lens[1]", "-1"});
  seq_lens[1] = 49;  // 4 pages, 3 entries
  expect_plan_refused(batch, {"seq_lens[1]", "49", "0..48"});
  seq_lens[1] = 48;
  batch.block_table_stride = -3;
  expect_plan_refused(batch, {"block_table_stride", "-3"});
}

TEST_F(BadCall, PageIdsAreCheckedWhereGiven) {
  prepare(small());
  std::vector<int32_t> ids{3, 0, 4};
  batch_.kv_indices = ids;
  batch_.num_pages = kPages;
  expect_plan_refused(batch_, {"kv_indices[2]", "4", "request 1", "0..3"});
  ids = {3, -1, 1};
  expect_plan_refused(batch_, {"kv_indices[1]", "-1", "request 0"});
  ids = {3, 0, 1};
  EXPECT_TRUE(attention_->plan(batch_, kHeads).ok());
}

TEST_F(BadCall, PageIdsOutOfRangeOnTheDevice) {
  prepare(small());
  const int32_t ids[] = {3, kPages, 1};
  std::memcpy(memory_.get() + (5 << 16), ids, sizeof ids);
  Result<PlannedAttention> plan = attention_->plan(batch_, kHeads);
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  ASSERT_TRUE(attention_->upload(*plan, workspace_, plan->plan.workspace.total(), nullptr).ok());
  Status status = attention_->run(args_, *plan, workspace_, nullptr);
  EXPECT_EQ(status.code(), Code::launch_failed);
  EXPECT_THAT(status.to_string(), HasSubstr("kernels/attention/"));
}

TEST_F(BadCall, Window) {
  AttentionSpec spec = small();
  spec.mask = Mask::window;
  prepare(spec);
  for (int32_t bad : {0, -5}) {
    batch_.window = bad;
    expect_plan_refused(batch_, {"window", std::to_string(bad).c_str()});
  }
  prepare(small());
  batch_.window = 3;
  expect_plan_refused(batch_, {"window", "3", "none"});
}

TEST_F(BadCall, HeadCounts) {
  prepare(small());
  expect_plan_refused(batch_, {"num_kv_heads", "0"}, 0);
  expect_plan_refused(batch_, {"num_kv_heads", "-2"}, -2);
  AttentionArgs args = args_;
  args.q.shape[1] = 5;  // not 2 kv heads of 2
  expect_run_refused(args, {"q", "5", "4"});
  args = args_;
  args.k.shape[2] = 3;
  expect_run_refused(args, {"k", "3", "2"});
}

TEST_F(BadCall, ProductsPast32Bits) {
  prepare(small());
  std::vector<int32_t> qo{0, INT32_MAX};
  kv_indptr_ = {0, 1}, last_page_len_ = {1};
  batch_.qo_indptr = qo, batch_.kv_indptr = kv_indptr_, batch_.last_page_len = last_page_len_;
  expect_plan_refused(batch_, {"qo_indptr", "2147483647"});
  std::vector<int32_t> two{0, 1}, many{0, INT32_MAX};
  batch_.qo_indptr = two, batch_.kv_indptr = many;
  expect_plan_refused(batch_, {"kv"});
  batch_.kv_indptr = kv_indptr_;
  expect_plan_refused(batch_, {"num_kv_heads", "4294967294"}, INT32_MAX);
}

TEST_F(BadCall, Pointers) {
  prepare(small());
  for (auto member : {&AttentionArgs::q, &AttentionArgs::k, &AttentionArgs::v, &AttentionArgs::o, &AttentionArgs::lse}) {
    AttentionArgs args = args_;
    (args.*member).data = nullptr;
    expect_run_refused(args, {"null"});
    (args.*member).data = static_cast<std::byte*>((args_.*member).data) + 2;
    expect_run_refused(args, {"2 past", "16"});
  }
  AttentionArgs args = args_;
  args.kv_indices = nullptr;
  expect_run_refused(args, {"kv_indices", "null"});
  args.kv_indices = reinterpret_cast<const int32_t*>(reinterpret_cast<uintptr_t>(args_.kv_indices) + 1);
  expect_run_refused(args, {"kv_indices", "4-byte"});
  args = args_;
  args.num_kv_indices = 2;
  expect_run_refused(args, {"num_kv_indices", "2", "3"});
}

TEST_F(BadCall, Strides) {
  prepare(small());
  AttentionArgs args = args_;
  args.k.stride[1] = 60;  // not whole 16 bytes
  expect_run_refused(args, {"k", "stride 1", "60"});
  args = args_;
  args.v.stride[3] = 2;
  expect_run_refused(args, {"v", "stride 3", "2"});
  args = args_;
  args.q.stride[0] = INT64_MAX / 8 * 8;
  expect_run_refused(args, {"q", "64 bits"});
  args = args_;
  args.o.stride[0] = -64;
  expect_run_refused(args, {"o", "-64"});
}

TEST_F(BadCall, Shapes) {
  prepare(small());
  AttentionArgs args = args_;
  args.q.rank = 2;
  expect_run_refused(args, {"q", "rank 2", "3"});
  args = args_;
  args.o.shape[0] = 2;  // the plan has 3 tokens
  expect_run_refused(args, {"o", "2", "3"});
  args = args_;
  args.k.shape[1] = 8;
  expect_run_refused(args, {"k", "8", "16"});
  args = args_;
  args.v.shape[0] = 3;
  expect_run_refused(args, {"v", "3", "4"});
  args = args_;
  args.q.shape[2] = 64, args.v.data = nullptr, args.lse.rank = 0, args.sm_scale = -1;
  expect_run_refused(args, {"4 problems", "q", "v", "lse", "sm_scale"});
}

TEST_F(BadCall, Scalars) {
  AttentionSpec spec = small();
  spec.soft_cap = true;
  prepare(spec);
  for (float bad : {0.0f, -1.0f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    AttentionArgs args = args_;
    args.soft_cap = bad;
    expect_run_refused(args, {"soft_cap"});
  }
  for (float bad : {-1.0f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    AttentionArgs args = args_;
    args.sm_scale = bad;
    expect_run_refused(args, {"sm_scale"});
  }
  prepare(small());
  AttentionArgs args = args_;
  args.soft_cap = 30;
  expect_run_refused(args, {"soft_cap", "no soft_cap"});
}

TEST_F(BadCall, TensorsTheSpecDoesNotHave) {
  AttentionSpec spec = small();
  spec.lse = LseOut::none;
  prepare(spec);
  AttentionArgs args = args_;
  args.lse = Tensor::contiguous(memory_.get() + (4 << 16), {3, 4});
  expect_run_refused(args, {"lse", "none"});
  spec = small();
  spec.layout.storage = KvStorage::joint;
  prepare(spec);
  args = args_;
  args.k = Tensor::contiguous(memory_.get() + (2 << 16), {kPages, 2, kPageSize, kHeads, kDim});
  expect_run_refused(args, {"v", "joint"});
  args.v = {};
  Result<PlannedAttention> plan = attention_->plan(batch_, kHeads);
  ASSERT_TRUE(plan.ok());
  ASSERT_TRUE(attention_->upload(*plan, workspace_, plan->plan.workspace.total(), nullptr).ok());
  EXPECT_TRUE(attention_->run(args, *plan, workspace_, nullptr).ok());
}

TEST_F(BadCall, Workspace) {
  prepare(small());
  Result<PlannedAttention> plan = attention_->plan(batch_, kHeads);
  ASSERT_TRUE(plan.ok());
  const size_t needed = plan->plan.workspace.total();
  expect_words(attention_->upload(*plan, workspace_, needed - 1, nullptr),
               {"workspace", std::to_string(needed).c_str(), std::to_string(needed - 1).c_str()});
  expect_words(attention_->upload(*plan, nullptr, needed, nullptr), {"workspace", "null"});
  expect_words(attention_->upload(*plan, workspace_ + 128, needed, nullptr), {"workspace", "256"});
  expect_words(attention_->run(args_, *plan, nullptr, nullptr), {"workspace", "null"});
}

TEST_F(BadCall, PlanOfAnotherKernel) {
  prepare(small());
  AttentionSpec other = small();
  other.mask = Mask::causal;
  Result<Attention> second = Attention::prepare(engine(), device_, other);
  ASSERT_TRUE(second.ok());
  Result<PlannedAttention> plan = second->plan(batch_, kHeads);
  ASSERT_TRUE(plan.ok());
  expect_words(attention_->run(args_, *plan, workspace_, nullptr), {"plan", "another kernel"});
}

TEST(BadMerge, IsRefused) {
  MergeSpec spec;
  spec.head_dim = 12;
  Result<Merge> merge = Merge::prepare(engine(), host_device(), spec);
  ASSERT_FALSE(merge.ok());
  EXPECT_THAT(merge.status().to_string(), AllOf(HasSubstr("head_dim"), HasSubstr("12")));
  spec = {};
  spec.lse = LseOut::none;
  EXPECT_FALSE(Merge::prepare(engine(), host_device(), spec).ok());

  merge = Merge::prepare(engine(), host_device(), MergeSpec{});
  ASSERT_TRUE(merge.ok()) << merge.status().to_string();
  alignas(16) static std::byte memory[1024];
  MergeArgs args{.o = Tensor::contiguous(memory, {1, 1, 1, 128}),
                 .lse = Tensor::contiguous(memory, {1, 1, 2}),
                 .merged_o = Tensor::contiguous(memory + 512, {1, 1, 64}),
                 .merged_lse = {},
                 .sizes = nullptr};
  const Status status = merge->run(args, nullptr);
  EXPECT_EQ(status.code(), Code::invalid_argument);
  EXPECT_THAT(status.to_string(), AllOf(HasSubstr("lse"), HasSubstr("merged_o"), HasSubstr("sizes")));
}

}  // namespace
}  // namespace lathe::testing
