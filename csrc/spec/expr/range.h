// What values an expression may take, from the ranges of what it is made of.
#pragma once

#include <functional>
#include <vector>

#include "lathe/spec/expr/hooks.h"

namespace lathe::expr {

/// All values lie in [lo, hi], or are NaN. Integers are exact (in 64 bits, before wrapping); bool is within [0, 1]; floats are as
/// the device rounds them (float_range.h), and infinite only where `lo` or `hi` is.
struct Range {
  double lo = 0, hi = 0;
  bool wraps = false;       // an integer whose exact value may leave its type: [lo, hi] is then the whole type
  bool undeclared = false;  // depends on run-time data without a declared range: a tensor, or a param that declares none
  bool nan = false;         // a float that may be NaN
  bool overflows = false;   // a float that is infinite only where run-time data without a declared range are large

  bool within(double a, double b) const { return lo >= a && hi <= b; }
  bool is_point() const { return lo == hi; }
};

/// What is taken of floats that are given at run time without a range (inputs, elements, params).
enum class Floats : uint8_t {
  any,     // infinities and NaN too: what indices rest on
  finite,  // finite, and so are sums, differences, products, quotients and powers of them: what check() judges NaN by
};

/// All values of `type`; of f32 the finite ones.
Range whole_range(Type type);

/// The range of a leaf (input, param or read), when the caller knows a better one than its declaration says.
using LeafRange = std::function<std::optional<Range>(Id leaf)>;

/// Ranges of all nodes of hooks.graph, by place. q_pos and kv_pos take the ranges of their maps.
std::vector<Range> ranges(const Hooks& hooks, const LeafRange& leaf = {}, Floats floats = Floats::any);

/// The range of one node from those of its operands, `known` by place, and of a leaf from its declaration.
Range range_of(const Hooks& hooks, const Node& node, const std::vector<Range>& known);

/// Whether the `axis`-th index of the read `read` is proven to stay inside its tensor. Where it is not, the interpreter and printed
/// source clamp it.
bool index_is_inside(const Hooks& hooks, const std::vector<Range>& ranges, Id read, size_t axis);

}  // namespace lathe::expr
