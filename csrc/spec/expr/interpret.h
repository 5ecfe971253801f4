// The meaning of expressions, on the host: floats in double (only to_f32 rounds to f32), integers in 32 bits. Oracles and tests
// evaluate hooks with it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lathe/spec/expr/hooks.h"

namespace lathe::expr {

/// One value. Exactly the member that the node's type names is meaningful; u32 is kept as its bits in `i`.
struct Value {
  double f = 0;
  int32_t i = 0;  // i32, u32 (bits), bool (0 or 1)

  static Value of(double f) { return {f, 0}; }
  static Value of(int32_t i) { return {0, i}; }
  bool operator==(const Value&) const = default;
};

/// Where leaves get their values from. Calls are made once per leaf and evaluation, from the evaluating thread.
class Environment {
 public:
  virtual ~Environment() = default;
  virtual Value input(Input input) const = 0;
  virtual Value param(uint32_t index) const = 0;
  /// The element at `index`, one entry per axis; the implementation clamps each to [0, extent of its axis - 1].
  virtual Value read(uint32_t tensor, std::span<const int32_t> index) const = 0;
};

/// Evaluates one expression many times. `hooks` must outlive it; value() may be called from several threads at once. The text of
/// unsafe_cuda has no value here: ask uses_cuda() first; what is asked all the same is NaN, or false.
class Interpreter {
 public:
  Interpreter(const Hooks& hooks, Id root);

  /// The value under `environment`. Total: no value of a leaf makes it fail. Both arms of a select are evaluated. The positions
  /// q_pos and kv_pos are asked of the environment like any input.
  Value value(const Environment& environment) const;

 private:
  const Hooks& hooks_;
  std::vector<Id> order_;  // the nodes that the root needs, itself last
};

/// Interpreter(hooks, root).value(environment), for a single evaluation.
Value interpret(const Hooks& hooks, Id root, const Environment& environment);

/// The value of one operator that is no leaf: its operands' values in, `operand_type` theirs (of select: that of its arms).
Value apply(Op op, Type operand_type, std::span<const Value> args);

/// apply(), with every f32 rounded to nearest as on the device: those of powi and sigmoid after each of their steps.
Value apply_rounded(Op op, Type operand_type, std::span<const Value> args);

}  // namespace lathe::expr
