#include "lathe/spec/expr/tiles.h"

#include <algorithm>

#include "lathe/spec/expr/tile_runs.h"
#include "lathe/spec/expr/variation.h"

namespace lathe::expr {

const char* name_of(Truth truth) {
  switch (truth) {
    case Truth::empty:
      return "empty";
    case Truth::full:
      return "full";
    case Truth::partial:
      return "partial";
  }
  return "";
}

MaskTiles::MaskTiles(const Hooks& hooks) : hooks_(with_positions(hooks)) {
  if (hooks_.root(Hook::mask) == kNone) hooks_.root(Hook::mask) = hooks_.graph.add(bool_node(true));
}

Truth MaskTiles::operator()(const Scope& scope, const Tile& tile) const {
  Tile inside = tile;
  inside.q = {std::max<int64_t>(tile.q.lo, 0), std::min(tile.q.hi, scope.qo_len - 1)};
  inside.kv = {std::max<int64_t>(tile.kv.lo, 0), std::min(tile.kv.hi, scope.kv_len - 1)};
  if (inside.q.empty() || inside.kv.empty() || inside.h.empty()) return Truth::empty;
  const std::vector<TileRun> runs =
      TileSearch(*this, SkipClass::tiles, scope, inside, inside.kv.hi - inside.kv.lo + 1).runs(inside.q);
  if (runs.empty()) return Truth::empty;
  const bool overhangs = !(inside.q == tile.q) || !(inside.kv == tile.kv);
  return runs[0].full && !overhangs ? Truth::full : Truth::partial;
}

bool is_row_predicate(const Hooks& hooks) {
  const Id mask = hooks.root(Hook::mask);
  return mask == kNone || (variations(hooks)[mask] | Variation::row) == Variation::row;
}

}  // namespace lathe::expr
