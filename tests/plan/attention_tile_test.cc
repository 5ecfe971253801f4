#include "lathe/plan/attention_tile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lathe/spec/expr/parse.h"

namespace lathe::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

ArchTraits arch(const char* name) {
  Result<ArchTraits> traits = arch_traits(name);
  EXPECT_TRUE(traits.ok()) << traits.status().to_string();
  return *traits;
}

AttentionSpec spec_of(int32_t head_dim) {
  AttentionSpec spec;
  spec.head_dim_qk = spec.head_dim_vo = head_dim;
  spec.group_size = 4;
  return spec;
}

AttentionSpec given(int32_t warps, int32_t stages, std::vector<TileClass> classes, int32_t head_dim = 128) {
  AttentionSpec spec = spec_of(head_dim);
  spec.tile = {false, warps, stages, std::move(classes)};
  return spec;
}

std::string refusal(const AttentionSpec& spec, const char* name = "sm_90a") {
  Result<AttentionTile> tile = resolve_tile(spec, arch(name));
  EXPECT_FALSE(tile.ok());
  return tile.status().to_string();
}

TEST(AttentionTile, SharedMemoryFollowsTheModel) {
  AttentionSpec spec = spec_of(128);
  // q 128 rows of 256 bytes; 2 stages of 64 rows of k and v, 512 bytes together.
  EXPECT_EQ(attention_shared_bytes(spec, 8, 2, {{128, 64}}), 128 * 256 + 2 * 64 * 512 + kControlBytes);
  // The largest class counts: 16 rows and 128 tokens.
  EXPECT_EQ(attention_shared_bytes(spec, 8, 2, {{128, 64}, {16, 128}}), 16 * 256 + 2 * 128 * 512 + kControlBytes);
  // With one small tile the epilogue is what counts: 16 rows of 136 floats for each warp.
  EXPECT_EQ(attention_shared_bytes(spec, 8, 1, {{16, 16}}), 16 * 8 * 136 * 4 + kControlBytes);
  // A head dim of 80 takes two panels of 64 elements.
  spec.head_dim_qk = 80;
  EXPECT_EQ(attention_shared_bytes(spec, 8, 2, {{128, 64}}), 128 * 256 + 2 * 64 * 512 + kControlBytes);
}

TEST(AttentionTile, HooksOfCodesTakeATileOfElements) {
  AttentionSpec spec = spec_of(128);
  spec.kfmt = DType::e4m3, spec.vfmt = DType::i8, spec.head_dim_vo = 80;
  const int32_t codes = 128 * 256 + 2 * 64 * (128 + 128) + kControlBytes;
  EXPECT_EQ(attention_shared_bytes(spec, 8, 2, {{128, 64}}), codes);
  spec.hooks = *expr::parse("key = x * 2");
  EXPECT_EQ(attention_shared_bytes(spec, 8, 2, {{128, 64}}), codes + 64 * 256);
  spec.head_dim_qk = 64;  // keys and values take turns in the larger one
  const int32_t smaller = 128 * 128 + 2 * 64 * (128 + 128) + kControlBytes;
  spec.hooks = *expr::parse("key = x * 2; value = x * 2");
  EXPECT_EQ(attention_shared_bytes(spec, 8, 2, {{128, 64}}), smaller + 64 * 256);
  spec.vfmt = spec.q_dtype;  // elements change where they lie
  EXPECT_EQ(attention_shared_bytes(spec, 8, 2, {{128, 64}}), 128 * 128 + 2 * 64 * (128 + 256) + kControlBytes + 64 * 128);
}

TEST(AttentionTile, AutomaticTileOfHeadDim128) {
  Result<AttentionTile> tile = resolve_tile(spec_of(128), arch("sm_90a"));
  ASSERT_TRUE(tile.ok());
  EXPECT_EQ(tile->warps, 8);
  EXPECT_EQ(tile->stages, 2);
  EXPECT_EQ(tile->classes, (std::vector<TileClass>{{128, 64}, {16, 128}}));
  EXPECT_EQ(tile->warps_kv(tile->classes[0]), 1);
  EXPECT_EQ(tile->warps_kv(tile->classes[1]), 8);
  EXPECT_THAT(tile->reason, HasSubstr("128x64 + 16x128"));
}

TEST(AttentionTile, LessSharedMemoryTakesStagesBeforeWarps) {
  Result<AttentionTile> tile = resolve_tile(spec_of(128), arch("sm_89"));
  ASSERT_TRUE(tile.ok());
  EXPECT_EQ(tile->warps, 8);
  EXPECT_EQ(tile->stages, 1);
  EXPECT_THAT(tile->reason, HasSubstr("2 stages needs")) << "says what did not fit";
  tile = resolve_tile(spec_of(256), arch("sm_89"));
  ASSERT_TRUE(tile.ok());
  EXPECT_EQ(tile->warps, 4) << "8 warps cannot stage their output";
}

