#include "lathe/spec/expr/interpret.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace lathe::expr {
namespace {

Value wrapped(uint32_t bits) {
  return Value::of(static_cast<int32_t>(bits));
}
Value truth(bool value) {
  return Value::of(int32_t{value});
}

int32_t floor_div(int32_t a, int32_t b) {
  if (b == 0) return 0;
  const int64_t x = a, y = b;
  const int64_t quotient = x / y - ((x % y != 0 && (x < 0) != (y < 0)) ? 1 : 0);
  return static_cast<int32_t>(static_cast<uint32_t>(quotient));
}
int32_t floor_mod(int32_t a, int32_t b) {
  if (b == 0) return 0;
  const int64_t rest = int64_t{a} % b;
  return static_cast<int32_t>(rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest);
}

/// Operators of two integers that are the same for i32 and u32, on bits.
Value apply_bits(Op op, uint32_t a, uint32_t b) {
  switch (op) {
    case Op::add:
      return wrapped(a + b);
    case Op::sub:
      return wrapped(a - b);
    case Op::mul:
      return wrapped(a * b);
    case Op::bit_and:
      return wrapped(a & b);
    case Op::bit_or:
      return wrapped(a | b);
    case Op::bit_xor:
      return wrapped(a ^ b);
    case Op::shl:
      return wrapped(b < 32 ? a << b : 0);
    default:  // equal
      return truth(a == b);
  }
}

Value apply_u32(Op op, uint32_t a, uint32_t b) {
  switch (op) {
    case Op::floor_div:
      return wrapped(b == 0 ? 0 : a / b);
    case Op::mod:
      return wrapped(b == 0 ? 0 : a % b);
    case Op::shr:
      return wrapped(b < 32 ? a >> b : 0);
    case Op::less:
      return truth(a < b);
    case Op::less_equal:
      return truth(a <= b);
    case Op::min:
      return wrapped(std::min(a, b));
    case Op::max:
      return wrapped(std::max(a, b));
    case Op::to_i32:
      return wrapped(a);
    case Op::to_f32:
      return Value::of(static_cast<double>(static_cast<float>(a)));
    case Op::bit:
      return truth((a >> (b & 31)) & 1);
    case Op::popc:
      return Value::of(std::popcount(a));
    default:
      return apply_bits(op, a, b);
  }
}

Value apply_i32(Op op, int32_t a, int32_t b) {
  const auto ua = static_cast<uint32_t>(a), ub = static_cast<uint32_t>(b);
  switch (op) {
    case Op::neg:
      return wrapped(0u - ua);
    case Op::abs:
      return wrapped(a < 0 ? 0u - ua : ua);
    case Op::floor_div:
      return Value::of(floor_div(a, b));
    case Op::mod:
      return Value::of(floor_mod(a, b));
    case Op::shr:
      return Value::of(a >> std::min(ub, 31u));
    case Op::less:
      return truth(a < b);
    case Op::less_equal:
      return truth(a <= b);
    case Op::min:
      return Value::of(std::min(a, b));
    case Op::max:
      return Value::of(std::max(a, b));
    case Op::to_f32:
      return Value::of(static_cast<double>(static_cast<float>(a)));
    default:
      return apply_bits(op, ua, ub);
  }
}

Value apply_bool(Op op, bool a, bool b) {
  switch (op) {
    case Op::logical_and:
      return truth(a && b);
    case Op::logical_or:
      return truth(a || b);
    case Op::logical_not:
      return truth(!a);
    case Op::equal:
      return truth(a == b);
    default:  // to_i32
      return truth(a);
  }
}

int32_t rounded_to_zero(double x) {
  using Limits = std::numeric_limits<int32_t>;
  if (std::isnan(x)) return 0;
  if (x >= Limits::max()) return Limits::max();
  if (x <= Limits::min()) return Limits::min();
  return static_cast<int32_t>(x);
}

/// The other one when one is NaN; -0 is less than +0, so that the order of operands does not matter.
double lesser(double a, double b) {
  if (a == b) return std::signbit(a) ? a : b;
  return std::fmin(a, b);
}

Value apply_f32(Op op, double a, double b) {
  switch (op) {
    case Op::add:
      return Value::of(a + b);
    case Op::sub:
      return Value::of(a - b);
    case Op::mul:
      return Value::of(a * b);
    case Op::neg:
      return Value::of(-a);
    case Op::div:
      return Value::of(a / b);
    case Op::less:
      return truth(a < b);
    case Op::less_equal:
      return truth(a <= b);
    case Op::equal:
      return truth(a == b);
    case Op::abs:
      return Value::of(std::fabs(a));
    case Op::min:
      return Value::of(lesser(a, b));
    case Op::max:
      return Value::of(-lesser(-a, -b));
    case Op::to_i32:
      return Value::of(rounded_to_zero(a));
    case Op::exp:
      return Value::of(std::exp(a));
    case Op::exp2:
      return Value::of(std::exp2(a));
    case Op::log:
      return Value::of(std::log(a));
    case Op::log2:
      return Value::of(std::log2(a));
    case Op::sqrt:
      return Value::of(std::sqrt(a));
    case Op::rsqrt:
      return Value::of(1.0 / std::sqrt(a));
    case Op::tanh:
      return Value::of(std::tanh(a));
    case Op::sigmoid:
      return Value::of(1.0 / (1.0 + std::exp(-a)));
    case Op::erf:
      return Value::of(std::erf(a));
    case Op::sin:
      return Value::of(std::sin(a));
    case Op::cos:
      return Value::of(std::cos(a));
    case Op::acos:
      return Value::of(std::acos(a));
    case Op::floor:
      return Value::of(std::floor(a));
    default:  // is_inf
      return truth(std::isinf(a));
  }
}

/// x^n by squaring, as printed source does it.
template <class F>
F power(F x, int32_t n) {
  F out = 1;
  for (auto rest = static_cast<uint32_t>(n < 0 ? -int64_t{n} : n); rest != 0; rest >>= 1) {
    if ((rest & 1) != 0) out *= x;
    x *= x;
  }
  return n < 0 ? 1 / out : out;
}

double rounded(double x) {
  return static_cast<double>(static_cast<float>(x));
}

Value constant_value(const Node& node) {
  return node.type == Type::f32 ? Value::of(static_cast<double>(as_f32(node))) : Value::of(as_i32(node));
}

}  // namespace

