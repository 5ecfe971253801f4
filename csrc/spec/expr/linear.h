// Sums of integers: c0 * x0 + c1 * x1 + ... + constant, where each x is a node that is no such sum itself.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "lathe/spec/expr/graph.h"

namespace lathe::expr {

/// Coefficients are exact 64-bit integers; i32 arithmetic is the same after wrapped().
struct Linear {
  std::vector<std::pair<Id, int64_t>> terms;  // by ascending Id, no coefficient 0
  int64_t constant = 0;

  static Linear number(int64_t value) { return {{}, value}; }
  static Linear atom(Id id) { return {{{id, 1}}, 0}; }
};

/// a + factor * b.
Linear plus(const Linear& a, const Linear& b, int64_t factor);

/// The form with every number brought into i32 by multiples of 2^32: of the same i32 value.
Linear wrapped(const Linear& form);

/// The greatest divisor of all coefficients, the constant excepted; 0 without terms.
int64_t common_divisor(const Linear& form);

}  // namespace lathe::expr
