#include "lathe/spec/expr/tile_solver.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

namespace lathe::expr {
namespace {

Range range_from(Interval a) {
  return {static_cast<double>(a.lo), static_cast<double>(a.hi)};
}

/// form - a + b, where the coefficient of the atom that b replaces is `by`: nothing when it passes the limits.
std::optional<Form> replaced(const Form& form, Atom atom, int64_t by, const Form& with) {
  const std::optional<Form> rest = combine(form, 1, atom_form(atom), -by);
  return rest ? combine(*rest, 1, with, by) : std::nullopt;
}

/// A bool that goals are made of its operands for.
bool is_logic(const Node& node) {
  return node.type == Type::boolean && node.op != Op::read && node.op != Op::bit && node.op != Op::is_inf;
}

}  // namespace

TileSolver::TileSolver(const Hooks& hooks, const Scope& scope, const Tile& tile)
    : hooks_(hooks),
      graph_(hooks.graph),
      scope_(scope),
      mask_(hooks.root(Hook::mask)),
      q_(base_.add_atom(tile.q)),
      kv_(base_.add_atom(tile.kv)),
      h_(base_.add_atom(tile.h)),
      ranges_(hooks.graph.size()),
      forms_(hooks.graph.size()),
      origins_(hooks.graph.size()) {
  const std::vector<bool> used = reachable(graph_, std::array{mask_});
  for (Id id = 0; id < graph_.size(); ++id) {
    if (used[id]) lower(id);
  }
}

TileSolver::Origin TileSolver::origin_of(const Node& node) const {
  Origin out;
  for (Id arg : node.operands()) {
    out.by |= origins_[arg].by;
    out.never = out.never || origins_[arg].never;
  }
  if (node.type == Type::f32) out.never = true;
  if (node.op == Op::input) {
    const auto input = static_cast<Input>(node.value);
    out.by.rows = input == Input::q || input == Input::tok;
    out.by.heads = input == Input::h || input == Input::hk;
    out.by.keys = input == Input::kv;
    out.never = input == Input::slot;
  }
  return out;
}

Interval TileSolver::known(Id id) const {
  return {static_cast<int64_t>(ranges_[id].lo), static_cast<int64_t>(ranges_[id].hi)};
}

/// Gives the node a range, and a form when it is an integer or a bool that logic cannot look into.
void TileSolver::lower(Id id) {
  const Node& node = graph_[id];
  origins_[id] = origin_of(node);
  if (node.type == Type::f32) {
    constexpr double kInf = std::numeric_limits<double>::infinity();
    ranges_[id] = {-kInf, kInf};
    return;
  }
  std::optional<Form> form;
  Range range;
  if (is_leaf(node.op)) {
    form = leaf(node);
    range = form ? range_from(base_.range(*form)) : range_of(hooks_, node, ranges_);
  } else {
    range = node.op == Op::read  ? read_range(node, origins_[id].never)
            : node.op == Op::bit ? bit_range(node)
                                 : range_of(hooks_, node, ranges_);
    if (node.type != Type::boolean) form = sum(id);
    if (form) {
      // Operands are exact, so the sum is what the operator gives unless that leaves the type and wraps.
      const Range exact = range_from(base_.range(*form));
      const Range type = whole_range(node.type);
      const bool fits = exact.within(type.lo, type.hi);
      if (!fits && (range.wraps || node.op == Op::shl)) form.reset();
      if (form && fits) range = {std::max(exact.lo, range.lo), std::min(exact.hi, range.hi)};
    }
  }
  range.wraps = false;
  ranges_[id] = range;
  if (!form && range.is_point()) {
    form = constant_form(known(id).lo);
  } else if (!form) {
    const Atom atom = base_.add_atom(known(id));
    form = atom_form(atom);
    const Origin& origin = origins_[id];
    if (origin.by.any() && !origin.never && !is_logic(node)) unknown_.push_back({atom, origin.by});
  }
  forms_[id] = std::move(form);
}

std::optional<Form> TileSolver::leaf(const Node& node) {
  if (node.op == Op::constant) return constant_form(node.type == Type::i32 ? int64_t{as_i32(node)} : int64_t{node.value});
  if (node.op == Op::param) {
    if (node.value >= scope_.params.size()) return std::nullopt;
    const int32_t value = scope_.params[node.value].i;
    return constant_form(node.type == Type::u32 ? int64_t{static_cast<uint32_t>(value)} : int64_t{value});
  }
  switch (static_cast<Input>(node.value)) {
    case Input::b:
      return constant_form(scope_.b);
    case Input::level:
      return constant_form(scope_.level);
    case Input::group:
      return constant_form(scope_.group);
    case Input::qo_len:
      return constant_form(scope_.qo_len);
    case Input::kv_len:
      return constant_form(scope_.kv_len);
    case Input::q:
      return atom_form(q_);
    case Input::kv:
      return atom_form(kv_);
    case Input::h:
      return atom_form(h_);
    case Input::hk:
      return atom_form(quotient(kNone, atom_form(h_), scope_.group));
    case Input::tok:
      return combine(atom_form(q_), 1, constant_form(scope_.tok_begin), 1);
    default:  // slot: pages lie anywhere
      return std::nullopt;
  }
}

/// The integer node as a sum, before it is known whether it wraps.
std::optional<Form> TileSolver::sum(Id id) {
  const Node& node = graph_[id];
  auto form = [&](size_t i) -> const Form& { return *forms_[node.args[i]]; };
  switch (node.op) {
    case Op::add:
      return combine(form(0), 1, form(1), 1);
    case Op::sub:
      return combine(form(0), 1, form(1), -1);
    case Op::neg:
      return combine(form(0), -1, {}, 0);
    case Op::mul:
      if (ranges_[node.args[0]].is_point()) return combine(form(1), known(node.args[0]).lo, {}, 0);
      if (ranges_[node.args[1]].is_point()) return combine(form(0), known(node.args[1]).lo, {}, 0);
      return std::nullopt;
    case Op::floor_div:
    case Op::mod:
    case Op::shl:
    case Op::shr:
    case Op::bit_and:
      return quotient_or_rest(id);
    case Op::min:
    case Op::max:
    case Op::abs:
    case Op::select:
      return piece(id);
    case Op::to_i32: {
      const Id from = node.args[0];
      if (graph_[from].type == Type::u32 && ranges_[from].hi <= std::numeric_limits<int32_t>::max()) return forms_[from];
      return std::nullopt;
    }
    default:
      return std::nullopt;
  }
}

std::optional<Form> TileSolver::piece(Id id) {
  const Node& node = graph_[id];
  Piece piece{node.op, kNone, {}, {}};
  const size_t first = node.op == Op::select ? 1 : 0;
  piece.first = *forms_[node.args[first]];
  if (node.op == Op::abs) {
    const std::optional<Form> negative = combine(piece.first, -1, {}, 0);
    if (!negative) return std::nullopt;
    piece.op = Op::max;
    piece.second = *negative;
  } else {
    piece.second = *forms_[node.args[first + 1]];
  }
  if (node.op == Op::select) piece.condition = node.args[0];
  const Range range = range_of(hooks_, node, ranges_);
  if (range.wraps || range.is_point()) return std::nullopt;  // abs(-2^31) is not its operand's negative
  const Atom atom = base_.add_atom({static_cast<int64_t>(range.lo), static_cast<int64_t>(range.hi)});
  pieces_.emplace(atom, std::move(piece));
  return atom_form(atom);
}

std::optional<Form> TileSolver::quotient_or_rest(Id id) {
  const Node& node = graph_[id];
  Id of = node.args[0];
  Id by = node.args[1];
  if (node.op == Op::bit_and && !ranges_[by].is_point()) std::swap(of, by);
  if (!ranges_[by].is_point()) return std::nullopt;
  int64_t divisor = known(by).lo;
  if (node.op == Op::shl || node.op == Op::shr) {
    if (divisor < 0 || divisor > 31) return std::nullopt;
    divisor = int64_t{1} << divisor;
  } else if (node.op == Op::bit_and) {
    divisor += 1;
    if (divisor <= 0 || (divisor & (divisor - 1)) != 0) return std::nullopt;
  }
  if (node.op == Op::shl) return combine(*forms_[of], divisor, {}, 0);
  if (divisor <= 0 || divisor > kMaxCoefficient) return std::nullopt;
  const Form whole_part = atom_form(quotient(of, *forms_[of], divisor));
  if (node.op == Op::floor_div || node.op == Op::shr) return whole_part;
  return combine(*forms_[of], 1, whole_part, -divisor);
}

/// The atom floor(form / divisor), with what ties it to `form`. `of` tells equal ones apart from others.
Atom TileSolver::quotient(Id of, const Form& form, int64_t divisor) {
  auto [place, added] = quotients_.try_emplace({of, divisor}, 0);
  if (!added) return place->second;
  Interval range = base_.range(form);
  if (of != kNone) range = known(of);  // a sum can be known better than its parts tell
  // What ties these together is not split by cases.
  for (const Form::Term& term : form.terms) {
    if (pieces_.contains(term.atom)) unknown_.push_back({term.atom, origins_[of].by});
  }
  const Atom atom = base_.add_atom({floor_quotient(range.lo, divisor), floor_quotient(range.hi, divisor)});
  place->second = atom;
  const std::optional<Form> rest = combine(form, 1, atom_form(atom), -divisor);
  if (!rest) return atom;
  const std::optional<Form> negative = combine(*rest, -1, {}, 0);
  const std::optional<Form> below = combine(*rest, 1, constant_form(divisor - 1), -1);
  // A value always has a quotient, so these cannot fail.
  if (negative) base_.require(*negative);
  if (below) base_.require(*below);
  return atom;
}

Range TileSolver::read_range(const Node& node, bool& never) const {
  std::array<Interval, kMaxAxes> index;
  for (size_t i = 0; i < node.arity; ++i) index[i] = known(node.args[i]);
  const Range declared = range_of(hooks_, node, ranges_);
  const auto summary = [&] { return scope_.summary ? scope_.summary(node.value, {index.data(), node.arity}) : std::nullopt; };
  const std::optional<Interval> given = summary();
  if (!given || given->empty()) {
    // Some summaries answer for few elements alone.
    for (size_t i = 0; i < node.arity; ++i) index[i].hi = index[i].lo;
    never = never || !summary();
    return declared;
  }
  const Range narrowed{std::max(declared.lo, static_cast<double>(given->lo)),
                       std::min(declared.hi, static_cast<double>(given->hi))};
  return narrowed.lo <= narrowed.hi ? narrowed : declared;
}

/// Of a word that is known, its bits at the indices that are possible.
Range TileSolver::bit_range(const Node& node) const {
  const Interval word = known(node.args[0]), index = known(node.args[1]);
  if (!word.is_point()) return {0, 1};
  const auto bits = static_cast<uint32_t>(word.lo);
  const int64_t count = std::min<int64_t>(index.hi - index.lo + 1, 32);
  bool any = false, all = true;
  for (int64_t i = index.lo; i < index.lo + count; ++i) {
    const bool one = ((bits >> (i & 31)) & 1) != 0;
    any = any || one;
    all = all && one;
  }
  return {all ? 1.0 : 0.0, any ? 1.0 : 0.0};
}

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

bool TileSolver::is_one_form() const {
  return std::none_of(unknown_.begin(), unknown_.end(), [](const UnknownAtom& atom) { return atom.by.rows || atom.by.heads; });
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
