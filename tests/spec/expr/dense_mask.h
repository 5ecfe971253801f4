// A mask with everything it needs, small enough to be evaluated for each element.
#pragma once

#include <string>
#include <vector>

#include "lathe/spec/expr/interpret.h"
#include "lathe/spec/expr/tiles.h"
#include "random_hooks.h"

namespace lathe::expr::testing {

/// Lengths, params and tensors of one request. Tensors' elements are drawn around the lengths, so that comparing them matters;
/// `fit` makes those of known names what their masks are meant for (starts of documents, spans, bits). `hooks` must outlive it.
class DenseMask {
 public:
  struct Size {
    int32_t qo_len, kv_len, heads, group;
  };
  DenseMask(const Hooks& hooks, Rng& rng, Size size, bool fit);

  /// Evaluates the mask for all rows, keys and heads.
  void evaluate();

  bool at(int64_t q, int64_t kv, int64_t h) const;
  Truth truth(const Tile& tile) const;
  /// Lengths and integer params, for messages.
  std::string text() const;
  /// Views this object.
  Scope scope() const;

 private:
  friend class ElementEnvironment;
  int64_t extent(uint32_t tensor, size_t axis) const;
  size_t place(uint32_t tensor, std::span<const int64_t> index) const;
  std::optional<Interval> summary(uint32_t tensor, std::span<const Interval> index) const;
  void fit_tensors(Rng& rng);
  void fill(const char* name, const std::vector<int64_t>& values);

  const Hooks& hooks_;
  Size size_;
  int32_t b_, level_, tok_begin_;
  std::vector<Value> params_;
  std::vector<std::vector<Value>> elements_;  // by tensor; more than its extents need is not stored: places wrap
  std::vector<uint8_t> values_;
};

}  // namespace lathe::expr::testing