Value apply(Op op, Type operand_type, std::span<const Value> args) {
  if (op == Op::select) return args[0].i != 0 ? args[1] : args[2];
  if (op == Op::powi) return Value::of(power(args[0].f, args[1].i));
  const Value& a = args[0];
  const Value& b = args[args.size() - 1];
  switch (operand_type) {
    case Type::f32:
      return apply_f32(op, a.f, b.f);
    case Type::i32:
      return apply_i32(op, a.i, b.i);
    case Type::u32:
      return apply_u32(op, static_cast<uint32_t>(a.i), static_cast<uint32_t>(b.i));
    case Type::boolean:
      return apply_bool(op, a.i != 0, b.i != 0);
  }
  return {};
}

Value apply_rounded(Op op, Type operand_type, std::span<const Value> args) {
  if (op == Op::powi) return Value::of(static_cast<double>(power(static_cast<float>(args[0].f), args[1].i)));
  if (op == Op::sigmoid) return Value::of(rounded(1 / rounded(1 + rounded(std::exp(-args[0].f)))));
  const Value exact = apply(op, operand_type, args);
  return {rounded(exact.f), exact.i};
}

Interpreter::Interpreter(const Hooks& hooks, Id root) : hooks_(hooks) {
  const std::vector<bool> used = reachable(hooks.graph, {&root, 1});
  for (Id id = 0; id <= root; ++id) {
    if (used[id]) order_.push_back(id);
  }
}

Value Interpreter::value(const Environment& environment) const {
  const Graph& graph = hooks_.graph;
  std::vector<Value> values(order_.back() + 1);
  for (Id id : order_) {
    const Node& node = graph[id];
    std::array<Value, kMaxOperands> args;
    for (size_t i = 0; i < node.arity; ++i) args[i] = values[node.args[i]];
    switch (node.op) {
      case Op::constant:
        values[id] = constant_value(node);
        break;
      case Op::input:
        values[id] = environment.input(static_cast<Input>(node.value));
        break;
      case Op::param:
        values[id] = environment.param(node.value);
        break;
      case Op::read: {
        std::array<int32_t, kMaxAxes> index{};
        for (size_t i = 0; i < node.arity; ++i) index[i] = args[i].i;
        values[id] = environment.read(node.value, {index.data(), node.arity});
        break;
      }
      case Op::cuda:
        values[id].f = std::numeric_limits<double>::quiet_NaN();
        break;
      default:
        values[id] = apply(node.op, graph[node.args[0]].type, {args.data(), node.arity});
    }
  }
  return values[order_.back()];
}

Value interpret(const Hooks& hooks, Id root, const Environment& environment) {
  return Interpreter(hooks, root).value(environment);
}

}  // namespace lathe::expr
