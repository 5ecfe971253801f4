// The second half of TileSolver: goals, and the choices that reach them. The first is tile_lowering.cc.
#include "lathe/spec/expr/tile_solver.h"

#include <algorithm>
#include <utility>

namespace lathe::expr {
namespace {

/// form - a + b, where the coefficient of the atom that b replaces is `by`: nothing when it passes the limits.
std::optional<Form> replaced(const Form& form, Atom atom, int64_t by, const Form& with) {
  const std::optional<Form> rest = combine(form, 1, atom_form(atom), -by);
  return rest ? combine(*rest, 1, with, by) : std::nullopt;
}

}  // namespace

/// False when `leaf` wants no more.
bool TileSolver::explore(State state, const Leaf& leaf) {
  if (!reach(state)) return true;
  const System::Left left = state.system.propagate();
  if (left == System::Left::none) return true;
  if (state.choices.empty() || branches_left_ <= 0) return leaf(state, left);
  --branches_left_;
  Choice choice = std::move(state.choices.back());
  state.choices.pop_back();
  State other = state;
  state.goals = std::move(choice.first);
  other.goals = std::move(choice.second);
  return explore(std::move(state), leaf) && explore(std::move(other), leaf);
}

void TileSolver::solve(bool wanted, const Found& found) {
  branches_left_ = kMaxBranches;
  explore({base_, {{mask_, wanted, {}}}, {}}, [&](const State& state, System::Left left) {
    return found({state.system[kv_], unknown_of(state, left)});
  });
}

Unknown TileSolver::unknown_of(const State& state, System::Left left) const {
  const bool certain = state.whole && state.choices.empty() && left == System::Left::settled && state.system.settles(kv_);
  if (!certain) return {true, true, true};
  Unknown out;
  for (const UnknownAtom& unknown : unknown_) {
    const bool matters = !(state.system[unknown.atom] == base_[unknown.atom]) || state.system.binds(unknown.atom);
    if (matters) out |= unknown.by;
  }
  return out;
}

std::vector<TileSolver::Alternative> TileSolver::alternatives(bool wanted) {
  std::vector<Alternative> out;
  branches_left_ = kMaxBranches;
  explore({base_, {{mask_, wanted, {}}}, {}}, [&](const State& state, System::Left) {
    out.push_back({state.system, state.whole && state.choices.empty(), state.system.settles(kv_)});
    return true;
  });
  return out;
}

/// Works off the goals, which may leave choices. False when they cannot all be reached.
bool TileSolver::reach(State& state) {
  while (!state.goals.empty()) {
    const Goal goal = std::move(state.goals.back());
    state.goals.pop_back();
    if (goal.node == kNone) {
      if (!reach_form(state, goal.form)) return false;
      continue;
    }
    const Range& range = ranges_[goal.node];
    if (range.is_point() && (range.lo != 0) != goal.wanted) return false;
    reach_node(state, goal);
  }
  return true;
}

void TileSolver::reach_node(State& state, const Goal& goal) {
  const Node& node = graph_[goal.node];
  const bool wanted = goal.wanted;
  auto of = [&](size_t i, bool value) { return Goal{node.args[i], value, {}}; };
  switch (node.op) {
    case Op::logical_not:
      state.goals.push_back(of(0, !wanted));
      return;
    case Op::logical_and:
    case Op::logical_or:
      if ((node.op == Op::logical_and) == wanted) {
        state.goals.push_back(of(0, wanted));
        state.goals.push_back(of(1, wanted));
      } else {
        state.choices.push_back({{of(0, wanted)}, {of(1, wanted)}});
      }
      return;
    case Op::select:
      state.choices.push_back({{of(0, true), of(1, wanted)}, {of(0, false), of(2, wanted)}});
      return;
    case Op::less:
    case Op::less_equal:
    case Op::equal:
      compare(state, node, wanted);
      return;
    default: {  // a bool of its own: 1 - value <= 0, or value <= 0
      const std::optional<Form> form = wanted ? combine(constant_form(1), 1, *forms_[goal.node], -1) : forms_[goal.node];
      if (form) state.goals.push_back({kNone, true, *form});
      state.whole = state.whole && form;
    }
  }
}

void TileSolver::compare(State& state, const Node& node, bool wanted) {
  const Type type = graph_[node.args[0]].type;
  if (type == Type::f32) return;
  if (type == Type::boolean) {
    auto of = [&](size_t i, bool value) { return Goal{node.args[i], value, {}}; };
    state.choices.push_back({{of(0, true), of(1, wanted)}, {of(0, false), of(1, !wanted)}});
    return;
  }
  const Form& a = *forms_[node.args[0]];
  const Form& b = *forms_[node.args[1]];
  /// The sum that is <= 0 when a <= b + slack, or b <= a + slack.
  auto at_most = [&](const Form& x, const Form& y, int64_t slack) -> std::optional<Form> {
    const std::optional<Form> difference = combine(x, 1, y, -1);
    return difference ? combine(*difference, 1, constant_form(slack), -1) : std::nullopt;
  };
  auto require = [&](const std::optional<Form>& form) {
    if (form) state.goals.push_back({kNone, true, *form});
    state.whole = state.whole && form;
  };
  if (node.op != Op::equal) {
    const int64_t strict = node.op == Op::less ? -1 : 0;
    require(wanted ? at_most(a, b, strict) : at_most(b, a, -1 - strict));
  } else if (wanted) {
    require(at_most(a, b, 0));
    require(at_most(b, a, 0));
  } else {
    const std::optional<Form> less = at_most(a, b, -1), greater = at_most(b, a, -1);
    if (less && greater) state.choices.push_back({{{kNone, true, *less}}, {{kNone, true, *greater}}});
    state.whole = state.whole && less && greater;
  }
}

/// form <= 0, split by the first of its atoms that can be.
bool TileSolver::reach_form(State& state, const Form& form) {
  for (const Form::Term& term : form.terms) {
    const auto place = pieces_.find(term.atom);
    if (place == pieces_.end()) continue;
    const Piece& piece = place->second;
    const std::optional<Form> first = replaced(form, term.atom, term.coefficient, piece.first);
    const std::optional<Form> second = replaced(form, term.atom, term.coefficient, piece.second);
    if (!first || !second) {
      state.whole = false;
      continue;
    }
    Goal with_first{kNone, true, *first}, with_second{kNone, true, *second};
    if (piece.op == Op::select) {
      state.choices.push_back(
          {{{piece.condition, true, {}}, std::move(with_first)}, {{piece.condition, false, {}}, std::move(with_second)}});
    } else if ((piece.op == Op::max) == (term.coefficient > 0)) {
      state.goals.push_back(std::move(with_first));
      state.goals.push_back(std::move(with_second));
    } else {
      state.choices.push_back({{std::move(with_first)}, {std::move(with_second)}});
    }
    return true;
  }
  return state.system.require(form);
}

}  // namespace lathe::expr
