#include "lathe/spec/expr/tile_runs.h"

#include <algorithm>
#include <utility>

namespace lathe::expr {
namespace {

/// The same keys, ascending, overlaps and neighbours joined.
void join(std::vector<Interval>& parts) {
  std::sort(parts.begin(), parts.end(), [](const Interval& a, const Interval& b) { return a.lo < b.lo; });
  size_t count = 0;
  for (const Interval& part : parts) {
    if (count > 0 && part.lo <= parts[count - 1].hi + 1) {
      parts[count - 1].hi = std::max(parts[count - 1].hi, part.hi);
    } else {
      parts[count++] = part;
    }
  }
  parts.resize(count);
}

/// Calls f(keys) for what `parts` leave of `all`.
template <class F>
void for_gaps(Interval all, const std::vector<Interval>& parts, const F& f) {
  int64_t begin = all.lo;
  for (const Interval& part : parts) {
    if (part.lo > begin) f(Interval{begin, part.lo - 1});
    begin = part.hi + 1;
  }
  if (begin <= all.hi) f(Interval{begin, all.hi});
}

void append(std::vector<TileRun>& list, int32_t begin, int32_t end, bool full) {
  if (begin >= end) return;
  if (!list.empty() && list.back().end == begin && list.back().full == full) {
    list.back().end = end;
  } else {
    list.push_back({begin, end, full});
  }
}

int64_t length(Interval a) {
  return a.hi - a.lo + 1;
}

}  // namespace

KeyFinder::KeyFinder(const Hooks& hooks, const Scope& scope, const Tile& whole)
    : hooks_(hooks), scope_(scope), whole_(hooks, scope, whole), one_form_(whole_.is_one_form()), varies_(whole_.varies_by()) {
  for (const bool wanted : {false, true}) {
    if (one_form_) alternatives_[wanted ? 1 : 0] = whole_.alternatives(wanted);
    for (const TileSolver::Alternative& alternative : alternatives_[wanted ? 1 : 0]) one_form_ = one_form_ && alternative.whole;
  }
}

void KeyFinder::solve(const Tile& box, bool wanted, std::vector<Interval>& parts) {
  TileSolver solver(hooks_, scope_, box);
  solver.solve(wanted, [&](const TileSolver::Part& part) {
    parts.push_back(part.keys);
    out_.unknown |= part.unknown;
    return true;
  });
}

void KeyFinder::narrow(const Tile& box, bool wanted, std::vector<Interval>& parts) {
  for (const TileSolver::Alternative& alternative : alternatives_[wanted ? 1 : 0]) {
    left_.assign(alternative.system.ranges().begin(), alternative.system.ranges().end());
    bool possible = true;
    for (const auto& [atom, range] : {std::pair{whole_.q(), box.q}, {whole_.kv(), box.kv}, {whole_.h(), box.h}}) {
      left_[atom] = {std::max(left_[atom].lo, range.lo), std::min(left_[atom].hi, range.hi)};
      possible = possible && !left_[atom].empty();
    }
    if (!possible) continue;
    const System::Left left = alternative.system.propagate(left_);
    if (left == System::Left::none) continue;
    parts.push_back(left_[whole_.kv()]);
    const bool certain = alternative.whole && left == System::Left::settled &&
                         (alternative.settles || alternative.system.settles(whole_.kv(), left_));
    if (!certain) out_.unknown = {true, true, true};
  }
}

const KeyParts& KeyFinder::operator()(const Tile& box) {
  out_.seen.clear();
  out_.missed.clear();
  out_.unknown = {};
  for (const bool wanted : {true, false}) {
    std::vector<Interval>& parts = wanted ? out_.seen : out_.missed;
    one_form_ ? narrow(box, wanted, parts) : solve(box, wanted, parts);
    join(parts);
  }
  out_.unknown = out_.unknown & varies_;
  return out_;
}

void Takings::reset(int32_t count) {
  next_.resize(static_cast<size_t>(count) + 1);
  for (int32_t i = 0; i <= count; ++i) next_[static_cast<size_t>(i)] = i;
}

int32_t Takings::next(int32_t from) {
  auto at = static_cast<size_t>(from);
  while (next_[at] != static_cast<int32_t>(at)) at = static_cast<size_t>(next_[at] = next_[static_cast<size_t>(next_[at])]);
  return static_cast<int32_t>(at);
}

void Takings::take(int32_t begin, int32_t end) {
  for (int32_t i = next(begin); i < end; i = next(i)) next_[static_cast<size_t>(i)] = i + 1;
}

TileSearch::TileSearch(const MaskTiles& mask, SkipClass skip, const Scope& scope, const Tile& whole, int64_t tile_keys)
    : whole_(whole),
      tile_keys_(tile_keys),
      skip_(skip),
      finder_(mask.hooks(), scope, whole),
      mask_(mask),
      scope_(scope),
      num_tiles_(static_cast<int32_t>((length(whole.kv) + tile_keys - 1) / tile_keys)) {}

TileSearch::Tiles TileSearch::touched(Interval keys) const {
  return {static_cast<int32_t>((keys.lo - whole_.kv.lo) / tile_keys_),
          static_cast<int32_t>((keys.hi - whole_.kv.lo) / tile_keys_) + 1};
}

Unknown TileSearch::divisible(const Tile& box, Unknown by) const {
  const bool one_row = box.q.is_point() && box.h.is_point();
  return by & Unknown{!box.q.is_point(), !box.h.is_point(), !box.kv.is_point() && (one_row || skip_ == SkipClass::tiles)};
}

/// Where the parts are certain. Where they are hulls, tiles of no run are empty and of full runs full all the same.
std::vector<TileRun> TileSearch::runs_of(const KeyParts& parts) const {
  std::vector<TileRun> list;
  auto missed = parts.missed.begin();
  int32_t next = 0;
  for (const Interval& seen : parts.seen) {
    const Tiles tiles = touched(seen);
    next = std::max(next, tiles.begin);
    while (next < tiles.end) {
      while (missed != parts.missed.end() && touched(*missed).end <= next) ++missed;
      const Tiles gap = missed != parts.missed.end() ? touched(*missed) : Tiles{tiles.end, tiles.end};
      const bool full = gap.begin > next;
      const int32_t end = std::min(tiles.end, full ? gap.begin : gap.end);
      append(list, next, end, full);
      next = end;
    }
  }
  return list;
}

std::vector<TileRun> TileSearch::runs(Interval q) {
  const Tile all{q, whole_.kv, whole_.h};
  ++looks_;
  const KeyParts& parts = finder_(all);
  const Unknown by = divisible(all, parts.unknown);
  if (!by.any()) return runs_of(parts);
  if (!diagonals_) diagonals_.emplace(mask_.hooks(), scope_, whole_);
  if (diagonals_->exist()) return runs_by_diagonals(q, runs_of(parts));
  seen_.reset(num_tiles_);
  missed_.reset(num_tiles_);
  // Each row, head and path to a single element: no mask that people write needs more, and no other may take long.
  const int64_t once = 64 + 4 * (length(all.q) + length(all.h));
  looks_left_ = skip_ == SkipClass::tiles ? once * num_tiles_ : once;
  look(all);
  std::vector<TileRun> list;
  for (int32_t tile = 0; tile < num_tiles_; ++tile) {
    if (seen_.next(tile) != tile) append(list, tile, tile + 1, missed_.next(tile) == tile);
  }
  return list;
}

/// Tiles of runs that are not full may be anything.
std::vector<TileRun> TileSearch::runs_by_diagonals(Interval q, const std::vector<TileRun>& open) {
  std::vector<TileRun> list;
  for (const TileRun& run : open) {
    if (run.full) {
      append(list, run.begin, run.end, true);
      continue;
    }
    for (int32_t tile = run.begin; tile < run.end; ++tile) {
      const int64_t begin = whole_.kv.lo + tile * tile_keys_;
      const Truth truth = (*diagonals_)(q, {begin, std::min(begin + tile_keys_ - 1, whole_.kv.hi)});
      if (truth != Truth::empty) append(list, tile, tile + 1, truth == Truth::full);
    }
  }
  return list;
}

void TileSearch::look(const Tile& box) {
  ++looks_;
  --looks_left_;
  const KeyParts& parts = finder_(box);
  const Unknown by = divisible(box, parts.unknown);
  const auto take = [&](Takings& tiles, Interval keys) {
    const auto [begin, end] = touched(keys);
    tiles.take(begin, end);
  };
  // All rows see what none may miss, and miss what none may see.
  for_gaps(box.kv, parts.missed, [&](Interval keys) { take(seen_, keys); });
  for_gaps(box.kv, parts.seen, [&](Interval keys) { take(missed_, keys); });
  const auto is_open = [&](Takings& tiles, const std::vector<Interval>& list) {
    return std::any_of(list.begin(), list.end(), [&](Interval keys) {
      const auto [begin, end] = touched(keys);
      return tiles.next(begin) < end;
    });
  };
  if (!is_open(seen_, parts.seen) && !is_open(missed_, parts.missed)) return;
  if (by.any() && looks_left_ > 0) return look_at_halves(box, by);
  for (const Interval& keys : parts.seen) take(seen_, keys);
  for (const Interval& keys : parts.missed) take(missed_, keys);
}

/// Of that which is longest among what may be halved. The later rows and the earlier keys come first: under causal masks they see
/// most.
void TileSearch::look_at_halves(const Tile& box, Unknown by) {
  const int64_t rows = by.rows ? length(box.q) : 0, heads = by.heads ? length(box.h) : 0, keys = by.keys ? length(box.kv) : 0;
  Tile first = box, second = box;
  const auto halve = [](Interval whole, Interval& low, Interval& high) {
    const int64_t middle = whole.lo + (whole.hi - whole.lo) / 2;
    low = {whole.lo, middle};
    high = {middle + 1, whole.hi};
  };
  if (rows >= heads && rows >= keys) {
    halve(box.q, second.q, first.q);
  } else if (heads >= keys) {
    halve(box.h, first.h, second.h);
  } else {
    halve(box.kv, first.kv, second.kv);
  }
  look(first);
  look(second);
}

}  // namespace lathe::expr
