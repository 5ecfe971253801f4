// Runs of key tiles are exact for masks of ranges, whatever elements of tensors give each row and head its own: what the planner
// lists beside what dense evaluation finds, tile by tile, for masks drawn from a family of those that people write.
#include "lathe/spec/expr/tile_runs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <string>
#include <vector>

#include "dense_mask.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/print.h"
#include "lathe/testing/seed.h"

namespace lathe::expr {
namespace {

using testing::DenseMask;
using testing::Rng;

/// Masks in which each comparison has the key in one place: spans, documents, items and windows given by row and head.
class MaskDraw {
 public:
  explicit MaskDraw(Rng& rng) : rng_(rng) {}

  std::string text() {
    const std::string declarations =
        "tensor lo, hi: i32[TOK] summary, ua, va: u8[TOK] summary, wa: u8[QLEN] summary, ea: u8[HQ] summary, pa: u8[TOK, HQ] "
        "summary; "
        "param P: i32 in [0, 40], C: i32 in [1, 12]; ";
    return declarations + "mask = " + mask(3);
  }

 private:
  template <size_t N>
  std::string one(const char* const (&list)[N]) {
    return list[rng_() % N];
  }
  /// A small number that a row or a head has.
  std::string row() {
    return one({"q_pos", "q_pos - P", "ua[tok]", "va[tok] + 3", "q_pos - ua[tok]", "max(ua[tok], ea[h])", "2 * wa[q]", "ea[h]", "P",
                "min(ua[tok], va[tok])", "ua[max(tok - 1, 0)]", "pa[tok, h]", "q_pos // C * C",
                "(va[tok] % 2 == 0 ? q_pos : ua[tok])"});
  }
  std::string comparison() {
    switch (rng_() % 8) {
      case 0:
        return "(lo[tok] <= kv_pos && kv_pos < hi[tok])";
      case 1:
        return "(" + row() + " <= kv_pos && kv_pos < " + row() + ")";
      case 2:
        return "kv_pos <= q_pos";
      case 3:
        return "abs(kv_pos - " + row() + ") <= " + one({"2", "C", "P"});
      case 4:
        return "kv_pos // C == (" + row() + ") // C";
      case 5:
        return one({"ua[tok] > 9", "ea[h] % 2 == 0", "q_pos > P", "ua[tok] == va[tok]", "wa[q] < va[tok]"});
      default:
        return "kv_pos " + one({"<", "<=", "==", "!=", ">"}) + " " + row();
    }
  }
  std::string mask(int depth) {
    if (depth == 0 || rng_() % 4 == 0) return comparison();
    switch (rng_() % 8) {
      case 0:
        return "!(" + mask(depth - 1) + ")";
      case 1:
        return "(" + one({"ua[tok] > 9", "ea[h] % 2 == 0", "q_pos > P"}) + " ? " + mask(depth - 1) + " : " + mask(depth - 1) + ")";
      default:
        return "(" + mask(depth - 1) + one({" && ", " || "}) + mask(depth - 1) + ")";
    }
  }

  Rng& rng_;
};

struct Seen {
  int64_t masks = 0, tiles = 0, empty = 0, full = 0, looks = 0, blocks = 0;
};

void compare(const Hooks& hooks, Rng& rng, Seen& seen) {
  const DenseMask::Size size{1 + static_cast<int32_t>(rng() % 30), 1 + static_cast<int32_t>(rng() % 60), 2, 1};
  DenseMask dense(hooks, rng, size, false);
  dense.evaluate();
  const Scope scope = dense.scope();
  const MaskTiles mask(hooks);
  const int64_t heads = 1 + static_cast<int64_t>(rng() % 2), rows = 1 + static_cast<int64_t>(rng() % 16),
                keys = 1 + static_cast<int64_t>(rng() % 12);
  const Tile whole{{0, size.qo_len - 1}, {0, size.kv_len - 1}, {0, heads - 1}};
  TileSearch search(mask, SkipClass::ranges, scope, whole, keys);
  for (int64_t q = 0; q < size.qo_len; q += rows) {
    const Interval block{q, std::min<int64_t>(q + rows, size.qo_len) - 1};
    const std::vector<TileRun> runs = search.runs(block);
    ++seen.blocks;
    auto run = runs.begin();
    for (int64_t t = 0; t * keys < size.kv_len; ++t, ++seen.tiles) {
      const Truth truth = dense.truth({block, {t * keys, std::min<int64_t>((t + 1) * keys, size.kv_len) - 1}, whole.h});
      while (run != runs.end() && run->end <= t) ++run;
      const Truth found = run == runs.end() || t < run->begin ? Truth::empty : run->full ? Truth::full : Truth::partial;
      ASSERT_STREQ(name_of(found), name_of(truth)) << to_text(hooks) << ": tile " << t << " of " << keys << " keys, rows "
                                                   << block.lo << ".." << block.hi << ", " << heads << " heads" << dense.text();
      seen.empty += truth == Truth::empty ? 1 : 0;
      seen.full += truth == Truth::full ? 1 : 0;
    }
  }
  seen.looks += search.looks();
}

TEST(TileRuns, OfRandomMasksOfRangesAreExact) {
  Rng rng(lathe::testing::seed());
  MaskDraw draw(rng);
  Seen seen;
  while (seen.masks < 1500) {
    const std::string text = draw.text();
    const Result<Hooks> hooks = parse(text);
    ASSERT_TRUE(hooks.ok()) << text << "\n" << hooks.status().to_string();
    ASSERT_EQ(skip_class(*hooks), SkipClass::ranges) << text;
    ++seen.masks;
    compare(*hooks, rng, seen);
    if (HasFatalFailure()) return;
  }
  std::cout << seen.masks << " masks, " << seen.tiles << " tiles: " << seen.empty << " empty, " << seen.full << " full; "
            << static_cast<double>(seen.looks) / static_cast<double>(seen.blocks) << " looks a block of rows\n";
  EXPECT_GT(seen.empty, seen.tiles / 10);
  EXPECT_GT(seen.full, seen.tiles / 20);
}

}  // namespace
}  // namespace lathe::expr
