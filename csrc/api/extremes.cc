#include "extremes.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

namespace lathe {
namespace {

using expr::Elem;
using expr::Interval;

constexpr Interval kNothing{std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()};

Interval point(int64_t x) {
  return {x, x};
}

Interval hull(Interval a, Interval b) {
  return {std::min(a.lo, b.lo), std::max(a.hi, b.hi)};
}

}  // namespace

Extremes::Extremes(const Tensor& tensor, Elem elem, std::span<const int> extents)
    : tensor_(tensor), elem_(elem), extents_(extents.begin(), extents.end()) {
  longest_ = static_cast<size_t>(std::ranges::max_element(extents_) - extents_.begin());
}

Interval Extremes::operator()(std::span<const Interval> box) {
  return of_box(box, 0, 0);
}

/// Of u32 unsigned.
Interval Extremes::at(int64_t offset) const {
  const auto* bytes = static_cast<const std::byte*>(tensor_.data);
  if (elem_ == Elem::i32 || elem_ == Elem::u32) {
    int32_t x;
    std::memcpy(&x, bytes + offset * 4, sizeof x);
    return point(elem_ == Elem::u32 ? int64_t{static_cast<uint32_t>(x)} : x);
  }
  const auto x = static_cast<uint8_t>(bytes[offset]);
  if (elem_ == Elem::boolean) return point(x != 0 ? 1 : 0);
  return point(elem_ == Elem::i8 ? static_cast<int8_t>(x) : x);
}

/// The other axes one index after the other, then a line along the longest.
Interval Extremes::of_box(std::span<const Interval> box, size_t axis, int64_t offset) {
  if (axis == box.size()) {
    const auto inside = [&](int64_t i) { return std::clamp<int64_t>(i, 0, extents_[longest_] - 1); };
    return of_line({inside(box[longest_].lo), inside(box[longest_].hi)}, offset);
  }
  if (axis == longest_) return of_box(box, axis + 1, offset);
  const auto inside = [&](int64_t i) { return std::clamp<int64_t>(i, 0, extents_[axis] - 1); };
  Interval out = kNothing;
  for (int64_t i = inside(box[axis].lo); i <= inside(box[axis].hi); ++i)
    out = hull(out, of_box(box, axis + 1, offset + i * tensor_.stride[axis]));
  return out;
}

Interval Extremes::of_line(Interval range, int64_t offset) {
  const auto element = [&](int64_t i) { return at(offset + i * tensor_.stride[longest_]); };
  Interval out = kNothing;
  if (range.hi - range.lo < 2 * kBlock) {
    for (int64_t i = range.lo; i <= range.hi; ++i) out = hull(out, element(i));
    return out;
  }
  const auto [place, added] = lines_.try_emplace(offset);
  if (added) place->second = build(offset);
  const Levels& levels = place->second;
  // The ends of the range that are no whole blocks, from the elements up; what is left are blocks of the level above.
  for (size_t level = 0; range.lo <= range.hi; ++level) {
    const auto value = [&](int64_t i) { return level == 0 ? element(i) : levels[level - 1][static_cast<size_t>(i)]; };
    const bool top = level == levels.size();
    while (range.lo <= range.hi && (top || range.lo % kBlock != 0)) out = hull(out, value(range.lo++));
    while (range.lo <= range.hi && (range.hi + 1) % kBlock != 0) out = hull(out, value(range.hi--));
    range = {range.lo / kBlock, (range.hi + 1) / kBlock - 1};
  }
  return out;
}

/// Whole blocks only: what is left at the end of a level is never asked for.
Extremes::Levels Extremes::build(int64_t offset) const {
  Levels levels;
  int64_t count = extents_[longest_];
  while (count >= kBlock) {
    std::vector<Interval> level(static_cast<size_t>(count / kBlock), kNothing);
    for (int64_t i = 0; i < count / kBlock * kBlock; ++i) {
      const Interval value = levels.empty() ? at(offset + i * tensor_.stride[longest_]) : levels.back()[static_cast<size_t>(i)];
      Interval& block = level[static_cast<size_t>(i / kBlock)];
      block = hull(block, value);
    }
    count = static_cast<int64_t>(level.size());
    levels.push_back(std::move(level));
  }
  return levels;
}

}  // namespace lathe
