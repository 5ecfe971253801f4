// Masks that depend on a row and a key by the distance between them alone: one answer for each diagonal.
#pragma once

#include <cstdint>
#include <vector>

#include "lathe/spec/expr/interpret.h"
#include "lathe/spec/expr/tiles.h"

namespace lathe::expr {

/// The mask of one request along its diagonals, q - kv. Each is evaluated once, when it is first asked for, so that tiles of a mask
/// such as `abs(q_pos - kv_pos) % 8 == 0`, of which no range of keys can be told, are exact at the price of a look-up. For use by
/// one thread.
class Diagonals {
 public:
  /// `hooks` has no positions, and like `scope` must outlive this. Rows and keys asked for are within `whole`.
  Diagonals(const Hooks& hooks, const Scope& scope, const Tile& whole);

  /// Whether the mask is proven to be the same along each diagonal of `whole`, for all its heads. It is false of what floats,
  /// elements of tensors or slots have a part in.
  bool exist() const { return exist_; }

  /// What the rows and keys are to each other. Only where diagonals exist.
  Truth operator()(Interval q, Interval kv);

 private:
  bool value(int64_t diagonal) const;
  int64_t seen_before(int64_t diagonal);

  const Scope& scope_;
  const Tile whole_;
  Interpreter mask_;
  bool exist_;
  int64_t first_ = 0;               // the first diagonal that was asked for
  std::vector<int32_t> after_{0};   // by i: how many of first_ .. first_ + i - 1 are seen
  std::vector<int32_t> before_{0};  // by i: how many of first_ - i .. first_ - 1 are
};

}  // namespace lathe::expr
