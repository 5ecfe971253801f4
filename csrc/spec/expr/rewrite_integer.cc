#include <algorithm>
#include <bit>
#include <limits>

#include "lathe/spec/expr/rewrite.h"

namespace lathe::expr {
namespace {

using Limits = std::numeric_limits<int32_t>;

bool fits(const Range& range) {
  return range.within(Limits::min(), Limits::max());
}
bool fits(int64_t value) {
  return value > Limits::min() && value <= Limits::max();
}

int64_t floor_div(int64_t a, int64_t b) {
  return a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0);
}

/// The number that a constant divides by; not positive where dividing by it twice is not dividing by a product.
int64_t divisor_of(const Node& constant) {
  return constant.type == Type::i32 ? int64_t{as_i32(constant)} : int64_t{constant.value};
}

/// k where `node` is the constant 2^k, k within 0..30; else -1.
int power_of_two(const Node& node) {
  const bool is_one = node.op == Op::constant && std::has_single_bit(node.value) && node.value <= (uint32_t{1} << 30);
  return is_one ? std::countr_zero(node.value) : -1;
}

}  // namespace

/// The sum that the node `id` of type i32 is, with wrapped coefficients.
Linear Rewriter::linear(Id id) const {
  const Node& node = at(id);
  switch (node.op) {
    case Op::constant:
      return Linear::number(as_i32(node));
    case Op::add:
      return wrapped(plus(linear(node.args[0]), linear(node.args[1]), 1));
    case Op::sub:
      return wrapped(plus(linear(node.args[0]), linear(node.args[1]), -1));
    case Op::neg:
      return wrapped(plus({}, linear(node.args[0]), -1));
    case Op::mul:  // a constant factor comes last
      if (is_constant(node.args[1])) return wrapped(plus({}, linear(node.args[0]), as_i32(at(node.args[1]))));
      return Linear::atom(id);
    default:
      return Linear::atom(id);
  }
}

Range Rewriter::range_of_form(const Linear& form) const {
  Range out{static_cast<double>(form.constant), static_cast<double>(form.constant)};
  for (auto [id, coefficient] : form.terms) {
    const double c = static_cast<double>(coefficient);
    out.lo += c * (c > 0 ? ranges_[id].lo : ranges_[id].hi);
    out.hi += c * (c > 0 ? ranges_[id].hi : ranges_[id].lo);
  }
  return out;
}

/// The node of a sum whose numbers are within i32: terms with a positive coefficient first, then the others, then the constant.
Id Rewriter::sum(const Linear& form) {
  std::vector<std::pair<Id, int64_t>> terms = form.terms;
  std::sort(terms.begin(), terms.end(), [&](const auto& a, const auto& b) {
    if ((a.second > 0) != (b.second > 0)) return a.second > 0;
    return keys_[a.first] != keys_[b.first] ? keys_[a.first] < keys_[b.first] : a.first < b.first;
  });
  auto number = [&](int64_t value) { return constant(i32_node(static_cast<int32_t>(value))); };
  auto times = [&](Id id, int64_t factor) { return factor == 1 ? id : add(Op::mul, Type::i32, {id, number(factor)}); };
  Id out = kNone;
  int64_t rest = form.constant;
  if (terms.empty() || (terms[0].second < 0 && rest != 0)) {
    out = number(rest);
    rest = 0;
  }
  for (auto [id, coefficient] : terms) {
    const bool is_least = coefficient == Limits::min();  // has no opposite
    if (out == kNone) {
      out = coefficient > 0 ? times(id, coefficient)
            : is_least      ? times(id, coefficient)
                            : add(Op::neg, Type::i32, {times(id, -coefficient)});
    } else if (coefficient > 0 || is_least) {
      out = add(Op::add, Type::i32, {out, times(id, coefficient)});
    } else {
      out = add(Op::sub, Type::i32, {out, times(id, -coefficient)});
    }
  }
  if (rest > 0 || rest == Limits::min()) return add(Op::add, Type::i32, {out, number(rest)});
  return rest < 0 ? add(Op::sub, Type::i32, {out, number(-rest)}) : out;
}

/// A product, with its constant factor last.
Id Rewriter::product(Id a, Id b) {
  const Linear x = linear(a), y = linear(b);
  if (x.terms.empty()) return sum(wrapped(plus({}, y, x.constant)));
  if (y.terms.empty()) return sum(wrapped(plus({}, x, y.constant)));
  int64_t factor = 1;
  std::vector<Id> parts;
  for (const auto& [form, id] : {std::pair{&x, a}, std::pair{&y, b}}) {
    const bool is_multiple = form->terms.size() == 1 && form->constant == 0;
    if (is_multiple) factor = wrapped(Linear::number(factor * form->terms[0].second)).constant;
    const Id bare = is_multiple ? form->terms[0].first : id;
    const std::vector<Id> factors = is(bare, Op::mul) ? chain(Op::mul, at(bare).args[0], at(bare).args[1]) : std::vector{bare};
    parts.insert(parts.end(), factors.begin(), factors.end());
  }
  const Id joined = join(Op::mul, Type::i32, parts);
  return sum(wrapped(plus({}, linear(joined), factor)));
}

