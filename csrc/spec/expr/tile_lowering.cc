// The first half of TileSolver: what is known of each node before any goal is set.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <limits>
#include <utility>

#include "lathe/spec/expr/tile_solver.h"

namespace lathe::expr {
namespace {

Range range_from(Interval a) {
  return {static_cast<double>(a.lo), static_cast<double>(a.hi)};
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
  } else if (const std::optional<int64_t> number = computed(node)) {
    range = range_from({*number, *number});
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

/// What an operator gives of numbers, whether that wraps or not.
std::optional<int64_t> TileSolver::computed(const Node& node) const {
  if (node.op == Op::read || node.op == Op::cuda) return std::nullopt;
  std::array<Value, kMaxOperands> args;
  for (size_t i = 0; i < node.arity; ++i) {
    if (!ranges_[node.args[i]].is_point()) return std::nullopt;
    args[i] = Value::of(static_cast<int32_t>(static_cast<uint32_t>(known(node.args[i]).lo)));
  }
  const int32_t value = apply(node.op, graph_[node.args[0]].type, {args.data(), node.arity}).i;
  return node.type == Type::u32 ? int64_t{static_cast<uint32_t>(value)} : int64_t{value};
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
  if (divisor == 0 || std::abs(divisor) > kMaxCoefficient) return std::nullopt;
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
  Form dividend = form;
  if (divisor < 0) {  // the quotient of the opposites
    dividend = *combine(form, -1, {}, 0);
    range = {-range.hi, -range.lo};
    divisor = -divisor;
  }
  const Atom atom = base_.add_atom({floor_quotient(range.lo, divisor), floor_quotient(range.hi, divisor)});
  place->second = atom;
  const std::optional<Form> rest = combine(dividend, 1, atom_form(atom), -divisor);
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

}  // namespace lathe::expr
