#include "tile_soundness.h"

#include <algorithm>
#include <iostream>
#include <stdexcept>
#include <string>

#include "dense_mask.h"
#include "lathe/spec/expr/kv_ranges.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/print.h"
#include "random_text.h"

namespace lathe::expr::testing {
namespace {

Hooks any_mask(Rng& rng) {
  if (rng() % 4 == 0) return random_hooks(rng, Hook::mask, 3 + 2 * static_cast<int>(rng() % 6));
  for (int attempt = 0; attempt < 1000; ++attempt) {
    Result<Hooks> hooks = parse(random_mask_text(rng));
    if (hooks.ok()) return *std::move(hooks);  // what may overflow is refused
  }
  throw std::logic_error("no mask is accepted");
}

Interval part_of(Rng& rng, int64_t size, int64_t beyond) {
  const auto lo = static_cast<int64_t>(rng() % static_cast<uint64_t>(size));
  return {lo, std::min(lo + static_cast<int64_t>(rng() % (rng() % 3 == 0 ? 3 : 9)), size - 1 + beyond)};
}

bool inside(const KvRanges& ranges, int64_t kv) {
  return std::any_of(ranges.list().begin(), ranges.list().end(), [&](Interval range) { return range.lo <= kv && kv <= range.hi; });
}

bool ranges_hold(const DenseMask& dense, const SeenKeys& keys, const Tile& tile, int64_t kv_len) {
  for (int64_t kv = 0; kv < kv_len; ++kv) {
    const Truth column = dense.truth({tile.q, {kv, kv}, tile.h});
    if (column != Truth::empty && !inside(keys.seen, kv)) return false;
    if (column != Truth::full && inside(keys.full, kv)) return false;
  }
  for (size_t i = 1; i < keys.seen.count; ++i) {
    if (keys.seen.ranges[i].lo <= keys.seen.ranges[i - 1].hi + 1) return false;
  }
  return true;
}

}  // namespace

TileCounts compare_random_tiles(uint64_t seed, int64_t tiles) {
  Rng rng(seed);
  TileCounts counts;
  while (counts.tiles < tiles) {
    const Hooks hooks = any_mask(rng);
    const MaskTiles mask(hooks);
    ++counts.masks;
    const DenseMask::Size size{1 + static_cast<int32_t>(rng() % 14), 1 + static_cast<int32_t>(rng() % 40),
                               1 + static_cast<int32_t>(rng() % 3), 1 + static_cast<int32_t>(rng() % 2)};
    DenseMask dense(hooks, rng, size, rng() % 2 == 0);
    dense.evaluate();
    const Scope scope = dense.scope();
    for (int i = 0; i < 24; ++i) {
      const Tile tile{part_of(rng, size.qo_len, rng() % 8 == 0 ? 2 : 0), part_of(rng, size.kv_len, rng() % 8 == 0 ? 2 : 0),
                      part_of(rng, size.heads, 0)};
      const Truth found = mask(scope, tile), truth = dense.truth(tile);
      ++counts.tiles;
      ++(found == Truth::empty ? counts.empty : found == Truth::full ? counts.full : counts.partial);
      counts.missed += found == Truth::partial && truth != Truth::partial ? 1 : 0;
      const bool sound = (found == Truth::partial || found == truth) &&
                         (i % 4 != 0 || ranges_hold(dense, seen_keys(mask, scope, tile.q, tile.h), tile, size.kv_len));
      if (!sound && ++counts.unsound <= 10) {
        std::cout << "unsound: " << to_text(hooks) << "\n  q " << tile.q.lo << ".." << tile.q.hi << ", kv " << tile.kv.lo << ".."
                  << tile.kv.hi << ", h " << tile.h.lo << ".." << tile.h.hi << ": found " << name_of(found) << ", is "
                  << name_of(truth) << "\n";
      }
    }
  }
  return counts;
}

}  // namespace lathe::expr::testing