/// add and mul of u32, with the constants of the chain as one, last.
Id Rewriter::word_chain(Op op, Id a, Id b) {
  const uint32_t neutral = op == Op::add ? 0 : 1;
  uint32_t value = neutral;
  std::vector<Id> parts = chain(op, a, b);
  std::erase_if(parts, [&](Id id) {
    if (!is_constant(id)) return false;
    value = op == Op::add ? value + at(id).value : value * at(id).value;
    return true;
  });
  const bool is_gone = op == Op::mul && value == 0;
  if (is_gone || parts.empty()) return constant(constant_node(Type::u32, value));
  const Id joined = join(op, Type::u32, parts);
  return value == neutral ? joined : add(op, Type::u32, {joined, constant(constant_node(Type::u32, value))});
}

Id Rewriter::extreme(Op op, Type type, Id a, Id b) {
  std::vector<Id> parts = chain(op, a, b);
  std::sort(parts.begin(), parts.end());
  parts.erase(std::unique(parts.begin(), parts.end()), parts.end());
  // What another part always reaches is left out; of two equal ranges that are points, one is.
  auto loses = [&](Id id, Id other) {
    const Range &own = ranges_[id], &its = ranges_[other];
    if (id == other) return false;
    const bool beaten = op == Op::min ? its.hi <= own.lo : its.lo >= own.hi;
    const bool both = op == Op::min ? own.hi <= its.lo : own.lo >= its.hi;
    return beaten && (!both || other < id);
  };
  std::vector<Id> kept;
  for (Id id : parts) {
    if (std::none_of(parts.begin(), parts.end(), [&](Id other) { return loses(id, other); })) kept.push_back(id);
  }
  return join(op, type, kept);
}

Id Rewriter::bits(Op op, Type type, Id a, Id b) {
  std::vector<Id> parts = chain(op, a, b);
  uint32_t value = op == Op::bit_and ? ~0u : 0u;
  const uint32_t neutral = value;
  for (size_t i = 0; op == Op::bit_and && i < parts.size();) {  // a rest by 2^k is the low k bits
    constexpr size_t kMany = 32;                                // a part that is shared again and again must not be written out
    const Node node = at(parts[i]);
    if (node.op != Op::mod || power_of_two(at(node.args[1])) < 0 || parts.size() > kMany) {
      ++i;
      continue;
    }
    value &= at(node.args[1]).value - 1;
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(i));
    const std::vector<Id> inner =
        is(node.args[0], op) ? chain(op, at(node.args[0]).args[0], at(node.args[0]).args[1]) : std::vector{node.args[0]};
    parts.insert(parts.end(), inner.begin(), inner.end());
  }
  std::erase_if(parts, [&](Id id) {
    if (!is_constant(id)) return false;
    const uint32_t bits = at(id).value;
    value = op == Op::bit_and ? value & bits : op == Op::bit_or ? value | bits : value ^ bits;
    return true;
  });
  if (op != Op::bit_xor) {
    std::sort(parts.begin(), parts.end());
    parts.erase(std::unique(parts.begin(), parts.end()), parts.end());
    if (value == ~neutral) parts.clear();
  }
  if (parts.empty()) return constant(constant_node(type, value));
  const Id joined = join(op, type, parts);
  if (value == neutral) return joined;
  if (op == Op::bit_and && value < (uint32_t{1} << 30) && std::has_single_bit(value + 1)) {
    return quotient(op_node(Op::mod, type, std::array{joined, constant(constant_node(type, value + 1))}));
  }
  parts.push_back(constant(constant_node(type, value)));
  return join(op, type, parts);
}

/// floor_div, mod and shr; shifts by a constant are divisions.
Id Rewriter::quotient(const Node& node) {
  const Id a = node.args[0], b = node.args[1];
  if (node.op == Op::shr) {
    const bool is_division = is_constant(b) && at(b).value <= 30;
    if (!is_division) return add(node);
    return quotient(op_node(Op::floor_div, node.type, std::array{a, constant(constant_node(node.type, 1u << at(b).value))}));
  }
  if (node.op == Op::floor_div && power_of_two(at(b)) == 0) return a;
  const bool is_small = ranges_[a].lo >= 0 && ranges_[a].hi < ranges_[b].lo;
  if (node.op == Op::mod && is_small) return a;
  if (is(a, node.op) && is_constant(b) && is_constant(at(a).args[1])) {
    const Node inner = at(a);
    const int64_t first = divisor_of(at(inner.args[1])), second = divisor_of(at(b));
    const bool is_one = first > 0 && second > 0 && (node.op == Op::mod ? first % second == 0 : fits(first * second));
    const int64_t together = node.op == Op::mod ? second : first * second;
    if (is_one) {
      const Id by = constant(constant_node(node.type, static_cast<uint32_t>(together)));
      return quotient(op_node(node.op, node.type, std::array{inner.args[0], by}));
    }
  }
  return add(node);
}

