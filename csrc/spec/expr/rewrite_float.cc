// Only what is exact in IEEE arithmetic: sums and products are never regrouped.
#include <cmath>

#include "lathe/spec/expr/rewrite.h"

namespace lathe::expr {

std::optional<float> Rewriter::number(Id id) const {
  if (!is_constant(id) || at(id).type != Type::f32) return std::nullopt;
  return as_f32(at(id));
}

Id Rewriter::real_negative(Id a) {
  if (auto value = number(a)) return constant(f32_node(-*value));
  if (is(a, Op::neg)) return at(a).args[0];
  return add(Op::neg, Type::f32, {a});
}

Id Rewriter::real_sum(Id a, Id b) {
  if (is(b, Op::neg)) return real_difference(a, at(b).args[0]);
  if (is(a, Op::neg)) return real_difference(b, at(a).args[0]);
  return join(Op::add, Type::f32, {a, b});
}

Id Rewriter::real_difference(Id a, Id b) {
  if (number(b) == 0.0f && !std::signbit(*number(b))) return a;
  if (is_constant(b) || is(b, Op::neg)) return real_sum(a, real_negative(b));
  return add(Op::sub, Type::f32, {a, b});
}

Id Rewriter::real_product(Id a, Id b) {
  if (number(a) == 1.0f) return b;
  if (number(b) == 1.0f) return a;
  if (number(a) == -1.0f) return real_negative(b);
  if (number(b) == -1.0f) return real_negative(a);
  if (is(a, Op::neg)) return real_negative(real_product(at(a).args[0], b));
  if (is(b, Op::neg)) return real_negative(real_product(a, at(b).args[0]));
  return join(Op::mul, Type::f32, {a, b});
}

Id Rewriter::real_quotient(Id a, Id b) {
  if (auto divisor = number(b)) {
    int exponent = 0;
    const bool is_power_of_two = std::fabs(std::frexp(*divisor, &exponent)) == 0.5f;
    if (is_power_of_two && std::abs(exponent) < 100) return real_product(a, constant(f32_node(1 / *divisor)));
  }
  if (is(a, Op::neg)) return real_negative(real_quotient(at(a).args[0], b));
  if (is(b, Op::neg)) return real_negative(real_quotient(a, at(b).args[0]));
  return add(Op::div, Type::f32, {a, b});
}

Id Rewriter::real_power(Id base, Id exponent) {
  switch (as_i32(at(exponent))) {
    case 0:
      return constant(f32_node(1));
    case 1:
      return base;
    case 2:
      return real_product(base, base);
    default:
      return add(Op::powi, Type::f32, {base, exponent});
  }
}

Id Rewriter::real(const Node& node) {
  const Id a = node.args[0], b = node.args[node.arity - 1];
  switch (node.op) {
    case Op::add:
      return real_sum(a, b);
    case Op::sub:
      return real_difference(a, b);
    case Op::mul:
      return real_product(a, b);
    case Op::div:
      return real_quotient(a, b);
    case Op::neg:
      return real_negative(a);
    case Op::powi:
      return real_power(a, b);
    case Op::min:
    case Op::max:
      return a == b ? a : join(node.op, Type::f32, {a, b});
    case Op::abs:
      if (is(a, Op::neg)) return add(Op::abs, Type::f32, {at(a).args[0]});
      if (is(a, Op::sub) && comes_before(at(a).args[1], at(a).args[0])) {
        return add(Op::abs, Type::f32, {add(Op::sub, Type::f32, {at(a).args[1], at(a).args[0]})});
      }
      return is(a, Op::abs) ? a : add(node);
    default:
      return add(node);
  }
}

}  // namespace lathe::expr
