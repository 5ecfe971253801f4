#include "lathe/spec/expr/tiles.h"

#include <gtest/gtest.h>

#include <chrono>
#include <iostream>

#include "dense_mask.h"
#include "lathe/spec/expr/kv_ranges.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/testing/seed.h"
#include "tile_soundness.h"

namespace lathe::expr {
namespace {

using testing::DenseMask;
using testing::Rng;

struct Mask {
  const char* text;
  SkipClass skip;
  bool full = true;  // whether full tiles are found as well as empty ones
};

// All of these are found exactly, with the tensors that they are meant for.
constexpr Mask kExact[] = {
    {"mask = kv_pos <= q_pos", SkipClass::ranges},
    {"param W:i32; mask = kv_pos <= q_pos && q_pos - kv_pos < W", SkipClass::ranges},
    {"param W:i32; mask = abs(q_pos - kv_pos) <= W", SkipClass::ranges},
    {"param S,W:i32; mask = kv_pos <= q_pos && (kv_pos < S || q_pos - kv_pos < W)", SkipClass::ranges},
    {"param C:i32 in [1, 40]; mask = kv_pos <= q_pos && kv_pos//C == q_pos//C", SkipClass::ranges},
    {"tensor lo,hi:i32[TOK] summary; mask = kv_pos<=q_pos || (lo[tok]<=kv_pos && kv_pos<hi[tok])", SkipClass::ranges,
     false},  // that a row lies in its own span is not known, so a tile across two spans is not full
    {"tensor start:i32[TOK] sorted; mask = start[tok] <= kv_pos && kv_pos <= q_pos", SkipClass::ranges},
    {"tensor it:i32[TOK] sorted, pf:i32[B]; mask = kv_pos<=q_pos && (kv_pos<pf[b] || it[tok]<=kv_pos)", SkipClass::ranges},
    {"param W,R:i32 in [1, 9]; kv_pos := kv*W + R; mask = kv_pos <= q_pos", SkipClass::ranges},
    {"param S,W:i32; tensor kind:u8[HQ]; mask = kv_pos<=q_pos && (kind[h]==0 || kv_pos<S || q_pos-kv_pos<W)", SkipClass::ranges},
    // not of the design's list
    {"param S:i32; mask = kv_pos < S || kv_pos <= q_pos", SkipClass::ranges},
    {"param S,W:i32; mask = !(kv_pos > q_pos) && !(kv_pos >= S && kv_pos + W <= q_pos)", SkipClass::ranges},
    {"param A,W:i32; mask = kv_pos >= A && kv_pos < A + W", SkipClass::ranges},
    {"param W:i32; mask = kv_pos == q_pos || kv_pos == q_pos - W", SkipClass::ranges},
    {"param W:i32; mask = kv_pos <= q_pos && kv_pos != W", SkipClass::ranges},
    {"param W:i32; mask = max(kv_pos - q_pos, W - kv_pos) <= 0", SkipClass::ranges},
    {"param W,S:i32; mask = min(abs(kv_pos - q_pos), abs(kv_pos - S)) <= W", SkipClass::ranges},
    {"param W:i32; mask = kv_pos <= (h % 2 == 0 ? q_pos : q_pos - W)", SkipClass::ranges},
    {"param C:i32 in [1, 40]; mask = kv_pos // C <= q_pos // C", SkipClass::ranges},
    {"param C:i32 in [1, 40], W: i32 in [0, 9]; mask = kv_pos <= q_pos && q_pos // C - kv_pos // C <= W", SkipClass::ranges},
    {"mask = clamp(kv_pos, 4, 20) <= q_pos", SkipClass::ranges},
    {"param W:i32 in [-99, 99]; mask = 2 * kv_pos <= q_pos + W", SkipClass::ranges},
    {"tensor kind:u8[HQ]; mask = kind[h] == 1 || kv_pos <= q_pos", SkipClass::ranges},
    {"param W:i32; mask = (kv_pos <= q_pos) == (q_pos < W)", SkipClass::ranges},
    {"param W:i32; mask = q_pos >= W ? kv_pos <= q_pos : kv_pos < 7", SkipClass::ranges},
    {"mask = q_pos % 2 == 0", SkipClass::ranges},
    {"tensor cx:i32[B]; mask = kv < cx[b]", SkipClass::ranges},
    {"mask = true", SkipClass::ranges},
    {"mask = 3 < 2", SkipClass::ranges},
};

Hooks parsed(const std::string& text) {
  Result<Hooks> hooks = parse(text);
  EXPECT_TRUE(hooks.ok()) << text << "\n" << hooks.status().to_string();
  return hooks.ok() ? *std::move(hooks) : Hooks{};
}

bool in(const KvRanges& ranges, int64_t kv) {
  for (const Interval& range : ranges.list()) {
    if (range.lo <= kv && kv <= range.hi) return true;
  }
  return false;
}

void expect_exact(const Mask& example, const MaskTiles& mask, const DenseMask& dense, const DenseMask::Size& size, int64_t rows,
                  int64_t keys, int64_t heads) {
  const Scope scope = dense.scope();
  const char* text = example.text;
  for (int64_t h = 0; h + heads <= size.heads; h += heads) {
    for (int64_t q = 0; q < size.qo_len; q += rows) {
      const Interval tile_rows{q, q + rows - 1}, tile_heads{h, h + heads - 1};
      const SeenKeys found = seen_keys(mask, scope, tile_rows, tile_heads);
      for (int64_t kv = 0; kv < size.kv_len; ++kv) {
        const Truth column = dense.truth({tile_rows, {kv, kv}, tile_heads});
        ASSERT_EQ(in(found.seen, kv), column != Truth::empty) << text << ": key " << kv << " of rows from " << q << dense.text();
        if (!example.full) continue;
        ASSERT_EQ(in(found.full, kv), column == Truth::full) << text << ": key " << kv << " of rows from " << q << dense.text();
      }
      for (int64_t kv = 0; kv < size.kv_len; kv += keys) {
        const Tile tile{tile_rows, {kv, kv + keys - 1}, tile_heads};
        if (!example.full && dense.truth(tile) != Truth::empty) continue;
        ASSERT_STREQ(name_of(mask(scope, tile)), name_of(dense.truth(tile)))
            << text << ": " << rows << " rows from " << q << ", " << keys << " keys from " << kv << ", " << heads << " heads from "
            << h << dense.text();
      }
    }
  }
}

TEST(Tiles, AllEmptyAndFullOnesAreFound) {
  Rng rng(lathe::testing::seed());
  for (const Mask& example : kExact) {
    const Hooks hooks = parsed(example.text);
    const MaskTiles mask(hooks);
    EXPECT_STREQ(name_of(skip_class(hooks)), name_of(example.skip)) << example.text;
    for (int trial = 0; trial < 6; ++trial) {
      const int32_t kv_len = 20 + static_cast<int32_t>(rng() % 40);
      const DenseMask::Size size{std::min(kv_len, 8 + static_cast<int32_t>(rng() % 40)), kv_len, 2, 1};
      DenseMask dense(hooks, rng, size, true);
      dense.evaluate();
      // One head: what differs between heads leaves gaps between ranges of one comparison.
      expect_exact(example, mask, dense, size, trial % 2 == 0 ? 8 : 5, trial % 3 == 0 ? 8 : 3, 1);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Tiles, RandomOnesAreSound) {
  const testing::TileCounts counts = testing::compare_random_tiles(lathe::testing::seed(), 60'000);
  std::cout << counts.masks << " masks, " << counts.tiles << " tiles: " << counts.empty << " empty, " << counts.full << " full, "
            << counts.partial << " partial, of which " << counts.missed << " are not\n";
  EXPECT_EQ(counts.unsound, 0);
  EXPECT_GT(counts.empty, counts.tiles / 20);  // else little is shown
  EXPECT_GT(counts.full, counts.tiles / 20);
}

TEST(Tiles, ClassesOfMasks) {
  const Mask masks[] = {
      {"tensor tr:u32[TOK,2], cx:i32[B]; mask = kv<cx[b] || bit(tr[tok,clamp(kv-cx[b],0,63)>>5], clamp(kv-cx[b],0,63)&31)",
       SkipClass::ranges},
      {"param KW:i32; tensor mb:u32[TOK,KW] summary; mask = bit(mb[tok, kv>>5], kv&31)", SkipClass::tiles},
      {"param W,DIL:i32; let n=abs(q_pos-kv_pos); mask = n <= W && n % DIL == 0", SkipClass::tiles},
      {"param W,a,c,e,f,kx,ky:i32; mask = abs(clamp(q//W,a,c)-kv//W)<=kx && abs(clamp(q%W,e,f)-kv%W)<=ky", SkipClass::tiles},
      {"param KW:i32; tensor mb:u32[TOK,KW]; mask = bit(mb[tok, kv>>5], kv&31)", SkipClass::off},
      {"tensor doc:i32[KVPOS]; mask = doc[kv] == doc[0]", SkipClass::off},
      {"tensor f:f32[TOK]; mask = f[tok] < f32(kv)", SkipClass::off},
      {"param cap:f32; logits = score * cap", SkipClass::ranges},
  };
  for (const Mask& mask : masks) EXPECT_STREQ(name_of(skip_class(parsed(mask.text))), name_of(mask.skip)) << mask.text;
}

TEST(Tiles, TreeTailIsPartialAndItsContextFull) {
  const Hooks hooks =
      parsed("tensor tr:u32[TOK,2], cx:i32[B]; mask = kv<cx[b] || bit(tr[tok,clamp(kv-cx[b],0,63)>>5], clamp(kv-cx[b],0,63)&31)");
  Scope scope;
  scope.qo_len = 64;
  scope.kv_len = 1064;
  scope.summary = [](uint32_t tensor, std::span<const Interval>) -> std::optional<Interval> {
    if (tensor == 1) return Interval{1000, 1000};
    return std::nullopt;
  };
  const SeenKeys keys = seen_keys(MaskTiles(hooks), scope, {0, 63}, {0, 0});
  ASSERT_EQ(keys.seen.count, 1u);
  EXPECT_EQ(keys.seen.ranges[0], (Interval{0, 1063}));
  ASSERT_EQ(keys.full.count, 1u);
  EXPECT_EQ(keys.full.ranges[0], (Interval{0, 999}));
}

TEST(Tiles, RowPredicates) {
  EXPECT_TRUE(is_row_predicate(parsed("param W:i32; mask = q_pos >= W && h < 3")));
  EXPECT_TRUE(is_row_predicate(parsed("logits = score * 2.0")));
  EXPECT_FALSE(is_row_predicate(parsed("mask = kv_pos <= q_pos")));
  EXPECT_FALSE(is_row_predicate(parsed("tensor s:u8[SLOT]; mask = s[slot] == 0")));
  EXPECT_FALSE(is_row_predicate(parsed("q_pos := q; kv_pos := kv + 1; mask = kv_pos < 3")));

  const Hooks hooks = parsed("tensor start: i32[TOK] sorted; mask = start[tok] < 10");
  Scope scope;
  scope.qo_len = scope.kv_len = 32;
  scope.summary = [](uint32_t, std::span<const Interval> index) { return index[0]; };  // start[t] = t
  const MaskTiles mask(hooks);
  EXPECT_EQ(mask(scope, {{0, 7}, {0, 31}, {0, 0}}), Truth::full);
  EXPECT_EQ(mask(scope, {{8, 15}, {0, 31}, {0, 0}}), Truth::partial);
  EXPECT_EQ(mask(scope, {{16, 23}, {0, 31}, {0, 0}}), Truth::empty);
}

TEST(Tiles, RowsAndKeysBeyondTheRequestAreSeenByNothing) {
  const MaskTiles mask(parsed("mask = true"));
  Scope scope;
  scope.qo_len = 10;
  scope.kv_len = 20;
  EXPECT_EQ(mask(scope, {{0, 9}, {0, 19}, {0, 0}}), Truth::full);
  EXPECT_EQ(mask(scope, {{0, 10}, {0, 19}, {0, 0}}), Truth::partial);
  EXPECT_EQ(mask(scope, {{0, 9}, {16, 20}, {0, 0}}), Truth::partial);
  EXPECT_EQ(mask(scope, {{10, 15}, {0, 19}, {0, 0}}), Truth::empty);
  EXPECT_EQ(mask(scope, {{0, 9}, {20, 23}, {0, 0}}), Truth::empty);
  EXPECT_EQ(seen_keys(mask, scope, {5, 10}, {0, 0}).full.count, 0u);
  EXPECT_EQ(seen_keys(mask, scope, {10, 12}, {0, 0}).seen.count, 0u);
}

TEST(Tiles, WrappedSumsAreNotTakenForExact) {
  // Unchecked hooks wrap: the sum is negative for great q.
  Hooks hooks = parsed("param W:i32; mask = q + 1 <= W + q");
  const MaskTiles mask(hooks);
  const std::array params{Value::of(int32_t{2147483600})};
  Scope scope;
  scope.qo_len = scope.kv_len = 1 << 20;
  scope.params = params;
  EXPECT_EQ(mask(scope, {{0, 1000}, {0, 7}, {0, 0}}), Truth::partial);
  EXPECT_EQ(mask(scope, {{0, 40}, {0, 7}, {0, 0}}), Truth::full);
}

TEST(Tiles, MoreThanFourRangesAreJoined) {
  const Hooks hooks = parsed("mask = kv == 1 || kv == 10 || kv == 20 || kv == 23 || kv == 40 || kv == 60");
  Scope scope;
  scope.qo_len = 8;
  scope.kv_len = 64;
  const SeenKeys keys = seen_keys(MaskTiles(hooks), scope, {0, 7}, {0, 0});
  ASSERT_EQ(keys.seen.count, 4u);
  EXPECT_EQ(keys.seen.ranges[0], (Interval{1, 10}));
  EXPECT_EQ(keys.seen.ranges[1], (Interval{20, 23}));
  EXPECT_EQ(keys.full.count, 4u);
}

TEST(Tiles, LongRequestsAreAnalysedInNoTime) {
  constexpr int64_t kLen = 131072;
  for (const Mask& example : kExact) {
    const Hooks hooks = parsed(example.text);
    const MaskTiles mask(hooks);
    std::vector<Value> params(hooks.params.size(), Value::of(int32_t{8}));
    Scope scope;
    scope.qo_len = scope.kv_len = kLen;
    scope.params = params;
    scope.summary = [](uint32_t, std::span<const Interval>) { return Interval{100, 70000}; };
    double best = 1e9;
    size_t ranges = 0;
    for (int64_t i = 0; i < 20; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      ranges += seen_keys(mask, scope, {i * 6400, i * 6400 + 127}, {0, 0}).seen.count;
      best = std::min(best, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
    }
    EXPECT_LT(best, 1.0) << example.text << ", " << ranges << " ranges";
  }
}

}  // namespace
}  // namespace lathe::expr
