// Least and greatest elements of boxes of a host array, for the analysis of masks (csrc/spec/expr/tiles.h).
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "lathe/api/tensor.h"
#include "lathe/spec/expr/affine.h"
#include "lathe/spec/expr/hooks.h"

namespace lathe {

/// A host array of integers whose boxes are asked for again and again. Its longest axis is looked at in blocks: the first question
/// about a line along it reads the whole line, once; each later one costs the logarithm of its length. Refers to the array, which
/// must not change. For use by one thread.
class Extremes {
 public:
  /// `elem` is no float. Indices are clamped to [0, extent - 1], each axis its own; extents are at least 1.
  Extremes(const Tensor& tensor, expr::Elem elem, std::span<const int> extents);

  /// `box`: an interval for each axis, not empty.
  expr::Interval operator()(std::span<const expr::Interval> box);

 private:
  /// Blocks of kBlock elements of a line, blocks of kBlock of those, and so on.
  using Levels = std::vector<std::vector<expr::Interval>>;
  static constexpr int64_t kBlock = 16;

  expr::Interval of_box(std::span<const expr::Interval> box, size_t axis, int64_t offset);
  expr::Interval of_line(expr::Interval range, int64_t offset);
  expr::Interval at(int64_t offset) const;
  Levels build(int64_t offset) const;

  Tensor tensor_;
  expr::Elem elem_;
  std::vector<int64_t> extents_;
  size_t longest_ = 0;
  std::unordered_map<int64_t, Levels> lines_;  // those asked for, by where they begin
};

}  // namespace lathe
