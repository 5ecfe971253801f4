#include "lathe/spec/expr/diagonals.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>

#include "lathe/spec/expr/range.h"

namespace lathe::expr {
namespace {

/// An input that is one number for a whole request.
std::optional<int64_t> fixed_input(const Scope& scope, Input input) {
  switch (input) {
    case Input::b:
      return scope.b;
    case Input::level:
      return scope.level;
    case Input::group:
      return scope.group;
    case Input::qo_len:
      return scope.qo_len;
    case Input::kv_len:
      return scope.kv_len;
    default:
      return std::nullopt;
  }
}

/// By how much integers grow from an element to the next of its diagonal, where row and key are both one more.
class Steps {
 public:
  Steps(const Hooks& hooks, const Scope& scope, const Tile& whole)
      : graph_(hooks.graph), scope_(scope), ranges_(ranges(hooks, [&](Id leaf) { return leaf_range(leaf, whole); })) {
    steps_.reserve(graph_.size());
    for (Id id = 0; id < graph_.size(); ++id) steps_.push_back(of(id));
  }

  bool is_fixed(Id id) const { return steps_[id] == 0; }

 private:
  /// Nothing: not the same for all elements, or not known.
  using Step = std::optional<int64_t>;

  std::optional<Range> leaf_range(Id leaf, const Tile& whole) const {
    const auto range = [](int64_t lo, int64_t hi) { return Range{static_cast<double>(lo), static_cast<double>(hi)}; };
    const Node& node = graph_[leaf];
    if (node.op == Op::param && node.value < scope_.params.size() && node.type != Type::f32) {
      const int32_t value = scope_.params[node.value].i;
      const int64_t number = node.type == Type::u32 ? int64_t{static_cast<uint32_t>(value)} : int64_t{value};
      return range(number, number);
    }
    if (node.op != Op::input) return std::nullopt;
    const auto input = static_cast<Input>(node.value);
    if (input == Input::q) return range(whole.q.lo, whole.q.hi);
    if (input == Input::kv) return range(whole.kv.lo, whole.kv.hi);
    if (input == Input::tok) return range(whole.q.lo + scope_.tok_begin, whole.q.hi + scope_.tok_begin);
    const std::optional<int64_t> number = fixed_input(scope_, input);
    return number ? std::optional(range(*number, *number)) : std::nullopt;
  }

  Step of(Id id) const {
    const Node& node = graph_[id];
    if (node.type == Type::f32) return std::nullopt;
    if (is_leaf(node.op)) return of_leaf(node);
    if (node.op == Op::read || node.op == Op::cuda) return std::nullopt;
    std::array<Step, kMaxOperands> of_operands;
    bool all_fixed = true;
    for (size_t i = 0; i < node.arity; ++i) {
      of_operands[i] = steps_[node.args[i]];
      if (!of_operands[i]) return std::nullopt;
      all_fixed = all_fixed && of_operands[i] == 0;
    }
    if (all_fixed) return 0;
    const Step step = of_moving(node, of_operands);
    // What wraps at some element takes another step there; and sums of 32 bits do not take longer ones.
    return ranges_[id].wraps || !step || std::abs(*step) > kMaxCoefficient ? std::nullopt : step;
  }

  Step of_leaf(const Node& node) const {
    if (node.op == Op::constant) return 0;
    if (node.op == Op::param) return node.value < scope_.params.size() ? Step(0) : std::nullopt;
    const auto input = static_cast<Input>(node.value);
    if (input == Input::q || input == Input::kv || input == Input::tok) return 1;
    return fixed_input(scope_, input) ? Step(0) : std::nullopt;
  }

  Step of_moving(const Node& node, const std::array<Step, kMaxOperands>& steps) const {
    const int64_t a = *steps[0], b = steps[1].value_or(0);
    switch (node.op) {
      case Op::add:
        return a + b;
      case Op::sub:
        return a - b;
      case Op::neg:
        return -a;
      case Op::mul:
        if (const Range& by = ranges_[node.args[1]]; by.is_point()) return a * static_cast<int64_t>(by.lo);
        if (const Range& by = ranges_[node.args[0]]; by.is_point()) return b * static_cast<int64_t>(by.lo);
        return std::nullopt;
      case Op::min:
      case Op::max:
        return a == b ? Step(a) : std::nullopt;
      case Op::less:
      case Op::less_equal:
      case Op::equal:
        return a == b ? Step(0) : std::nullopt;
      case Op::select:
        return a == 0 && steps[1] == steps[2] ? steps[1] : std::nullopt;
      default:
        return std::nullopt;
    }
  }

  const Graph& graph_;
  const Scope& scope_;
  const std::vector<Range> ranges_;
  std::vector<Step> steps_;
};

class Element : public Environment {
 public:
  Element(const Scope& scope, int64_t q, int64_t kv) : scope_(scope), q_(q), kv_(kv) {}
  Value input(Input input) const override {
    const int64_t number = input == Input::q     ? q_
                           : input == Input::tok ? q_ + scope_.tok_begin
                           : input == Input::kv  ? kv_
                                                 : fixed_input(scope_, input).value_or(0);
    return Value::of(static_cast<int32_t>(number));
  }
  Value param(uint32_t index) const override { return scope_.params[index]; }
  Value read(uint32_t, std::span<const int32_t>) const override { return {}; }

 private:
  const Scope& scope_;
  int64_t q_, kv_;
};

}  // namespace

Diagonals::Diagonals(const Hooks& hooks, const Scope& scope, const Tile& whole)
    : scope_(scope),
      whole_(whole),
      mask_(hooks, hooks.root(Hook::mask)),
      exist_(Steps(hooks, scope, whole).is_fixed(hooks.root(Hook::mask))) {}

bool Diagonals::value(int64_t diagonal) const {
  const int64_t q = std::max(whole_.q.lo, whole_.kv.lo + diagonal);
  return mask_.value(Element(scope_, q, q - diagonal)).i != 0;
}

/// How many diagonals below this one are seen, less a number that is the same for all.
int64_t Diagonals::seen_before(int64_t diagonal) {
  const int64_t away = diagonal - first_;
  std::vector<int32_t>& counts = away >= 0 ? after_ : before_;
  const auto place = static_cast<size_t>(std::abs(away));
  while (counts.size() <= place) {
    const auto next = static_cast<int64_t>(counts.size());
    counts.push_back(counts.back() + (value(away >= 0 ? first_ + next - 1 : first_ - next) ? 1 : 0));
  }
  return away >= 0 ? counts[place] : -counts[place];
}

Truth Diagonals::operator()(Interval q, Interval kv) {
  const Interval diagonals{q.lo - kv.hi, q.hi - kv.lo};
  if (after_.size() + before_.size() == 2) first_ = diagonals.lo;
  const int64_t seen = seen_before(diagonals.hi + 1) - seen_before(diagonals.lo);
  return seen == 0 ? Truth::empty : seen > diagonals.hi - diagonals.lo ? Truth::full : Truth::partial;
}

}  // namespace lathe::expr
