// Which keys a tile of rows sees, as a few ranges, in time that does not depend on lengths.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "lathe/spec/expr/tiles.h"

namespace lathe::expr {

inline constexpr size_t kMaxKvRanges = 4;

/// Disjoint, ascending ranges of keys, each [lo, hi]; between two of them lies at least one key.
struct KvRanges {
  std::array<Interval, kMaxKvRanges> ranges;
  size_t count = 0;

  std::span<const Interval> list() const { return {ranges.data(), count}; }
};

/// What the rows q and heads h of a request see. Sound: a key outside of `seen` is seen by no row and head, a key in `full` by all
/// of them. More than four ranges are joined where the fewest keys lie between (seen), or the four longest are kept (full).
struct SeenKeys {
  KvRanges seen, full;
};
SeenKeys seen_keys(const MaskTiles& mask, const Scope& scope, Interval q, Interval h);

/// How tiles of a mask are best skipped; a property of the hooks alone.
enum class SkipClass : uint8_t {
  ranges,  // seen_keys() is as good as looking at each tile, but for parts that nothing is known of
  tiles,   // MaskTiles, tile by tile
  off,     // nothing can be known ahead: every tile is partial
};

/// "ranges", "tiles" or "off".
const char* name_of(SkipClass skip);

/// `hooks` must have passed check(). Elements of a tensor count as known where it is declared `summary` or `sorted`, or where the
/// index depends on no row or key.
SkipClass skip_class(const Hooks& hooks);

}  // namespace lathe::expr