TEST(AttentionTile, EveryHeadDimHasATileOnEveryArch) {
  std::vector<std::string> names = known_archs();
  names.insert(names.end(), {"sm_90a", "sm_100a", "sm_120a"});
  for (const std::string& name : names) {
    ArchTraits traits = arch(name.c_str());
    for (int32_t qk = 16; qk <= 256; qk += 16) {
      for (int32_t vo = 16; vo <= 256; vo += 16) {
        AttentionSpec spec = spec_of(qk);
        spec.head_dim_vo = vo;
        Result<AttentionTile> tile = resolve_tile(spec, traits);
        ASSERT_TRUE(tile.ok()) << name << " " << qk << "/" << vo << ": " << tile.status().to_string();
        EXPECT_LE(tile->shared_bytes, traits.max_shared_bytes) << name << " " << qk << "/" << vo;
        // What is chosen must also be accepted when it is given.
        spec.tile = {false, tile->warps, tile->stages, tile->classes};
        Result<AttentionTile> again = resolve_tile(spec, traits);
        ASSERT_TRUE(again.ok()) << name << " " << qk << "/" << vo << ": " << again.status().to_string();
        EXPECT_EQ(again->shared_bytes, tile->shared_bytes);
      }
    }
  }
}

TEST(AttentionTile, PacksGroupsUnlessToldNotTo) {
  AttentionSpec spec = spec_of(128);
  EXPECT_TRUE(resolve_tile(spec, arch("sm_80"))->packed);
  spec.gqa_pack = GqaPack::off;
  EXPECT_FALSE(resolve_tile(spec, arch("sm_80"))->packed);
  spec.group_size = 1;
  spec.gqa_pack = GqaPack::automatic;
  EXPECT_FALSE(resolve_tile(spec, arch("sm_80"))->packed);
}

TEST(AttentionTile, ArchWithTooLittleSharedMemoryIsRefusedWithFigures) {
  ArchTraits tiny = arch("sm_80");
  tiny.name = "sm_tiny";
  tiny.max_shared_bytes = 16 * 1024;
  Result<AttentionTile> tile = resolve_tile(spec_of(128), tiny);
  ASSERT_FALSE(tile.ok());
  EXPECT_EQ(tile.status().code(), Code::unsupported);
  EXPECT_THAT(tile.status().to_string(), HasSubstr("16384 bytes of shared memory of sm_tiny"));
}

TEST(AttentionTile, GivenTilesOfOneToFourClasses) {
  EXPECT_TRUE(resolve_tile(given(4, 2, {{64, 64}}), arch("sm_80")).ok());
  EXPECT_TRUE(resolve_tile(given(8, 1, {{128, 64}, {64, 64}, {32, 64}, {16, 128}}), arch("sm_80")).ok());
}

TEST(AttentionTile, GivenTilesAreCheckedFieldByField) {
  EXPECT_THAT(refusal(given(6, 2, {{128, 64}})), HasSubstr("tile.warps: is 6; must be 4 or 8"));
  EXPECT_THAT(refusal(given(8, 0, {{128, 64}})), HasSubstr("tile.stages: is 0; must be 1..4"));
  EXPECT_THAT(refusal(given(8, 5, {{128, 64}})), HasSubstr("tile.stages: is 5"));
  EXPECT_THAT(refusal(given(8, 2, {})), HasSubstr("tile.classes: has 0 classes; must have 1..4"));
  EXPECT_THAT(refusal(given(8, 2, {{128, 64}, {64, 64}, {32, 64}, {16, 128}, {16, 128}})), HasSubstr("has 5 classes"));
  EXPECT_THAT(refusal(given(8, 2, {{24, 64}})), HasSubstr("tile.classes[0].q: is 24; must be a positive multiple of 16"));
  EXPECT_THAT(refusal(given(8, 2, {{0, 64}})), HasSubstr("tile.classes[0].q: is 0"));
  EXPECT_THAT(refusal(given(8, 2, {{-16, 64}})), HasSubstr("tile.classes[0].q: is -16"));
  EXPECT_THAT(refusal(given(8, 2, {{48, 64}})), HasSubstr("q / 16 = 3 must divide tile.warps = 8"));
  EXPECT_THAT(refusal(given(4, 2, {{128, 64}})), HasSubstr("q / 16 = 8 must divide tile.warps = 4"));
  EXPECT_THAT(refusal(given(8, 2, {{16, 64}})), HasSubstr("tile.classes[0].kv: is 64; must be a multiple of 128"));
  EXPECT_THAT(refusal(given(8, 2, {{128, 0}})), HasSubstr("tile.classes[0].kv: is 0"));
  EXPECT_THAT(refusal(given(8, 2, {{16, 384}})), HasSubstr("tile.classes[0].kv: is 384"));
  EXPECT_THAT(refusal(given(8, 2, {{16, 128}, {128, 64}})),
              HasSubstr("tile.classes[1].q: is 128 after 16; classes must fall strictly in q"));
  EXPECT_THAT(refusal(given(8, 2, {{16, 128}, {16, 128}})), HasSubstr("tile.classes[1].q: is 16 after 16"));
}

