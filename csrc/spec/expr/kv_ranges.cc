#include "lathe/spec/expr/kv_ranges.h"

#include <algorithm>
#include <vector>

#include "lathe/spec/expr/tile_solver.h"

namespace lathe::expr {
namespace {

/// The same keys, ascending, overlaps and neighbours joined.
std::vector<Interval> joined(std::vector<Interval> parts) {
  std::sort(parts.begin(), parts.end(), [](const Interval& a, const Interval& b) { return a.lo < b.lo; });
  std::vector<Interval> out;
  for (const Interval& part : parts) {
    if (!out.empty() && part.lo <= out.back().hi + 1) {
      out.back().hi = std::max(out.back().hi, part.hi);
    } else {
      out.push_back(part);
    }
  }
  return out;
}

std::vector<Interval> without(Interval all, const std::vector<Interval>& parts) {
  std::vector<Interval> out;
  int64_t begin = all.lo;
  for (const Interval& part : parts) {
    if (part.lo > begin) out.push_back({begin, part.lo - 1});
    begin = part.hi + 1;
  }
  if (begin <= all.hi) out.push_back({begin, all.hi});
  return out;
}

KvRanges listed(const std::vector<Interval>& parts) {
  KvRanges out;
  out.count = parts.size();
  std::copy(parts.begin(), parts.end(), out.ranges.begin());
  return out;
}

KvRanges covering(std::vector<Interval> parts) {
  while (parts.size() > kMaxKvRanges) {
    size_t nearest = 1;
    auto gap = [&](size_t i) { return parts[i].lo - parts[i - 1].hi; };
    for (size_t i = 2; i < parts.size(); ++i) {
      if (gap(i) < gap(nearest)) nearest = i;
    }
    parts[nearest - 1].hi = parts[nearest].hi;
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(nearest));
  }
  return listed(parts);
}

KvRanges longest(std::vector<Interval> parts) {
  while (parts.size() > kMaxKvRanges) {
    parts.erase(std::min_element(parts.begin(), parts.end(),
                                 [](const Interval& a, const Interval& b) { return a.hi - a.lo < b.hi - b.lo; }));
  }
  return listed(parts);
}

}  // namespace

SeenKeys seen_keys(const MaskTiles& mask, const Scope& scope, Interval q, Interval h) {
  const Interval keys{0, scope.kv_len - 1};
  const Interval rows{std::max<int64_t>(q.lo, 0), std::min(q.hi, scope.qo_len - 1)};
  if (rows.empty() || h.empty()) return {};
  TileSolver solver(mask.hooks(), scope, {rows, keys, h});
  auto where = [&](bool wanted) {
    std::vector<Interval> parts;
    solver.solve(wanted, [&](Interval part) {
      parts.push_back(part);
      return true;
    });
    return joined(std::move(parts));
  };
  SeenKeys out;
  out.seen = covering(where(true));
  if (rows == q) out.full = longest(without(keys, where(false)));
  return out;
}

}  // namespace lathe::expr