Id Rewriter::magnitude(Id a) {
  Linear form = linear(a);
  const bool is_negative = ranges_[a].hi <= 0;
  if (ranges_[a].lo >= 0) return a;
  if (!form.terms.empty()) {  // of a sum and its opposite, the one whose first term is positive
    const auto first = std::min_element(form.terms.begin(), form.terms.end(),
                                        [&](const auto& x, const auto& y) { return keys_[x.first] < keys_[y.first]; });
    if (first->second < 0 || is_negative) form = wrapped(plus({}, form, -1));
  }
  const Id operand = sum(form);
  return is_negative ? operand : add(Op::abs, Type::i32, {operand});
}

Id Rewriter::integer(const Node& node) {
  const Id a = node.args[0], b = node.args[node.arity - 1];
  const bool is_signed = node.type == Type::i32;
  switch (node.op) {
    case Op::add:
      return is_signed ? sum(wrapped(plus(linear(a), linear(b), 1))) : word_chain(Op::add, a, b);
    case Op::sub:
      if (is_signed) return sum(wrapped(plus(linear(a), linear(b), -1)));
      return is_constant(b) ? word_chain(Op::add, a, constant(constant_node(Type::u32, 0 - at(b).value))) : add(node);
    case Op::neg:
      return sum(wrapped(plus({}, linear(a), -1)));
    case Op::mul:
      return is_signed ? product(a, b) : word_chain(Op::mul, a, b);
    case Op::shl: {
      if (is_constant(b) && at(b).value == 0) return a;
      const bool is_product = is_signed && is_constant(b) && at(b).value <= 31;
      return is_product ? sum(wrapped(plus({}, linear(a), static_cast<int32_t>(1u << at(b).value)))) : add(node);
    }
    case Op::shr:
    case Op::floor_div:
    case Op::mod:
      return quotient(node);
    case Op::bit_and:
    case Op::bit_or:
    case Op::bit_xor:
      return bits(node.op, node.type, a, b);
    case Op::min:
    case Op::max:
      return extreme(node.op, node.type, a, b);
    case Op::abs:
      return magnitude(a);
    case Op::bit: {  // reads the low five bits of its index
      const bool is_rest = is(b, Op::mod) && power_of_two(at(at(b).args[1])) >= 5;
      return is_rest ? add(Op::bit, Type::boolean, {a, at(b).args[0]}) : add(node);
    }
    default:  // to_i32, to_f32, popc
      return add(node);
  }
}

/// Comparisons of integers whose sides are proven to be exact sums: terms on the side where they are positive, the constant right
/// of them. Nothing when a side might wrap.
std::optional<Id> Rewriter::linear_compare(Op op, Id a, Id b) {
  const Linear left = linear(a), right = linear(b);
  if (!fits(range_of_form(left)) || !fits(range_of_form(right))) return std::nullopt;
  Linear form = plus(left, right, -1);  // `form <= 0` or `form == 0`
  if (op == Op::less) form.constant += 1;
  const bool is_equal = op == Op::equal;
  const Range range = range_of_form(form);
  if (is_equal ? range.lo > 0 || range.hi < 0 : range.lo > 0) return constant(bool_node(false));
  if (is_equal ? range.lo == 0 && range.hi == 0 : range.hi <= 0) return constant(bool_node(true));

  const int64_t divisor = common_divisor(form);
  if (is_equal && form.constant % divisor != 0) return constant(bool_node(false));
  form.constant = -floor_div(-form.constant, divisor);
  for (auto& term : form.terms) term.second /= divisor;
  const auto first = std::min_element(form.terms.begin(), form.terms.end(),
                                      [&](const auto& x, const auto& y) { return keys_[x.first] < keys_[y.first]; });
  if (is_equal && first->second < 0) form = plus({}, form, -1);

  Linear less, more;
  for (const auto& term : form.terms) (term.second > 0 ? less : more).terms.push_back(term);
  more = plus({}, more, -1);
  const bool is_strict = !is_equal && form.constant == 1;
  if (!is_strict) (less.terms.empty() ? less.constant : more.constant) = less.terms.empty() ? form.constant : -form.constant;
  for (const Linear* side : {&less, &more}) {
    const bool small = std::all_of(side->terms.begin(), side->terms.end(), [](const auto& term) { return fits(term.second); });
    if (!small || !fits(side->constant) || !fits(range_of_form(*side))) return std::nullopt;
  }
  return add(is_equal ? op : is_strict ? Op::less : Op::less_equal, Type::boolean, {sum(less), sum(more)});
}

Id Rewriter::compare(Op op, Id a, Id b) {
  const Type type = at(a).type;
  if (type == Type::i32) {
    if (auto form = linear_compare(op, a, b)) return *form;
  }
  if (a == b && type != Type::f32) return constant(bool_node(op != Op::less));
  if (op != Op::equal) return add(op, Type::boolean, {a, b});
  if (comes_before(b, a)) std::swap(a, b);
  if (type == Type::boolean && is_constant(b)) return at(b).value != 0 ? a : negation(a);
  return add(op, Type::boolean, {a, b});
}

}  // namespace lathe::expr