TEST(AttentionTile, GivenTileThatWouldSpillIsRefused) {
  // 256 / 2 accumulators of the output and 48 / 2 of the scores; eight threads load a row, so that 32 have 12 of 48 each.
  AttentionSpec spec = given(4, 1, {{16, 192}}, 256);
  spec.head_dim_qk = 16;
  spec.layout = {.kind = LayoutKind::ragged};  // less code than with pages
  EXPECT_THAT(refusal(spec), HasSubstr("tile.classes: 16x192 with head_dim_vo 256 and 4 warps need 188 registers a thread, for 152 "
                                       "accumulators and 12 rows to load; at most 174 are left for one class"));
  EXPECT_TRUE(resolve_tile(given(8, 1, {{128, 32}}, 256), arch("sm_90a")).ok());
  // A decode class of its own may be larger than one beside another.
  spec.tile.classes = {{16, 128}};
  EXPECT_TRUE(resolve_tile(spec, arch("sm_90a")).ok());
  spec.tile.classes = {{64, 32}, {16, 128}};
  EXPECT_THAT(refusal(spec),
              HasSubstr("tile.classes: 64x32 + 16x128 with head_dim_vo 256 and 4 warps need 174 registers a thread, for "
                        "144 accumulators and 10 rows to load; at most 166 are left for several classes"));
}

// Three classes whose rows were counted as those of one class are: 12 bytes spilled on sm_80.
TEST(AttentionTile, SeveralClassesKeepMoreOfEachRow) {
  AttentionSpec spec = given(4, 1, {{64, 32}, {32, 160}, {16, 128}}, 80);
  spec.layout.page_size = 17;
  EXPECT_THAT(refusal(spec), HasSubstr("need 240 registers a thread, for 80 accumulators and 20 rows to load; at most 200"));
  spec.tile.classes = {{64, 32}, {32, 96}, {16, 128}};
  EXPECT_TRUE(resolve_tile(spec, arch("sm_80")).ok());
}

// A kernel of e4m3 keys and values of 256 dims with a mask, scores over the query's norm and a hook of values spilled 32 bytes.
TEST(AttentionTile, CodesBesideHooksOfScoresTakeFewerKeys) {
  AttentionSpec spec;
  spec.q_dtype = DType::f16;
  spec.kfmt = spec.vfmt = DType::e4m3;
  spec.head_dim_qk = spec.head_dim_vo = 256;
  spec.group_size = 19;
  const auto classes = [&] { return resolve_tile(spec, arch("sm_80"))->classes; };
  spec.hooks = *expr::parse("value = max(x, 0.0)");
  EXPECT_EQ(classes(), (std::vector<TileClass>{{128, 32}, {16, 128}}));
  spec.hooks = *expr::parse("mask = kv_pos <= q_pos; logits = score / max(qnorm, 1.0); value = max(x, 0.0)");
  EXPECT_EQ(classes(), (std::vector<TileClass>{{128, 16}, {16, 128}}));
  spec.tile = {.automatic = false, .warps = 8, .stages = 1, .classes = {{128, 32}, {16, 128}}};
  EXPECT_THAT(refusal(spec), HasSubstr("need 159 registers a thread, for 144 accumulators and 5 rows to load; at most 155"));
  spec.tile.classes = {{128, 16}, {16, 128}};
  EXPECT_TRUE(resolve_tile(spec, arch("sm_80")).ok());
}

TEST(AttentionTile, GivenTileOfTooMuchCodeIsRefused) {
  EXPECT_THAT(refusal(given(8, 1, {{128, 128}}, 112)), HasSubstr("128x128 with head dims 112/112 and 8 warps compiles to about "));
  EXPECT_THAT(refusal(given(8, 1, {{128, 128}}, 112)), HasSubstr("KB of PTX; at most 150"));
  EXPECT_TRUE(resolve_tile(given(8, 1, {{128, 96}}, 112), arch("sm_90a")).ok());
}

TEST(AttentionTile, GivenTileThatDoesNotFitNamesBothFigures) {
  std::string text = refusal(given(8, 4, {{128, 64}, {16, 128}}), "sm_89");
  EXPECT_THAT(text, HasSubstr(std::to_string(16 * 256 + 4 * 128 * 512 + kControlBytes)));
  EXPECT_THAT(text, HasSubstr(std::to_string(99 * 1024)));
  EXPECT_THAT(text, HasSubstr("sm_89"));
}

TEST(AttentionTile, AllProblemsAtOnce) {
  std::string text = refusal(given(5, 9, {{17, 3}, {32, -16}}));
  for (const char* part :
       {"tile.warps", "tile.stages", "tile.classes[0].q", "tile.classes[0].kv", "tile.classes[1].q", "tile.classes[1].kv"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(AttentionTile, HostileNumbersDoNotOverflow) {
  constexpr int32_t kHuge = 2147483632;  // a multiple of 16
  EXPECT_THAT(refusal(given(8, 2, {{kHuge, kHuge}})), HasSubstr("tile.classes[0]"));
  EXPECT_THAT(refusal(given(kHuge, kHuge, {{16, kHuge}})), HasSubstr("tile.warps"));
}

}  // namespace
}  // namespace lathe::testing
