#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <set>

#include "lathe/spec/expr/parse.h"
#include "lathe/spec/fields.h"

namespace lathe {
namespace {

using ::testing::HasSubstr;

template <class Spec>
struct BadField {
  const char* path;
  std::function<void(Spec&)> spoil;
  const char* value;    // as the message names it
  const char* allowed;  // a part of what the message says is allowed
};

template <class Spec>
void expect_refused(const std::vector<BadField<Spec>>& cases) {
  std::set<std::string> paths;
  for (const auto& bad : cases) {
    Spec spec;
    bad.spoil(spec);
    Status status = validate(spec);
    SCOPED_TRACE(std::string(bad.path) + " = " + bad.value);
    EXPECT_EQ(status.code(), Code::invalid_argument);
    EXPECT_THAT(status.to_string(), HasSubstr(std::string(bad.path) + ": "));
    EXPECT_THAT(status.message(), HasSubstr(bad.value));
    EXPECT_THAT(status.message(), HasSubstr(bad.allowed));
    paths.insert(bad.path);
  }
  const Spec preset;
  fields::visit_fields(preset, [&](const fields::Field& field, const auto&, const auto& rule) {
    bool cannot_be_wrong = std::is_same_v<std::decay_t<decltype(rule)>, fields::Flag>;
    EXPECT_TRUE(cannot_be_wrong || paths.count(field.path) == 1) << "no bad value of " << field.path << " is tried";
  });
}

struct HookKinds {
  bool epilogue = false, lse_transform = false;
};
AttentionHooks hooks_of(HookKinds kinds) {
  return *expr::parse(kinds.epilogue ? "epilogue = acc * 2" : kinds.lse_transform ? "lse_transform = lse * 2" : "");
}

TEST(Validate, DefaultsAreValid) {
  EXPECT_TRUE(validate(AttentionSpec{}).ok());
  EXPECT_TRUE(validate(AppendSpec{}).ok());
  EXPECT_TRUE(validate(MergeSpec{}).ok());
}

TEST(Validate, EveryAttentionFieldOutOfRange) {
  using A = AttentionSpec;
  constexpr int32_t kMin = std::numeric_limits<int32_t>::min(), kMax = std::numeric_limits<int32_t>::max();
  auto group = [](int32_t n) { return [n](A& s) { s.group_size = n; }; };
  auto qk = [](int32_t n) { return [n](A& s) { s.head_dim_qk = n; }; };
  auto vo = [](int32_t n) { return [n](A& s) { s.head_dim_vo = n; }; };
  auto page = [](int32_t n) { return [n](A& s) { s.layout.page_size = n; }; };
  auto split = [](SplitSpec v) { return [v](A& s) { s.split_kv = v; }; };
  auto tile = [](TileSpec v) { return [v](A& s) { s.tile = v; }; };
  auto label = [](std::string v) { return [v](A& s) { s.label = v; }; };
  auto arch = [](std::string v) { return [v](A& s) { s.arch = v; }; };
  auto hooks = [](HookKinds kinds) { return [kinds](A& s) { s.hooks = hooks_of(kinds); }; };
  const char* dims = "multiples of 16 in 16..256";
  const char* splits = "multiples of 16 in 16..16777216";
  expect_refused<A>({
      {"label", label(std::string(257, 'x')), "257 bytes", "256 bytes of UTF-8"},
      {"label", label("a\nb"), "\"a?b\"", "without control characters"},
      {"label", label("\xff"), "\"?\"", "UTF-8"},
      {"o_dtype", [](A& s) { s.o_dtype = static_cast<DType>(7); }, "7", "f16, bf16"},
      {"kfmt", [](A& s) { s.kfmt = DType::f16; }, "f16 differs from q_dtype bf16", "bf16, e4m3, e5m2, i8"},
      {"kfmt", [](A& s) { s.kfmt = static_cast<DType>(5); }, "5", "f16, bf16, e4m3, e5m2, i8"},
      {"vfmt", [](A& s) { s.vfmt = DType::f16; }, "f16 differs from q_dtype bf16", "bf16, e4m3, e5m2, i8"},
      {"kscale", [](A& s) { s.kscale = static_cast<KvScale>(4); }, "4", "none, token, channel, token_channel"},
      {"kscale", [](A& s) { s.kscale = KvScale::token; }, "token is given, but kfmt bf16 has no scales", "e4m3, e5m2, i8"},
      {"vscale", [](A& s) { s.vscale = KvScale::channel; }, "channel is given, but vfmt bf16 has no scales", "e4m3, e5m2, i8"},
      {"kzero", [](A& s) { s.kzero = KvZero::token; }, "token is given, but kfmt is bf16", "another with kfmt i8"},
      {"vzero", [](A& s) { s.vfmt = DType::e4m3, s.vzero = KvZero::channel; }, "channel is given, but vfmt is e4m3",
       "another with vfmt i8"},
      {"q_dtype", [](A& s) { s.q_dtype = s.kfmt = s.vfmt = static_cast<DType>(5); }, "5", "f16, bf16"},
      {"q_dtype", [](A& s) { s.q_dtype = DType::e4m3; }, "e4m3 is not allowed", "f16, bf16"},
      {"group_size", group(0), "0", "1..128"},
      {"group_size", group(129), "129", "1..128"},
      {"group_size", group(kMin), "-2147483648", "1..128"},
      {"head_dim_qk", qk(0), "0", dims},
      {"head_dim_qk", qk(24), "24", dims},
      {"head_dim_qk", qk(272), "272", dims},
      {"head_dim_qk", qk(-16), "-16", dims},
      {"head_dim_vo", vo(8), "8", dims},
      {"head_dim_vo", vo(257), "257", dims},
      {"head_dim_vo", vo(kMax), "2147483647", dims},
      {"gqa_pack", [](A& s) { s.gqa_pack = static_cast<GqaPack>(3); }, "3", "auto, on, off"},
      {"layout.kind", [](A& s) { s.layout.kind = static_cast<LayoutKind>(2); }, "2", "ragged, paged"},
      {"layout.page_size", page(0), "0", "1..65536"},
      {"layout.page_size", page(65537), "65537", "1..65536"},
      {"layout.order", [](A& s) { s.layout.order = static_cast<PageOrder>(2); }, "2", "NHD, HND"},
      {"layout.storage", [](A& s) { s.layout.storage = static_cast<KvStorage>(2); }, "2", "separate, joint"},
      {"layout.index", [](A& s) { s.layout.index = static_cast<PageIndex>(2); }, "2", "csr, table"},
      {"mask", [](A& s) { s.mask = static_cast<Mask>(4); }, "4", "none, causal, window, causal_window"},
      {"lse", [](A& s) { s.lse = static_cast<LseOut>(3); }, "3", "none, ln, log2"},
      {"determinism", [](A& s) { s.determinism = static_cast<Determinism>(3); }, "3", "fast, run_to_run, batch_invariant"},
      {"split_kv", split({static_cast<SplitMode>(3), 0}), "3", "\"off\""},
      {"split_kv", split({SplitMode::fixed, 0}), "fixed 0", splits},
      {"split_kv", split({SplitMode::fixed, 24}), "fixed 24", splits},
      {"split_kv", split({SplitMode::fixed, (1 << 24) + 16}), "fixed 16777232", splits},
      {"split_kv", split({SplitMode::automatic, 64}), "auto 64", splits},
      {"split_kv", split({SplitMode::off, 64}), "off 64", splits},
      {"tile", tile({true, 8, 0, {}}), "auto with 8 warps", "auto"},
      {"tile", tile({true, 0, 2, {}}), "2 stages", "auto"},
      {"tile", tile({true, 0, 0, {{16, 64}}}), "classes 16x64", "auto"},
      {"tile", tile({false, 4, 2, {}}), "classes none", "1..4 classes"},
      {"tile", tile({false, 4, 2, {{64, 16}, {48, 16}, {32, 16}, {16, 16}, {16, 16}}}), "48x16", "1..4 classes"},
      {"hooks", hooks({.epilogue = true}), "epilogue", "matrix products"},
      {"hooks", hooks({.lse_transform = true}), "lse_transform changes the log-sum-exp that is written, but lse is none",
       "ln or log2"},
      {"arch", arch(""), "\"\"", "host, or sm_NN"},
      {"arch", arch("sm_75"), "\"sm_75\"", "NN at least 80"},
      {"arch", arch("sm_90b"), "\"sm_90b\"", "sm_NNf"},
  });
}

TEST(Validate, EveryAppendFieldOutOfRange) {
  using A = AppendSpec;
  expect_refused<A>({
      {"label", [](A& s) { s.label = "\x01"; }, "\"?\"", "UTF-8"},
      {"q_dtype", [](A& s) { s.q_dtype = s.kfmt = s.vfmt = DType::i8; }, "i8 is not allowed", "f16, bf16"},
      {"kfmt", [](A& s) { s.kfmt = DType::f16; }, "f16 differs from q_dtype bf16", "e4m3, e5m2, i8"},
      {"vfmt", [](A& s) { s.vfmt = DType::f16; }, "f16 differs from q_dtype bf16", "e4m3, e5m2, i8"},
      {"kscale", [](A& s) { s.kscale = KvScale::token; }, "token is given", "e4m3, e5m2, i8"},
      {"vscale", [](A& s) { s.vscale = static_cast<KvScale>(4); }, "4", "none, token, channel, token_channel"},
      {"vzero", [](A& s) { s.vfmt = DType::e4m3, s.vzero = KvZero::channel; }, "vfmt is e4m3", "i8"},
      {"kzero", [](A& s) { s.kfmt = DType::i8, s.kscale = KvScale::token_channel, s.kzero = KvZero::channel; },
       "channel is given beside kscale token_channel", "none or token"},
      {"vzero", [](A& s) { s.vfmt = DType::i8, s.vscale = KvScale::channel, s.vzero = KvZero::token; }, "vscale is channel",
       "vscale token or token_channel"},
      {"head_dim_qk", [](A& s) { s.head_dim_qk = 24; }, "24", "multiples of 16 in 16..256"},
      {"head_dim_vo", [](A& s) { s.head_dim_vo = 272; }, "272", "multiples of 16 in 16..256"},
      {"rope", [](A& s) { s.rope = static_cast<RopePairs>(3); }, "3", "none, neox, interleaved"},
      {"rope_dims", [](A& s) { s.rope = RopePairs::neox, s.rope_dims = 24; }, "24", "multiples of 16 in 0..256"},
      {"rope_dims", [](A& s) { s.rope = RopePairs::neox, s.rope_dims = 144; }, "144 is more than head_dim_qk 128", ""},
      {"rope_dims", [](A& s) { s.rope_dims = 64; }, "64 is given, but rope is none", "neox or interleaved"},
      {"place", [](A& s) { s.place = static_cast<TokenPlace>(2); }, "2", "slots, positions"},
      {"layout.kind", [](A& s) { s.layout.kind = LayoutKind::ragged; }, "ragged is not allowed", "paged"},
      {"layout.page_size", [](A& s) { s.layout.page_size = 0; }, "0", "1..65536"},
      {"layout.order", [](A& s) { s.layout.order = static_cast<PageOrder>(2); }, "2", "NHD, HND"},
      {"layout.storage", [](A& s) { s.layout.storage = KvStorage::joint, s.kfmt = DType::i8; }, "kfmt i8 differs", "separate"},
      {"layout.storage", [](A& s) { s.layout.storage = KvStorage::joint, s.head_dim_vo = 64; }, "head_dim_vo 64", "separate"},
      {"layout.index", [](A& s) { s.layout.index = PageIndex::table; }, "slots name pages themselves", "csr"},
      {"arch", [](A& s) { s.arch = "cpu"; }, "\"cpu\"", "host, or sm_NN"},
  });
}

TEST(Validate, EveryMergeFieldOutOfRange) {
  using M = MergeSpec;
  expect_refused<M>({
      {"label", [](M& s) { s.label = "\x01"; }, "\"?\"", "UTF-8"},
      {"dtype", [](M& s) { s.dtype = static_cast<DType>(5); }, "5", "f16, bf16"},
      {"dtype", [](M& s) { s.dtype = DType::i8; }, "i8 is not allowed", "f16, bf16"},
      {"head_dim", [](M& s) { s.head_dim = 0; }, "0", "multiples of 8 in 8..256"},
      {"head_dim", [](M& s) { s.head_dim = 12; }, "12", "multiples of 8 in 8..256"},
      {"head_dim", [](M& s) { s.head_dim = 264; }, "264", "multiples of 8 in 8..256"},
      {"lse", [](M& s) { s.lse = LseOut::none; }, "none", "allowed: ln, log2"},
      {"hooks", [](M& s) { s.hooks = *expr::parse("mask = kv < 3"); }, "mask is no hook of a merge", "allowed: output, sink"},
      {"arch", [](M& s) { s.arch = "cpu"; }, "\"cpu\"", "host, or sm_NN"},
  });
}

TEST(Validate, PagesOfARaggedLayout) {
  AttentionSpec spec;
  spec.layout.kind = LayoutKind::ragged;
  EXPECT_TRUE(validate(spec).ok());
  spec.layout = {LayoutKind::ragged, 32, PageOrder::hnd, KvStorage::joint, PageIndex::table};
  Status status = validate(spec);
  for (const char* line :
       {"4 problems", "layout.page_size: 32 is given, but layout.kind ragged has no pages; allowed: the default, 16",
        "layout.order: HND is given", "layout.storage: joint is given", "layout.index: table is given"})
    EXPECT_THAT(status.message(), HasSubstr(line));
}

TEST(Validate, JointStorageOfTwoHeadDims) {
  AttentionSpec spec;
  spec.layout.storage = KvStorage::joint;
  EXPECT_TRUE(validate(spec).ok());
  spec.head_dim_qk = 64;
  EXPECT_THAT(validate(spec).to_string(), HasSubstr("layout.storage: joint holds keys and values in one tensor, but head_dim_qk 64 "
                                                    "differs from head_dim_vo 128; allowed: equal head dims, or separate"));
}

TEST(Validate, JointStorageOfTwoFormats) {
  AttentionSpec spec;
  spec.layout.storage = KvStorage::joint;
  spec.kfmt = DType::e4m3, spec.vfmt = DType::i8;
  const Status status = validate(spec);
  for (const char* words : {"layout.storage: joint", "kfmt e4m3 differs from vfmt i8", "equal formats, or separate"})
    EXPECT_THAT(status.to_string(), HasSubstr(words));
  spec.vfmt = DType::e4m3, spec.vscale = KvScale::token;  // scales are tensors of their own
  EXPECT_TRUE(validate(spec).ok());
}

TEST(Validate, HooksThatChangeCodes) {
  AttentionSpec spec;
  spec.kfmt = spec.vfmt = DType::e5m2;
  spec.hooks = *expr::parse("key = x * 2; value = x + 1; query = x * 2; logits = score + qsum / max(qnorm, 1)");
  EXPECT_TRUE(validate(spec).ok()) << validate(spec).to_string();
}

TEST(Validate, AllProblemsAtOnce) {
  AttentionSpec spec;
  spec.kfmt = DType::f16;
  spec.group_size = 0;
  spec.head_dim_qk = 24;
  spec.layout.page_size = -1;
  spec.split_kv = {SplitMode::fixed, 5};
  spec.arch = "sm_10";
  Status status = validate(spec);
  EXPECT_EQ(status.code(), Code::invalid_argument);
  for (const char* line : {"6 problems", "\n  kfmt: ", "\n  group_size: 0 is not allowed; allowed: 1..128", "\n  head_dim_qk: 24 ",
                           "\n  layout.page_size: -1 ", "\n  split_kv: fixed 5 ", "\n  arch: \"sm_10\" "})
    EXPECT_THAT(status.message(), HasSubstr(line));
}

struct HookConflict {
  const char* hooks;
  std::function<void(AttentionSpec&)> change;
  const char* message;
};

TEST(Validate, HooksBesideFieldsThatSayTheSame) {
  const HookConflict conflicts[] = {
      {"mask = kv_pos <= q_pos", [](auto& s) { s.mask = Mask::causal; }, "mask: causal is given beside the hook mask"},
      {"param R: i32 in [0, 64]; kv_pos := kv * 2 + R", [](auto& s) { s.mask = Mask::window; },
       "mask: window is given beside the hook kv_pos"},
      {"logits = score * 2", [](auto& s) { s.soft_cap = true; }, "soft_cap: is given beside the hook logits"},
      {"normalizer = none; logits = score", [](auto& s) { s.lse = LseOut::ln; }, "lse: ln is given, but without a softmax"},
      {"normalizer = none", [](auto&) {}, "hooks: normalizer none makes weights of the logits"},
      {"weight = w * w", [](auto&) {}, "hooks: weight must be w times what does not depend on w"},
  };
  for (const HookConflict& conflict : conflicts) {
    AttentionSpec spec;
    spec.hooks = *expr::parse(conflict.hooks);
    conflict.change(spec);
    EXPECT_THAT(validate(spec).to_string(), HasSubstr(conflict.message)) << conflict.hooks;
  }
}

// 0 is w times 0, and takes keys out of the sum.
TEST(Validate, WeightsMayBeZero) {
  for (const char* hooks :
       {"weight = kv < 2 ? w : 0", "weight = kv < 2 ? 0 : -w * 0.5", "weight = kv < 2 ? w : q < 3 ? 0 : w / 2"}) {
    AttentionSpec spec;
    spec.hooks = *expr::parse(hooks);
    EXPECT_TRUE(validate(spec).ok()) << hooks << validate(spec).to_string();
  }
  AttentionSpec spec;
  spec.hooks = *expr::parse("weight = kv < 2 ? w : 1");
  EXPECT_FALSE(validate(spec).ok());
}

// A merge knows rows, heads and channels. What it has no meaning for is named with its place, all of it at once.
TEST(Validate, HooksOfAMerge) {
  MergeSpec spec;
  for (const char* hooks :
       {"tensor g: bf16[TOK, HQ, D]; output = o * sigmoid(g[tok, h, d])", "tensor s: f32[HQ]; sink = s[h]",
        "param len: i32 in [1, 9], c: f32; tensor a: f32[len, 4, N]; output = o * a[h % len, d % 4, h] + c * max(lse, -9)"}) {
    spec.hooks = *expr::parse(hooks);
    EXPECT_TRUE(validate(spec).ok()) << hooks << validate(spec).to_string();
  }
  const std::string text =
      "tensor bad: f32[HQ, SLOT], good: f32[N];\\n tensor both: f32[B, HKV]; mask = kv_pos <= q_pos; lse_transform = lse * 2; "
      "output = o * good[h]; normalizer = softmax; epilogue = acc";
  const Result<MergeSpec> read = merge_spec_from_json("{\"head_dim\": 12, \"hooks\": \"" + text + "\"}");
  ASSERT_TRUE(read.ok()) << read.status().to_string();
  Status status = validate(*read);
  for (const char* line :
       {"head_dim: 12 is not allowed",
        "hooks: line 2, column 35: mask is no hook of a merge; allowed: output, sink (give it to the launches",
        "hooks: line 2, column 68: lse_transform is no hook of a merge; allowed: output, sink (the launch of a level applies its "
        "own",
        "hooks: line 2, column 132: epilogue is no hook of a merge",
        "hooks: line 1, column 8: tensor bad has the axis SLOT, which a merge does not know; allowed: HQ, TOK, D, N",
        "hooks: line 2, column 9: tensor both has the axis B", "tensor both has the axis HKV", "neither requests nor keys"})
    EXPECT_THAT(status.to_string(), HasSubstr(line));
  // The same of hooks that were made otherwise, or came from a spec of attention.
  const Result<AttentionSpec> attention = attention_spec_from_json(R"({"hooks": "tensor bad: f32[HQ, SLOT]; sink = bad[h, 0]"})");
  ASSERT_TRUE(attention.ok() && validate(*attention).ok());
  spec.hooks = attention->hooks;
  EXPECT_THAT(validate(spec).to_string(), HasSubstr("hooks: declarations: tensor bad has the axis SLOT"));
  spec.hooks = *expr::parse("normalizer = none; logits = score");
  status = validate(spec);
  EXPECT_THAT(status.to_string(), HasSubstr("logits is no hook of a merge"));
  EXPECT_THAT(status.to_string(), HasSubstr("normalizer none has no log-sum-exp to merge by; allowed: softmax"));
  // What the hook itself may not use is refused as ever.
  EXPECT_THAT(merge_spec_from_json(R"json({"hooks": "output = o * f32(b)"})json").status().to_string(),
              HasSubstr("column 18: output uses b; allowed: h, tok, d, o, lse"));
  std::string many = "output = o";
  for (int i = 0; i < 33; ++i) many += "; param p" + std::to_string(i) + ": f32";
  spec.hooks = *expr::parse(many);
  EXPECT_THAT(validate(spec).to_string(), HasSubstr("33 params; allowed: at most 32"));
}

// Hooks that a merge refuses are attention's whole, and are printed whole: that the other has read them changes nothing.
TEST(Validate, HooksThatAMergeReadAreJudgedAnewForAttention) {
  const Result<MergeSpec> merge = merge_spec_from_json(R"({"hooks": "tensor a: f32[SLOT]; logits = score + a[slot]"})");
  ASSERT_TRUE(merge.ok());
  EXPECT_FALSE(validate(*merge).ok());
  AttentionSpec spec, same;
  spec.hooks = merge->hooks;
  same.hooks = *expr::parse("tensor a: f32[SLOT]; logits = score + a[slot]");
  EXPECT_TRUE(validate(spec).ok()) << validate(spec).to_string();
  EXPECT_TRUE(spec.hooks.has(expr::Hook::logits));
  EXPECT_EQ(canonical_bytes(spec), canonical_bytes(same));
}

TEST(Validate, BatchInvariantMayLeaveTheSplitToLathe) {
  AttentionSpec spec;
  spec.determinism = Determinism::batch_invariant;
  EXPECT_TRUE(validate(spec).ok());
}

TEST(Validate, EndsOfEveryRange) {
  AttentionSpec spec;
  spec.label = std::string(256, 'x');
  spec.group_size = 128;
  spec.head_dim_qk = 16;
  spec.head_dim_vo = 256;
  spec.layout.page_size = 65536;
  spec.split_kv = {SplitMode::fixed, 1 << 24};
  spec.tile = {false, 8, 4, {{128, 16}, {64, 32}, {32, 64}, {16, 128}}};
  spec.arch = "sm_100f";
  EXPECT_TRUE(validate(spec).ok()) << validate(spec).to_string();
}

}  // namespace
}  // namespace lathe
