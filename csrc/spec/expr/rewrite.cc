#include "lathe/spec/expr/rewrite.h"

#include <algorithm>
#include <cmath>

#include "lathe/spec/expr/interpret.h"

namespace lathe::expr {
namespace {

/// Operands are sorted by this first: inputs, params, reads, then what is computed; constants come last, as people write them.
uint64_t rank(Op op) {
  switch (op) {
    case Op::input:
      return 1;
    case Op::param:
      return 2;
    case Op::read:
      return 3;
    case Op::constant:
      return 255;
    default:
      return 4 + static_cast<uint64_t>(op);
  }
}
constexpr int kRankShift = 56;
static_assert(4 + kOps < 255);

Value value_of(const Node& constant) {
  return constant.type == Type::f32 ? Value::of(static_cast<double>(as_f32(constant))) : Value::of(as_i32(constant));
}

}  // namespace

uint64_t mixed(uint64_t hash, uint64_t value) {
  uint64_t x = hash * 0x9e3779b97f4a7c15u + value + 0x632be59bd9b4e019u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

Rewriter::Rewriter(const Hooks& declared, Colours colours) : colours_(std::move(colours)) {
  out_.params = declared.params;
  out_.tensors = declared.tensors;
  out_.normalizer = declared.normalizer;
  out_.rotary = declared.rotary;
}

uint64_t Rewriter::key_of(const Node& node) const {
  const uint64_t top = rank(node.op) << kRankShift;
  if (node.op == Op::input) return top | node.value;
  uint64_t hash = mixed(static_cast<uint64_t>(node.op), static_cast<uint64_t>(node.type));
  const uint64_t value = node.op == Op::param  ? colours_.params[node.value]
                         : node.op == Op::read ? colours_.tensors[node.value]
                                               : node.value;
  hash = mixed(hash, value);
  for (Id arg : node.operands()) hash = mixed(hash, keys_[arg]);
  return top | (hash & ((uint64_t{1} << kRankShift) - 1));
}

Id Rewriter::add(const Node& node) {
  const Id id = out_.graph.add(node);
  if (id == ranges_.size()) {
    ranges_.push_back(range_of(out_, node, ranges_));
    keys_.push_back(key_of(node));
  }
  const Range& range = ranges_[id];
  const bool is_decided = node.type != Type::f32 && range.is_point() && !range.wraps;
  if (!is_decided || is_leaf(node.op)) return id;
  return constant(constant_node(node.type, static_cast<uint32_t>(static_cast<int64_t>(range.lo))));
}

Id Rewriter::add(Op op, Type type, std::initializer_list<Id> args, uint32_t value) {
  return add(op_node(op, type, {args.begin(), args.size()}, value));
}

/// The constant that an operator of constants is, computed in f32. A float that would be none, or infinite out of finite numbers,
/// stays as it is.
std::optional<Id> Rewriter::folded(const Node& node) {
  if (node.arity == 0 || node.op == Op::read) return std::nullopt;
  std::array<Value, kMaxOperands> args;
  for (size_t i = 0; i < node.arity; ++i) {
    if (!is_constant(node.args[i])) return std::nullopt;
    args[i] = value_of(at(node.args[i]));
  }
  const Value value = apply_rounded(node.op, at(node.args[0]).type, {args.data(), node.arity});
  if (node.type != Type::f32) return constant(constant_node(node.type, static_cast<uint32_t>(value.i)));
  if (!std::isfinite(value.f)) return std::nullopt;
  return constant(f32_node(static_cast<float>(value.f)));
}

/// The operands of a chain of `op` that ends in `a` and `b`. What is long stays grouped as it is: a product that is squared again
/// and again must not be written out.
std::vector<Id> Rewriter::chain(Op op, Id a, Id b) const {
  constexpr size_t kLongest = 32;
  std::vector<Id> open{a, b}, parts;
  while (!open.empty()) {
    const Id id = open.back();
    open.pop_back();
    if (is(id, op) && open.size() + parts.size() < kLongest) {
      open.insert(open.end(), {at(id).args[0], at(id).args[1]});
    } else {
      parts.push_back(id);
    }
  }
  return parts;
}

/// The chain of `op` over `parts`, of which there is at least one, in their order by key.
Id Rewriter::join(Op op, Type type, std::vector<Id> parts) {
  std::sort(parts.begin(), parts.end(), [&](Id a, Id b) { return keys_[a] != keys_[b] ? keys_[a] < keys_[b] : a < b; });
  Id out = parts[0];
  for (size_t i = 1; i < parts.size(); ++i) out = add(op, type, {out, parts[i]});
  return out;
}

Id Rewriter::make(const Node& node) {
  if (node.arity == 0 || node.op == Op::cuda) return add(node);
  if (auto constant = folded(node)) return *constant;
  const Type operands = at(node.args[0]).type;
  switch (node.op) {
    case Op::read:
      return add(node);
    case Op::logical_and:
    case Op::logical_or:
      return logical(node.op, node.args[0], node.args[1]);
    case Op::logical_not:
      return negation(node.args[0]);
    case Op::select:
      return choice(node);
    case Op::less:
    case Op::less_equal:
    case Op::equal:
      return compare(node.op, node.args[0], node.args[1]);
    default:
      return operands == Type::f32 ? real(node) : integer(node);
  }
}

Id Rewriter::logical(Op op, Id a, Id b) {
  const bool is_and = op == Op::logical_and;
  const Id neutral = constant(bool_node(is_and)), decisive = constant(bool_node(!is_and));
  std::vector<Id> parts = chain(op, a, b);
  std::sort(parts.begin(), parts.end());
  parts.erase(std::unique(parts.begin(), parts.end()), parts.end());
  std::erase(parts, neutral);
  for (size_t i = 0; i < parts.size(); ++i) {
    const Id opposite = negation(parts[i]);
    if (parts[i] == decisive || std::find(parts.begin(), parts.end(), opposite) != parts.end()) return decisive;
  }
  return parts.empty() ? neutral : join(op, Type::boolean, parts);
}

/// Each condition is negated once, so that parts that are shared, and negations of negations, cost nothing.
Id Rewriter::negation(Id condition) {
  const auto known = negations_.find(condition);
  if (known != negations_.end()) return known->second;
  const Id opposite = make_negation(condition);
  negations_[condition] = opposite;
  if (!is_constant(opposite)) negations_.try_emplace(opposite, condition);
  return opposite;
}

Id Rewriter::make_negation(Id condition) {
  const Node node = at(condition);
  if (node.op == Op::constant) return constant(bool_node(node.value == 0));
  if (node.op == Op::logical_not) return node.args[0];
  if (node.op == Op::logical_and || node.op == Op::logical_or) {
    const Op dual = node.op == Op::logical_and ? Op::logical_or : Op::logical_and;
    const Id a = negation(node.args[0]), b = negation(node.args[1]);
    return logical(dual, a, b);
  }
  const bool is_order = node.op == Op::less || node.op == Op::less_equal;
  if (is_order && at(node.args[0]).type != Type::f32) {  // a NaN is in no order, so !(a < b) stays for floats
    return compare(node.op == Op::less ? Op::less_equal : Op::less, node.args[1], node.args[0]);
  }
  return add(Op::logical_not, Type::boolean, {condition});
}

Id Rewriter::choice(const Node& node) {
  Id condition = node.args[0], yes = node.args[1], no = node.args[2];
  if (is_constant(condition)) return at(condition).value != 0 ? yes : no;
  if (yes == no) return yes;
  const Id opposite = negation(condition);
  const bool turn = is(condition, Op::logical_not) || (!is(opposite, Op::logical_not) && comes_before(opposite, condition));
  if (turn) {
    std::swap(yes, no);
    condition = opposite;
  }
  if (node.type == Type::boolean) {
    if (is_constant(yes)) {
      return at(yes).value != 0 ? logical(Op::logical_or, condition, no) : logical(Op::logical_and, negation(condition), no);
    }
    if (is_constant(no)) {
      return at(no).value == 0 ? logical(Op::logical_and, condition, yes) : logical(Op::logical_or, negation(condition), yes);
    }
  }
  return add(Op::select, node.type, {condition, yes, no});
}

}  // namespace lathe::expr
