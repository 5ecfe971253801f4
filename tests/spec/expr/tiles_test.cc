#include "lathe/spec/expr/tiles.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <iostream>

#include "dense_mask.h"
#include "lathe/base/bytes.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/tile_runs.h"
#include "lathe/testing/seed.h"
#include "tile_soundness.h"

namespace lathe::expr {
namespace {

using testing::DenseMask;
using testing::Rng;

struct Mask {
  const char* text;
  SkipClass skip;
  int looks = 1;  // that 128 rows take at most
};

// All of these are found exactly, with the tensors that they are meant for.
constexpr Mask kExact[] = {
    {"mask = kv_pos <= q_pos", SkipClass::ranges},
    {"param W:i32; mask = kv_pos <= q_pos && q_pos - kv_pos < W", SkipClass::ranges},
    {"param W:i32; mask = abs(q_pos - kv_pos) <= W", SkipClass::ranges},
    {"param S,W:i32; mask = kv_pos <= q_pos && (kv_pos < S || q_pos - kv_pos < W)", SkipClass::ranges},
    {"param C:i32 in [1, 40]; mask = kv_pos <= q_pos && kv_pos//C == q_pos//C", SkipClass::ranges, 16},
    {"tensor lo,hi:i32[TOK] summary; mask = kv_pos<=q_pos || (lo[tok]<=kv_pos && kv_pos<hi[tok])", SkipClass::ranges, 256},
    {"tensor start:i32[TOK] sorted; mask = start[tok] <= kv_pos && kv_pos <= q_pos", SkipClass::ranges, 256},
    {"tensor it:i32[TOK] sorted, pf:i32[B]; mask = kv_pos<=q_pos && (kv_pos<pf[b] || it[tok]<=kv_pos)", SkipClass::ranges, 256},
    {"mask = kv_pos <= q_pos && kv_pos // 8192 == q_pos // 8192", SkipClass::ranges},
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
    {"param C:i32 in [1, 40], W: i32 in [0, 9]; mask = kv_pos <= q_pos && q_pos // C - kv_pos // C <= W", SkipClass::ranges, 16},
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

// The same of the distance, of bits of the key, of negative divisors, and of numbers that wrap.
constexpr Mask kExactToo[] = {
    {"param W:i32 in [0, 40], DIL:i32 in [1, 9]; let n=abs(q_pos-kv_pos); mask = n <= W && n % DIL == 0", SkipClass::tiles},
    {"param W:i32 in [-70, 70]; mask = kv_pos <= q_pos && ((q_pos - kv_pos) & W) == 1", SkipClass::tiles},
    {"mask = ((2 * q - kv - kv) ^ 9) % 8 < 5 || 3 * kv_pos < q_pos + 2 * kv - 9", SkipClass::tiles},
    {"param W:i32 in [1, 9]; mask = (q + W > kv) == ((kv - q) // W % 2 == 0)", SkipClass::tiles},
    {"q_pos := tok; kv_pos := kv; mask = bit(1000002019u, q_pos - kv_pos)", SkipClass::tiles},
    {"mask = (kv & 8) == 0", SkipClass::tiles},
    {"param W:i32 in [-40, 40]; mask = (kv & W) == 0 && kv <= q", SkipClass::tiles},
    {"param C:i32 in [-40, -1]; mask = kv_pos // C <= q_pos // C", SkipClass::ranges},
    {"param C:i32 in [-9, -1]; mask = abs(q_pos) != kv_pos // C && q_pos % C < -1", SkipClass::ranges},
    {"param W:u32; mask = popc(W * 2654435761u) > 15 || kv < q", SkipClass::ranges},
    {"param W:u32; mask = i32(W * 2654435761u) <= kv", SkipClass::ranges},
};

Hooks parsed(const std::string& text) {
  Result<Hooks> hooks = parse(text);
  EXPECT_TRUE(hooks.ok()) << text << "\n" << hooks.status().to_string();
  return hooks.ok() ? *std::move(hooks) : Hooks{};
}

/// By key, what all rows of `q` are to it; heads and keys are those of `whole`.
std::vector<Truth> truths(TileSearch& search, Interval q, int64_t tiles) {
  std::vector<Truth> out(static_cast<size_t>(tiles), Truth::empty);
  int32_t last = 0;
  for (const TileRun& run : search.runs(q)) {
    EXPECT_LT(run.begin, run.end);
    EXPECT_GE(run.begin, last);
    last = run.end;
    std::fill(out.begin() + run.begin, out.begin() + run.end, run.full ? Truth::full : Truth::partial);
  }
  return out;
}

/// Runs of tiles of `keys` keys, for blocks of `rows` rows and of `heads` heads, are what dense evaluation says, tile by tile.
void expect_exact(const Mask& example, const MaskTiles& mask, const DenseMask& dense, const DenseMask::Size& size, int64_t rows,
                  int64_t keys, int64_t heads) {
  const Scope scope = dense.scope();
  for (int64_t h = 0; h + heads <= size.heads; h += heads) {
    const Tile whole{{0, size.qo_len - 1}, {0, size.kv_len - 1}, {h, h + heads - 1}};
    TileSearch search(mask, example.skip, scope, whole, keys);
    for (int64_t q = 0; q < size.qo_len; q += rows) {
      const Interval tile_rows{q, std::min<int64_t>(q + rows, size.qo_len) - 1};
      const std::vector<Truth> found = truths(search, tile_rows, ceil_div<int64_t>(size.kv_len, keys));
      for (int64_t kv = 0; kv < size.kv_len; kv += keys) {
        const Tile tile{tile_rows, {kv, std::min<int64_t>(kv + keys, size.kv_len) - 1}, whole.h};
        const std::string place = std::string(example.text) + ": " + std::to_string(rows) + " rows from " + std::to_string(q) +
                                  ", " + std::to_string(keys) + " keys from " + std::to_string(kv) + ", " + std::to_string(heads) +
                                  " heads from " + std::to_string(h) + dense.text();
        ASSERT_STREQ(name_of(found[static_cast<size_t>(kv / keys)]), name_of(dense.truth(tile))) << place;
        ASSERT_STREQ(name_of(mask(scope, tile)), name_of(dense.truth(tile))) << place;
      }
    }
  }
}

void expect_all_found(const Mask& example, Rng& rng) {
  const Hooks hooks = parsed(example.text);
  const MaskTiles mask(hooks);
  EXPECT_STREQ(name_of(skip_class(hooks)), name_of(example.skip)) << example.text;
  for (int trial = 0; trial < 6; ++trial) {
    const int32_t kv_len = 20 + static_cast<int32_t>(rng() % 40);
    const DenseMask::Size size{std::min(kv_len, 8 + static_cast<int32_t>(rng() % 40)), kv_len, 2, 1};
    DenseMask dense(hooks, rng, size, true);
    dense.evaluate();
    const int64_t rows = trial % 2 == 0 ? 8 : 5, keys = trial % 3 == 0 ? 8 : 3, heads = trial / 3 + 1;
    expect_exact(example, mask, dense, size, rows, 1, heads);
    expect_exact(example, mask, dense, size, rows, keys, heads);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST(Tiles, AllEmptyAndFullOnesAreFound) {
  Rng rng(lathe::testing::seed());
  for (const Mask& example : kExact) expect_all_found(example, rng);
}

TEST(Tiles, AllEmptyAndFullOnesOfOtherMasksAreFound) {
  Rng rng(lathe::testing::seed());
  for (int round = 0; round < 4; ++round) {
    for (const Mask& example : kExactToo) expect_all_found(example, rng);
  }
}

/// Once a dilated window took thousands of looks a block: 26 s for 16,384 rows and keys.
TEST(Tiles, DilatedWindowTakesOneLookABlock) {
  constexpr int64_t kLen = 131072, kRows = 128;
  const Hooks hooks = parsed("param W,DIL:i32; let n=abs(q_pos-kv_pos); mask = n <= W && n % DIL == 0");
  const MaskTiles mask(hooks);
  const std::vector<Value> params{Value::of(int32_t{4096}), Value::of(int32_t{200})};
  Scope scope;
  scope.qo_len = scope.kv_len = kLen;
  scope.params = params;
  TileSearch search(mask, SkipClass::tiles, scope, {{0, kLen - 1}, {0, kLen - 1}, {0, 0}}, 64);
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t q = 0; q < kLen; q += kRows) search.runs({q, q + kRows - 1});
  const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  std::cout << ms << " ms for " << kLen / kRows << " blocks of " << kRows << " rows\n";
  EXPECT_EQ(search.looks(), kLen / kRows);
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
  const MaskTiles mask(hooks);
  TileSearch search(mask, skip_class(hooks), scope, {{0, 63}, {0, 1063}, {0, 0}}, 8);
  EXPECT_EQ(search.runs({0, 63}), (std::vector<TileRun>{{0, 125, true}, {125, 133, false}}));
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

TEST(Tiles, ManyRangesAreKeptApart) {
  const Hooks hooks = parsed("mask = kv == 1 || kv == 10 || kv == 20 || kv == 23 || kv == 40 || kv == 60");
  const MaskTiles mask(hooks);
  Scope scope;
  scope.qo_len = 8;
  scope.kv_len = 64;
  TileSearch search(mask, skip_class(hooks), scope, {{0, 7}, {0, 63}, {0, 0}}, 1);
  const std::vector<TileRun> runs = search.runs({0, 7});
  ASSERT_EQ(runs.size(), 6u);
  EXPECT_EQ(runs[3], (TileRun{23, 24, true}));
  EXPECT_EQ(search.looks(), 1);
}

/// A mask of one form takes one look for each block of rows, whatever their number, and no other ever more than two for each row.
TEST(Tiles, LooksAreFew) {
  constexpr int64_t kLen = 131072, kRows = 128, kKeys = 64;
  Rng rng(lathe::testing::seed());
  std::vector<int64_t> elements(kLen);
  for (int64_t& element : elements) element = static_cast<int64_t>(rng() % kLen);
  for (const Mask& example : kExact) {
    const Hooks hooks = parsed(example.text);
    const MaskTiles mask(hooks);
    std::vector<Value> params(hooks.params.size(), Value::of(int32_t{8}));
    Scope scope;
    scope.qo_len = scope.kv_len = kLen;
    scope.params = params;
    scope.summary = [&](uint32_t tensor, std::span<const Interval> index) {
      const auto at = [&](int64_t i) { return elements.begin() + std::clamp<int64_t>(i, 0, kLen - 1); };
      const auto [lo, hi] = std::minmax_element(at(index[0].lo), at(index[0].hi) + 1);
      if (hooks.tensors[tensor].elem == Elem::u8) return Interval{*lo % 2, *hi % 2};  // of one head
      return Interval{*lo, *hi};
    };
    TileSearch search(mask, example.skip, scope, {{0, kLen - 1}, {0, kLen - 1}, {0, 0}}, kKeys);
    // All of the rows or, where rows have tensors of their own, whose random elements are the worst case, some of them.
    const int64_t blocks = example.looks == 1 ? kLen / kRows : 16;
    const auto begin = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < blocks; ++i) search.runs({i * kRows, i * kRows + kRows - 1});
    const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
    std::cout << static_cast<double>(search.looks()) / static_cast<double>(blocks) << " looks a block, " << ms << " ms for "
              << blocks << " blocks: " << example.text << "\n";
    EXPECT_LE(search.looks(), blocks * example.looks) << example.text;
  }
}

}  // namespace
}  // namespace lathe::expr
