#include "tile_soundness.h"

#include <algorithm>
#include <iostream>
#include <stdexcept>
#include <string>

#include "dense_mask.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/expr/tile_runs.h"
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

bool runs_hold(const DenseMask& dense, const std::vector<TileRun>& runs, const Tile& tile, int64_t tile_keys, int64_t kv_len) {
  auto run = runs.begin();
  for (int64_t t = 0; t * tile_keys < kv_len; ++t) {
    const Truth truth = dense.truth({tile.q, {t * tile_keys, std::min((t + 1) * tile_keys, kv_len) - 1}, tile.h});
    while (run != runs.end() && run->end <= t) ++run;
    const bool listed = run != runs.end() && run->begin <= t;
    if (!listed && truth != Truth::empty) return false;
    if (listed && run->full && truth != Truth::full) return false;
  }
  for (size_t i = 1; i < runs.size(); ++i) {
    if (runs[i].begin < runs[i - 1].end) return false;
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
    const auto tile_keys = 1 + static_cast<int64_t>(rng() % 8);
    const auto search = [&](const Tile& tile) {
      const Tile whole{{0, size.qo_len - 1}, {0, size.kv_len - 1}, tile.h};
      return TileSearch(mask, skip_class(hooks), scope, whole, tile_keys).runs(tile.q);
    };
    for (int i = 0; i < 24; ++i) {
      const Tile tile{part_of(rng, size.qo_len, rng() % 8 == 0 ? 2 : 0), part_of(rng, size.kv_len, rng() % 8 == 0 ? 2 : 0),
                      part_of(rng, size.heads, 0)};
      const Truth found = mask(scope, tile), truth = dense.truth(tile);
      ++counts.tiles;
      ++(found == Truth::empty ? counts.empty : found == Truth::full ? counts.full : counts.partial);
      counts.missed += found == Truth::partial && truth != Truth::partial ? 1 : 0;
      const bool sound = (found == Truth::partial || found == truth) &&
                         (i % 4 != 0 || tile.q.hi >= size.qo_len || runs_hold(dense, search(tile), tile, tile_keys, size.kv_len));
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
