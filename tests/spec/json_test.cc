#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lathe/spec/expr/parse.h"
#include "lathe/spec_testing/random_spec.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

AttentionSpec read(std::string_view text) {
  auto spec = attention_spec_from_json(text);
  EXPECT_TRUE(spec.ok()) << spec.status().to_string();
  return spec.ok() ? *spec : AttentionSpec{};
}

/// The whole Status as text; the read must fail as a caller's mistake.
std::string refused(std::string_view text) {
  auto spec = attention_spec_from_json(text);
  EXPECT_FALSE(spec.ok()) << text;
  EXPECT_EQ(spec.status().code(), Code::invalid_argument);
  return spec.status().to_string();
}

TEST(Json, RoundTripOfRandomAttentionSpecs) {
  std::mt19937_64 rng(seed());
  for (int i = 0; i < 10'000; ++i) {
    AttentionSpec spec = random_spec(rng);
    std::string text = to_json(spec);
    auto back = attention_spec_from_json(text);
    ASSERT_TRUE(back.ok()) << back.status().to_string() << "\n" << text;
    ASSERT_EQ(*back, spec) << text;
    ASSERT_EQ(to_json(*back), text);
  }
}

TEST(Json, RoundTripOfRandomMergeSpecs) {
  std::mt19937_64 rng(seed());
  for (int i = 0; i < 10'000; ++i) {
    MergeSpec spec = random_merge_spec(rng);
    auto back = merge_spec_from_json(to_json(spec));
    ASSERT_TRUE(back.ok()) << back.status().to_string();
    ASSERT_EQ(*back, spec);
  }
}

TEST(Json, RoundTripOfRandomAppendSpecs) {
  std::mt19937_64 rng(seed());
  for (int i = 0; i < 10'000; ++i) {
    AppendSpec spec = random_append_spec(rng);
    auto back = append_spec_from_json(to_json(spec));
    ASSERT_TRUE(back.ok()) << back.status().to_string();
    ASSERT_EQ(*back, spec);
  }
}

// They lost their text, and what was read back had none.
TEST(Json, HooksThatAttentionRefusesAreKept) {
  AttentionSpec spec;
  spec.hooks = *expr::parse("epilogue = acc * 2");
  EXPECT_FALSE(validate(spec).ok());
  Result<AttentionSpec> read = attention_spec_from_json(to_json(spec));
  ASSERT_TRUE(read.ok()) << read.status().to_string();
  EXPECT_EQ(*read, spec);
}

/// With exactly one problem its column was lost, in the JSON form the hook's name too.
TEST(Json, OneProblemOfHooksHasItsPlace) {
  const auto refused = [](const std::string& hooks) {
    const Result<AttentionSpec> spec = attention_spec_from_json(R"({"op":"attention","hooks":)" + hooks + "}");
    return spec.ok() ? validate(*spec).to_string() : spec.status().to_string();
  };
  EXPECT_EQ(refused(R"("mask = kv_poss <= q_pos")"),
            "invalid_argument: hooks: column 8: unknown name 'kv_poss' (did you mean kv_pos?)");
  EXPECT_EQ(refused(R"({"mask":"kv_poss <= q_pos"})"),
            "invalid_argument: hooks: mask, column 1: unknown name 'kv_poss' (did you mean kv_pos?)");
  EXPECT_THAT(refused(R"("mask = kv_poss <= q_poss")"), HasSubstr("\n  column 19: unknown name 'q_poss'"));
  EXPECT_THAT(refused(R"({"params":{"kv":{"type":"i32"}},"mask":"kv < 3"})"), HasSubstr("hooks: params.kv: the name \"kv\""));
  EXPECT_THAT(refused(R"({"params":{"a":{"type":"f32","range":[1, 0]}},"sink":"a"})"),
              HasSubstr("hooks: params.a: param a has the range"));
}

