#include "lathe/oracle/hooks.h"

#include <algorithm>

namespace lathe::oracle {

using expr::Hook;
using expr::Input;

HookEvaluator::HookEvaluator(const AttentionHooks& hooks, const HookValues& values) : hooks_(hooks.given()), values_(values) {
  for (size_t i = 0; i < expr::kHooks; ++i) {
    if (hooks_.roots[i] != expr::kNone) interpreters_[i].emplace(hooks_, hooks_.roots[i]);
  }
}

expr::Value HookEvaluator::read(uint32_t tensor, std::span<const int32_t> index) const {
  const HookTensorValues& t = values_.tensors[tensor];
  const std::vector<expr::TensorAxis>& axes = hooks_.tensors[tensor].axes;
  int64_t offset = 0;
  for (size_t i = 0; i < index.size(); ++i) {
    // Clamped to what is declared, which may be less than what lies there.
    int64_t extent = t.shape[i];
    if (axes[i].axis == expr::Axis::number) extent = axes[i].value;
    if (axes[i].axis == expr::Axis::param) extent = std::max(values_.params[axes[i].value].i, 1);
    offset = offset * t.shape[i] + std::clamp<int64_t>(index[i], 0, extent - 1);
  }
  return t.elements[static_cast<size_t>(offset)];
}

expr::Value HookEvaluator::evaluate(Hook hook) {
  at(Input::q_pos).i = at(Input::q).i + at(Input::kv_len).i - at(Input::qo_len).i;
  at(Input::kv_pos).i = at(Input::kv).i;
  const auto map = [&](Hook of) { return interpreters_[static_cast<size_t>(of)]->value(*this).i; };
  if (has(Hook::q_pos)) at(Input::q_pos).i = map(Hook::q_pos);
  if (has(Hook::kv_pos)) at(Input::kv_pos).i = map(Hook::kv_pos);
  at(Input::pos).i = std::max(hook == Hook::query ? at(Input::q_pos).i : at(Input::kv_pos).i, 0);
  return interpreters_[static_cast<size_t>(hook)]->value(*this);
}

double HookEvaluator::number(Hook hook) {
  return evaluate(hook).f;
}
bool HookEvaluator::holds(Hook hook) {
  return evaluate(hook).i != 0;
}

}  // namespace lathe::oracle
