// The tiles of a mask as a map: what analysis says of each, what dense evaluation says, and a picture.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lathe/api/hook_args.h"
#include "lathe/spec/attention_hooks.h"
#include "lathe/spec/expr/tiles.h"

namespace lathe::cli {

/// One request and some of its heads, for which a mask is looked at.
struct MaskProblem {
  AttentionHooks hooks;  // with a mask, without problems
  int64_t q_len = 0, kv_len = 0;
  int64_t heads = 1, group = 1;    // query heads, and of each KV head
  expr::Interval looked_at{0, 0};  // the query heads that are: a tile is empty where none of them sees, full where each does
  int64_t tile_rows = 0, tile_keys = 0;
  std::vector<expr::Value> params;  // by slot of hooks.canonical()
  /// By slot: row-major elements and extents of each axis; empty: not known.
  struct Elements {
    std::vector<int64_t> shape;
    std::vector<int64_t> values;
  };
  std::vector<Elements> tensors;
};

/// Tiles row by row.
struct MaskMap {
  int64_t rows = 0, columns = 0;  // in tiles
  std::vector<expr::Truth> tiles;
  double ms = 0;  // that it took to find

  int64_t count(expr::Truth truth) const;
};

MaskMap analyse(const MaskProblem& problem);
MaskMap evaluate(const MaskProblem& problem);

/// Ranges of keys that a tile of rows sees, ascending: those that some row and head sees, and those that each does.
struct MaskLine {
  expr::Interval rows;
  std::vector<expr::Interval> seen, full;
};
/// Of the first, the middle and the last tile of rows; fewer where there are fewer, none where the mask is no matter of ranges.
std::vector<MaskLine> lines_of(const MaskProblem& problem);
/// "[0, 128) [512, 640)"; the first eight, where there are more; "none".
std::string ranges_text(const std::vector<expr::Interval>& ranges);
/// "all 4 together" or "head 2 of 4", for people.
std::string heads_text(const MaskProblem& problem);

/// One sign for each tile, or for each square of tiles where there are more than `columns`: '.' empty, '#' full, '+' partial.
std::string draw_text(const MaskMap& map, int columns = 64);
/// The same as an SVG document with a legend: rows downwards, keys to the right, one rectangle for each run of equal tiles.
std::string draw_svg(const MaskMap& map);

}  // namespace lathe::cli