/// What attention refuses of the language was told of without a column.
TEST(Json, WhatAttentionRefusesOfHooksHasItsPlace) {
  const auto refused = [](const std::string& hooks) {
    const Result<AttentionSpec> spec = attention_spec_from_json(R"({"hooks":)" + hooks + "}");
    EXPECT_TRUE(spec.ok()) << "reading does not validate";
    return validate(*spec).to_string();
  };
  EXPECT_THAT(refused(R"("sink = 1; weight = w * w")"), HasSubstr("hooks: column 22: weight must be w times"));
  EXPECT_THAT(refused(R"({"weight":"w * w"})"), HasSubstr("hooks: weight, column 3: weight must be w times"));
  EXPECT_THAT(refused(R"("epilogue = acc")"), HasSubstr("hooks: column 12: epilogue is a hook of matrix products"));
  std::string params = "param p0";
  for (int i = 1; i < 33; ++i) params += ", p" + std::to_string(i);
  const size_t at = params.find("p32") + 1;
  EXPECT_THAT(refused("\"" + params + ": f32; sink = p0\""),
              HasSubstr("hooks: column " + std::to_string(at) + ": 33 params; allowed: at most 32"));
}

TEST(Json, WarningsOfHooksHaveTheirPlace) {
  const Result<AttentionSpec> spec =
      attention_spec_from_json(R"({"hooks":"tensor t: f32[N]; key = x * 2; logits = score + t[kv]"})");
  ASSERT_TRUE(spec.ok()) << spec.status().to_string();
  ASSERT_EQ(spec->hooks.warnings().size(), 1u);
  EXPECT_THAT(spec->hooks.warnings()[0], HasSubstr("column 51: index 1 of tensor t, 'kv', is not proven to stay in its axis"));
  ASSERT_EQ(spec->hooks.notes().size(), 1u);
  EXPECT_THAT(spec->hooks.notes()[0], HasSubstr("key is computed for each tile of rows"));
}

TEST(Json, CanonicalText) {
  AttentionSpec spec;
  spec.split_kv = {SplitMode::fixed, 2048};
  EXPECT_EQ(to_json(spec),
            R"({"op":"attention","label":"","q_dtype":"bf16","o_dtype":"bf16","kfmt":"bf16","vfmt":"bf16",)"
            R"("kscale":"none","vscale":"none","kzero":"none","vzero":"none","group_size":1,)"
            R"("head_dim_qk":128,"head_dim_vo":128,"gqa_pack":"auto","layout":{"kind":"paged","page_size":16,"order":"NHD",)"
            R"("storage":"separate","index":"csr"},"mask":"none","soft_cap":false,"lse":"none","determinism":"run_to_run",)"
            R"("split_kv":{"fixed":2048},"tile":"auto","hooks":"","arch":"host"})");
  EXPECT_EQ(to_json(AppendSpec{}),
            R"({"op":"append","label":"","q_dtype":"bf16","kfmt":"bf16","vfmt":"bf16","kscale":"none","vscale":"none",)"
            R"("kzero":"none","vzero":"none","head_dim_qk":128,"head_dim_vo":128,"rope":"none","rope_dims":0,"place":"slots",)"
            R"("layout":{"kind":"paged","page_size":16,"order":"NHD","storage":"separate","index":"csr"},"arch":"host"})");
  EXPECT_EQ(to_json(MergeSpec{}), R"({"op":"merge","label":"","dtype":"bf16","head_dim":128,"lse":"ln","hooks":"","arch":"host"})");
}

TEST(Json, WhatIsLeftOutHasItsDefault) {
  EXPECT_EQ(read("{}"), AttentionSpec{});
  EXPECT_EQ(read(R"({"op":"attention"})"), AttentionSpec{});
  AttentionSpec expected;
  expected.group_size = 4;
  expected.mask = Mask::causal;
  expected.lse = LseOut::ln;
  EXPECT_EQ(read(R"({"op":"attention","q_dtype":"bf16","o_dtype":"bf16","head_dim_qk":128,"head_dim_vo":128,"group_size":4,
                     "layout":{"kind":"paged","page_size":16,"order":"NHD"},"mask":"causal","lse":"ln"})"),
            expected);
}

TEST(Json, KvFormatsFollowQ) {
  AttentionSpec spec = read(R"({"q_dtype":"f16"})");
  EXPECT_EQ(spec.kfmt, DType::f16);
  EXPECT_EQ(spec.vfmt, DType::f16);
  EXPECT_EQ(spec.o_dtype, DType::bf16);
  spec = read(R"({"vfmt":"bf16","q_dtype":"f16"})");
  EXPECT_EQ(spec.kfmt, DType::f16);
  EXPECT_EQ(spec.vfmt, DType::bf16);
}

