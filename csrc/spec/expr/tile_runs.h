// Which key tiles a block of rows sees, as runs of neighbours.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "lathe/spec/expr/diagonals.h"
#include "lathe/spec/expr/skip_class.h"
#include "lathe/spec/expr/tile_solver.h"
#include "lathe/spec/expr/tiles.h"

namespace lathe::expr {

/// Key tiles [begin, end), counted from the first key that is looked at. None is empty, and either each or none is full.
struct TileRun {
  int32_t begin = 0, end = 0;
  bool full = false;
  bool operator==(const TileRun&) const = default;
};

/// Keys that rows may see, and those that one of them may miss: ascending, disjoint, no neighbours.
struct KeyParts {
  std::vector<Interval> seen, missed;
  Unknown unknown;  // nothing: they do see and miss each of them
};

/// The mask of one request in many boxes of its rows, keys and heads. For use by one thread.
class KeyFinder {
 public:
  /// `hooks` has no positions, and like `scope` must outlive this. Boxes are within `whole`.
  KeyFinder(const Hooks& hooks, const Scope& scope, const Tile& whole);

  /// Valid until the next call.
  const KeyParts& operator()(const Tile& box);

 private:
  void solve(const Tile& box, bool wanted, std::vector<Interval>& parts);
  void narrow(const Tile& box, bool wanted, std::vector<Interval>& parts);

  const Hooks& hooks_;
  const Scope& scope_;
  TileSolver whole_;
  bool one_form_;
  std::array<std::vector<TileSolver::Alternative>, 2> alternatives_;  // by the value wanted; where one form serves all boxes
  Unknown varies_;                                                    // what the mask changes with
  std::vector<Interval> left_;
  KeyParts out_;
};

/// Numbers of which ever more are taken: the next that is not is found without a look at those between.
class Takings {
 public:
  void reset(int32_t count);
  /// The least one from `from` on that is not taken; `count` where there is none.
  int32_t next(int32_t from);
  void take(int32_t begin, int32_t end);

 private:
  std::vector<int32_t> next_;
};

/// The key tiles of one request for blocks of its rows. For use by one thread.
///
/// A box of rows and heads is looked at as a whole first: what its rows see is a hull wherever they differ by more than a sum
/// tells, as they do by elements of tensors. While that leaves a tile open, its halves are looked at, down to single rows; with
/// SkipClass::tiles of keys too; masks of diagonals are looked up instead. So empty and full tiles are found exactly wherever what
/// a row sees is known as ranges, in at most two looks for each row, and in one where the mask is one form.
class TileSearch {
 public:
  /// Tiles of `tile_keys` keys from whole.kv.lo on; the last may be short. `mask` and `scope` must outlive this.
  TileSearch(const MaskTiles& mask, SkipClass skip, const Scope& scope, const Tile& whole, int64_t tile_keys);

  /// Of rows within whole.q, not none. Sound: a tile in no run is empty, one of a full run full.
  std::vector<TileRun> runs(Interval q);
  /// Boxes that were looked at so far.
  int64_t looks() const { return looks_; }

 private:
  struct Tiles {
    int32_t begin, end;
  };
  Tiles touched(Interval keys) const;
  Unknown divisible(const Tile& box, Unknown by) const;
  std::vector<TileRun> runs_of(const KeyParts& parts) const;
  std::vector<TileRun> runs_by_diagonals(Interval q, const std::vector<TileRun>& open);
  void look(const Tile& box);
  void look_at_halves(const Tile& box, Unknown by);

  const Tile whole_;
  const int64_t tile_keys_;
  const SkipClass skip_;
  KeyFinder finder_;
  const MaskTiles& mask_;
  const Scope& scope_;
  std::optional<Diagonals> diagonals_;  // once ranges do not do
  Takings seen_, missed_;               // tiles of which a key is seen by some row; is missed by some row
  int32_t num_tiles_ = 0;
  int64_t looks_ = 0, looks_left_ = 0;
};

}  // namespace lathe::expr
