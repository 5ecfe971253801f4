// The hooks of a spec, evaluated one element at a time by the interpreter of their language (csrc/spec/expr/interpret.h), as they
// were given: nothing here knows normal forms, printed source or tiles.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "lathe/spec/attention_spec.h"
#include "lathe/spec/expr/interpret.h"

namespace lathe::oracle {

/// A tensor that hooks read: values of the type that its elements are read as, row-major.
struct HookTensorValues {
  std::vector<int64_t> shape;
  std::vector<expr::Value> elements;
};

/// Params and tensors by their places in spec.hooks.given().
struct HookValues {
  std::vector<expr::Value> params;
  std::vector<HookTensorValues> tensors;
};

/// One element's view of the hooks. Inputs are set before hooks that use them are asked for; q_pos, kv_pos and pos follow by
/// themselves.
class HookEvaluator : private expr::Environment {
 public:
  HookEvaluator(const AttentionHooks& hooks, const HookValues& values);

  bool has(expr::Hook hook) const { return interpreters_[static_cast<size_t>(hook)].has_value(); }
  const expr::Rotary& rotary() const { return hooks_.rotary; }
  bool normalizes() const { return hooks_.normalizer == expr::Normalizer::softmax; }
  void set(expr::Input input, int64_t value) { at(input).i = static_cast<int32_t>(value); }
  void set_float(expr::Input input, double value) { at(input).f = value; }
  double number(expr::Hook hook);  // of a hook that is a float
  bool holds(expr::Hook hook);     // of one that is bool

 private:
  expr::Value input(expr::Input input) const override { return inputs_[static_cast<size_t>(input)]; }
  expr::Value param(uint32_t index) const override { return values_.params[index]; }
  expr::Value read(uint32_t tensor, std::span<const int32_t> index) const override;
  expr::Value& at(expr::Input input) { return inputs_[static_cast<size_t>(input)]; }
  expr::Value evaluate(expr::Hook hook);

  const expr::Hooks& hooks_;
  const HookValues& values_;
  std::array<expr::Value, expr::kInputs> inputs_{};
  std::array<std::optional<expr::Interpreter>, expr::kHooks> interpreters_;
};

}  // namespace lathe::oracle