TEST(Json, ShortForms) {
  EXPECT_EQ(read(R"({"layout":"ragged"})").layout.kind, LayoutKind::ragged);
  EXPECT_EQ(read(R"({"layout":"paged"})").layout, LayoutSpec{});
  EXPECT_EQ(read(R"({"mask":"both"})").mask, Mask::causal_window);
  EXPECT_EQ(read(R"({"split_kv":"off"})").split_kv.mode, SplitMode::off);
  EXPECT_EQ(read(R"({"split_kv":"auto"})").split_kv, SplitSpec{});
  TileSpec tile{false, 8, 2, {{128, 64}, {16, 128}}};
  EXPECT_EQ(read(R"({"tile":{"warps":8,"stages":2,"classes":[{"q":128,"kv":64},{"q":16,"kv":128}]}})").tile, tile);
}

TEST(Json, UnknownKeysAreNamed) {
  EXPECT_THAT(refused(R"({"head_dim":128})"), AllOf(HasSubstr("head_dim: unknown field"), HasSubstr("head_dim_qk, head_dim_vo")));
  EXPECT_THAT(refused(R"({"layout":{"page":1}})"),
              AllOf(HasSubstr("layout.page: unknown field"), HasSubstr("kind, page_size, order")));
  EXPECT_THAT(refused(R"({"layout.kind":"paged"})"), HasSubstr("layout.kind: unknown field"));
  EXPECT_THAT(refused(R"({"split_kv":{"fixed":16,"x":1}})"), HasSubstr("split_kv.x: unknown field; allowed: fixed"));
  EXPECT_THAT(refused(R"({"tile":{"warps":8,"stages":2,"classes":[{"q":16,"kv":16}],"y":0}})"), HasSubstr("tile.y: unknown field"));
  EXPECT_THAT(refused(R"({"tile":{"warps":8,"stages":2,"classes":[{"q":16,"kv":16,"z":0}]}})"),
              HasSubstr("tile.classes[0].z: unknown"));
  EXPECT_THAT(refused(R"({"\u001b[31m":1})"), HasSubstr("?[31m: unknown field"));
}

TEST(Json, ManyUnknownKeysMakeABoundedMessage) {
  std::string text = "{";
  for (int i = 0; i < 5000; ++i) text += (i == 0 ? "\"k" : ",\"k") + std::to_string(i) + "\":1";
  std::string message = refused(text + "}");
  EXPECT_THAT(message, HasSubstr("4984 more unknown fields"));
  EXPECT_LT(message.size(), 10'000u);
}

TEST(Json, WrongTypesAndValues) {
  struct Case {
    const char* text;
    const char* line;
  };
  for (const Case& c : std::vector<Case>{
           {R"({"op":"merge"})", R"(op: "merge" is not allowed; allowed: attention)"},
           {R"({"op":1})", "op: 1 is not allowed"},
           {R"({"label":7})", "label: 7 is not allowed; allowed: at most 256 bytes"},
           {R"({"q_dtype":"fp16"})", R"(q_dtype: "fp16" is not allowed; allowed: f16, bf16)"},
           {R"({"q_dtype":"BF16"})", "q_dtype"},
           {R"({"o_dtype":1})", "o_dtype: 1 is not allowed; allowed: f16, bf16"},
           {R"({"kfmt":null})", "kfmt: null is not allowed"},
           {R"({"vfmt":{}})", "vfmt: {} is not allowed"},
           {R"({"group_size":"4"})", R"(group_size: "4" is not allowed; allowed: 1..128)"},
           {R"({"group_size":4.0})", "group_size: 4.0 is not allowed"},
           {R"({"group_size":1e2})", "group_size: 100.0 is not allowed"},
           {R"({"group_size":true})", "group_size: true is not allowed"},
           {R"({"head_dim_qk":4294967424})", "head_dim_qk: 4294967424 is not allowed; allowed: multiples of 16 in 16..256"},
           {R"({"head_dim_vo":-99999999999})", "head_dim_vo: -99999999999 is not allowed"},
           {R"({"head_dim_vo":18446744073709551744})", "head_dim_vo: 1.8446744073709552e+19 is not allowed"},
           {R"({"gqa_pack":true})", "gqa_pack: true is not allowed; allowed: auto, on, off"},
           {R"({"layout":"dense"})", R"(layout.kind: "dense" is not allowed; allowed: ragged, paged)"},
           {R"({"layout":["paged"]})", R"(layout: ["paged"] is not allowed; allowed: an object)"},
           {R"({"layout":null})", "layout: null is not allowed"},
           {R"({"layout":{"page_size":[16]}})", "layout.page_size: [16] is not allowed; allowed: 1..65536"},
           {R"({"layout":{"order":"nhd"}})", R"(layout.order: "nhd" is not allowed; allowed: NHD, HND)"},
           {R"({"layout":{"storage":"split"}})", "layout.storage"},
           {R"({"layout":{"index":0}})", "layout.index"},
           {R"({"mask":"Causal"})", "allowed: none, causal, window, causal_window"},
           {R"({"soft_cap":1})", "soft_cap: 1 is not allowed; allowed: true, false"},
           {R"({"lse":"log10"})", "allowed: none, ln, log2"},
           {R"({"determinism":"yes"})", "allowed: fast, run_to_run, batch_invariant"},
           {R"({"split_kv":"fixed"})", R"(split_kv: "fixed" is not allowed)"},
           {R"({"split_kv":2048})", "split_kv: 2048 is not allowed"},
           {R"({"split_kv":{}})", "split_kv.fixed: is missing"},
           {R"({"split_kv":{"fixed":"2048"}})", R"(split_kv.fixed: "2048" is not allowed; allowed: multiples of 16)"},
           {R"({"tile":8})", "tile: 8 is not allowed"},
           {R"({"tile":{}})", "tile.warps: is missing"},
           {R"({"tile":{"warps":8.5,"stages":2,"classes":[{"q":16,"kv":16}]}})",
            "tile.warps: 8.5 is not allowed; allowed: a whole number"},
           {R"({"tile":{"warps":8,"stages":2,"classes":[]}})", "tile.classes: [] is not allowed; allowed: a list of 1..4"},
           {R"({"tile":{"warps":8,"stages":2,"classes":[7]}})", "tile.classes[0]: 7 is not allowed"},
           {R"({"tile":{"warps":8,"stages":2,"classes":[{"q":16,"kv":16},{"q":16}]}})", "tile.classes[1].kv: is missing"},
           {R"({"arch":90})", "arch: 90 is not allowed; allowed: host, or sm_NN"},
       })
    EXPECT_THAT(refused(c.text), HasSubstr(c.line)) << c.text;
}

TEST(Json, AllProblemsAtOnce) {
  std::string message =
      refused(R"({"op":"x","foo":1,"q_dtype":"f8","layout":{"order":1,"bar":2},"split_kv":{"fixed":1.5},"arch":[]})");
  for (const char* line : {"7 problems", "\n  op: ", "\n  foo: ", "\n  q_dtype: ", "\n  layout.order: ", "\n  layout.bar: ",
                           "\n  split_kv.fixed: ", "\n  arch: "})
    EXPECT_THAT(message, HasSubstr(line));
}

TEST(Json, WhatCouldBeReadIsValidatedWithTheRest) {
  std::string message = refused(R"({"maks":"causal","q_dtype":"fp16","head_dim_qk":24,"group_size":0,"arch":"sm_1"})");
  for (const char* line : {"5 problems", "\n  maks: unknown field", "\n  q_dtype: \"fp16\" is not allowed",
                           "\n  group_size: 0 is not allowed; allowed: 1..128", "\n  head_dim_qk: 24 is not allowed",
                           "\n  arch: \"sm_1\" is not allowed"})
    EXPECT_THAT(message, HasSubstr(line));
  message = refused(R"({"lse":"log10","layout":{"kind":"ragged","page_size":32}})");
  EXPECT_THAT(message, AllOf(HasSubstr("2 problems"), HasSubstr("layout.page_size: 32 is given, but layout.kind ragged")));
  auto merge = merge_spec_from_json(R"({"dtype":"f8","head_dim":12})");
  ASSERT_FALSE(merge.ok());
  EXPECT_THAT(merge.status().message(), AllOf(HasSubstr("2 problems"), HasSubstr("head_dim: 12 is not allowed")));
}

// What could not be read is unknown, not its default: nothing is said about how it goes with the rest, and it is named once.
TEST(Json, WhatCouldNotBeReadIsNamedOnce) {
  for (const char* text : {
           R"({"q_dtype":"fp16","kfmt":"f16","vfmt":"f16"})",
           R"({"kfmt":"fp8"})",
           R"({"layout":{"kind":"raged","page_size":32}})",
           R"({"layout":{"kind":"ragged","page_size":"32"}})",
           R"({"head_dim_qk":"64","head_dim_vo":64,"layout":{"storage":"joint"}})",
           R"({"split_kv":{"fixed":"2048"}})",
           R"({"tile":{"warps":8,"stages":2,"classes":[]}})",
       })
    EXPECT_THAT(refused(text), Not(HasSubstr("problems"))) << text;
}

TEST(Json, TextsThatAreNotJson) {
  for (const char* text : {"", " ", "{", "}", "{]", "nul", "{\"a\":}", "{\"a\":1,}", "{'a':1}", "{\"mask\":\"none\"} x",
                           "{\"group_size\":NaN}", "{\"group_size\":Infinity}", "{\"group_size\":1e999}", "{\"group_size\":01}",
                           "{\"label\":\"\xff\"}", "{\"label\":\"\\ud800\"}", "{\"label\":\"a\nb\"}", "// c\n{}"})
    EXPECT_THAT(refused(text), HasSubstr("not JSON at byte")) << text;
  EXPECT_THAT(refused(std::string_view("{}\0x", 4)), HasSubstr("not JSON"));
  for (const char* text : {"[]", "1", "null", "\"attention\"", "true"})
    EXPECT_THAT(refused(text), HasSubstr("allowed: a JSON object"));
}

TEST(Json, DuplicateKeys) {
  EXPECT_THAT(refused(R"({"group_size":1,"mask":"none","group_size":2})"), HasSubstr(R"(the key "group_size" is given twice)"));
  EXPECT_THAT(refused(R"({"layout":{"order":"NHD","order":"NHD"}})"), HasSubstr(R"(the key "order" is given twice)"));
  EXPECT_THAT(refused(R"({"mask":"none","\u006dask":"causal"})"), HasSubstr(R"(the key "mask" is given twice)"));
}

TEST(Json, SizeAndDepthAreBounded) {
  std::string text = "{}";
  text.resize(64 * 1024, ' ');
  EXPECT_TRUE(attention_spec_from_json(text).ok());
  text += ' ';
  EXPECT_THAT(refused(text), HasSubstr("65537 bytes of JSON is not allowed; allowed: at most 65536"));
  EXPECT_THAT(refused(R"({"label":)" + std::string(15, '[') + std::string(15, ']') + "}"), HasSubstr("label: ["));
  EXPECT_THAT(refused(R"({"label":)" + std::string(16, '[') + std::string(16, ']') + "}"), HasSubstr("deeper than 16"));
  EXPECT_THAT(refused(std::string(60'000, '[')), HasSubstr("deeper than 16"));
}

TEST(Json, ReadingDoesNotValidate) {
  AttentionSpec spec = read(R"({"group_size":-7,"head_dim_qk":24,"split_kv":{"fixed":5},"arch":"cpu","label":"a\nb"})");
  EXPECT_EQ(spec.group_size, -7);
  EXPECT_EQ(spec.label, "a\nb");
  EXPECT_FALSE(validate(spec).ok());
}

TEST(Json, WritingIsTotal) {
  AttentionSpec spec;
  spec.label = "\xff";
  spec.mask = static_cast<Mask>(77);
  EXPECT_THAT(to_json(spec), AllOf(HasSubstr("\"mask\":77"), HasSubstr("\xef\xbf\xbd")));
}

TEST(Json, MergeRefusesWhatItHasNot) {
  auto spec = merge_spec_from_json(R"({"op":"attention","lse":"none","head_dim_qk":64})");
  ASSERT_FALSE(spec.ok());
  EXPECT_THAT(spec.status().message(),
              AllOf(HasSubstr("op: \"attention\" is not allowed; allowed: merge"),
                    HasSubstr("lse: \"none\" is not allowed; allowed: ln, log2"), HasSubstr("head_dim_qk: unknown")));
}

}  // namespace
}  // namespace lathe::testing
