#include <gtest/gtest.h>

#include "lathe/spec_testing/random_spec.h"
#include "lathe/testing/seed.h"
#include "single_changes.h"

namespace lathe::testing {
namespace {

TEST(Print, AttentionOnOneLine) {
  AttentionSpec spec;
  EXPECT_EQ(to_string(spec), "attention bf16 128/128 group 1 paged(16, NHD, csr) host");
  spec.group_size = 4;
  spec.mask = Mask::causal;
  spec.lse = LseOut::ln;
  spec.arch = "sm_90a";
  EXPECT_EQ(to_string(spec), "attention bf16 128/128 group 4 paged(16, NHD, csr) causal lse ln sm_90a");
  spec.q_dtype = spec.kfmt = spec.vfmt = DType::f16;
  spec.layout = {LayoutKind::paged, 1, PageOrder::hnd, KvStorage::joint, PageIndex::table};
  spec.split_kv = {SplitMode::fixed, 2048};
  spec.tile = {false, 8, 2, {{128, 64}, {16, 128}}};
  spec.soft_cap = true;
  spec.label = "layer 7";
  EXPECT_EQ(to_string(spec),
            "attention f16->bf16 128/128 group 4 paged(1, HND, joint, table) causal soft_cap true lse ln "
            "split_kv fixed 2048 tile 8 warps, 2 stages, classes 128x64 16x128 sm_90a label \"layer 7\"");
  spec = {};
  spec.layout.kind = LayoutKind::ragged;
  spec.kfmt = DType::f16;
  EXPECT_EQ(to_string(spec), "attention bf16 128/128 group 1 ragged kfmt f16 host");
}

TEST(Print, AppendOnOneLine) {
  AppendSpec spec;
  spec.kfmt = DType::e4m3;
  spec.kscale = KvScale::token;
  spec.rope = RopePairs::neox;
  EXPECT_EQ(to_string(spec), "append bf16 128/128 paged(16, NHD, csr) kfmt e4m3 kscale token rope neox host");
}

TEST(Print, MergeOnOneLine) {
  MergeSpec spec;
  spec.arch = "sm_80";
  EXPECT_EQ(to_string(spec), "merge bf16 128 lse ln sm_80");
  spec.hooks = *expr::parse("param c: f32; output = o * c");
  EXPECT_EQ(to_string(spec), "merge bf16 128 lse ln hooks {param c: f32; output = o * c;} sm_80");
}

TEST(Print, ShowsEverySingleChange) {
  std::mt19937_64 rng(seed());
  for (int i = 0; i < 300; ++i) {
    AttentionSpec base = random_spec(rng);
    base.label = "a";  // a longer label may be cut where it differs
    if (base.layout.kind == LayoutKind::ragged) continue;
    for (const auto& change : single_changes(base)) ASSERT_NE(to_string(change.spec), to_string(base)) << change.path;
    AppendSpec append = random_append_spec(rng);
    append.label = "a";
    for (const auto& change : single_changes(append)) ASSERT_NE(to_string(change.spec), to_string(append)) << change.path;
    MergeSpec merge = random_merge_spec(rng);
    merge.label = "a";
    for (const auto& change : single_changes(merge)) ASSERT_NE(to_string(change.spec), to_string(merge)) << change.path;
  }
}

TEST(Print, IsTotalAndStaysOnOneLine) {
  AttentionSpec spec;
  spec.label = std::string(5000, '\n');
  spec.arch = "\x1b[31m";
  spec.q_dtype = static_cast<DType>(200);
  spec.mask = static_cast<Mask>(99);
  spec.tile = {true, -1, 7, {{1, 2}}};
  std::string text = to_string(spec);
  EXPECT_EQ(text.find_first_of("\n\x1b"), std::string::npos) << text;
  EXPECT_LT(text.size(), 500u);
  EXPECT_STREQ(name_of(static_cast<DType>(200)), "?");
  EXPECT_STREQ(name_of(Determinism::batch_invariant), "batch_invariant");
}

}  // namespace
}  // namespace lathe::testing
