#include "lathe/spec/expr/float_range.h"

#include "lathe/spec/expr/range_arithmetic.h"

namespace lathe::expr {
namespace {

/// The greatest float that is not above x, where x is what an operator gives before it is rounded.
double down(double x) {
  constexpr double kRoundsToInf = 0x1.ffffffp+127;  // half a step above the largest float
  if (x <= -kRoundsToInf) return -kInf;
  if (x < -kMaxFloat) return -kMaxFloat;
  if (x >= kMaxFloat) return std::isinf(x) ? x : kMaxFloat;
  const auto nearest = static_cast<float>(x);
  return static_cast<double>(nearest) > x ? static_cast<double>(std::nextafter(nearest, -HUGE_VALF)) : static_cast<double>(nearest);
}
double up(double x) {
  return -down(-x);
}
Range rounded(const Range& exact) {
  return {down(exact.lo), up(exact.hi)};
}

/// The least value of a function that gives x in exact arithmetic. CUDA documents at most 3 ulp for acosf and 2 for the others
/// (CUDA Math API, "Single Precision Mathematical Functions"), the host's are closer. A function is exact where it is 0, and errors
/// in ulp never change a sign.
double least(double x) {
  constexpr int kUlps = 4;
  auto value = static_cast<float>(down(x));
  for (int i = 0; i < kUlps && value != 0; ++i) value = std::nextafter(value, -HUGE_VALF);
  return static_cast<double>(value);
}
double most(double x) {
  return -least(-x);
}
Range approximate(const Range& exact) {
  return {least(exact.lo), most(exact.hi)};
}

/// `a` without what lies outside of [lo, hi], where `a` holds any of it.
Range clipped(const Range& a, double lo, double hi) {
  return {std::clamp(a.lo, lo, hi), std::clamp(a.hi, lo, hi)};
}

/// f of both ends, for a function that never falls.
template <class F>
Range rising(const Range& a, F f) {
  return approximate({f(a.lo), f(a.hi)});
}

Range negative(const Range& a) {
  return {-a.hi, -a.lo};
}

Range sum(const Range& a, const Range& b) {
  const double lo = a.lo + b.lo, hi = a.hi + b.hi;
  Range out = rounded({std::isnan(lo) ? -kInf : lo, std::isnan(hi) ? kInf : hi});
  out.nan = (a.hi == kInf && b.lo == -kInf) || (a.lo == -kInf && b.hi == kInf);
  return out;
}

Range times(const Range& a, const Range& b, bool same) {
  Range out = rounded(same ? square(a) : multiply(a, b));
  out.nan = !same && ((may_be_infinite(a) && holds_zero(b)) || (may_be_infinite(b) && holds_zero(a)));
  return out;
}

Range quotient(const Range& a, const Range& b) {
  const bool by_zero = holds_zero(b);
  Range out = by_zero ? Range{-kInf, kInf} : rounded(multiply(a, hull({1 / b.lo, 1 / b.hi})));
  out.nan = (by_zero && holds_zero(a)) || (may_be_infinite(a) && may_be_infinite(b));
  return out;
}

/// Squares and products in turn, each rounded; then 1 over it for a negative exponent.
Range power(const Range& a, double exponent) {
  const double steps = std::fabs(exponent);
  if (steps == 0) return {1, 1};
  const Range ends = hull({std::pow(a.lo, steps), std::pow(a.hi, steps)});
  const bool even = std::fmod(steps, 2) == 0;
  const double slack = steps * 0x1p-23;
  const auto lower = [&](double x) { return least(x - slack * std::fabs(x)); };
  Range out{even && holds_zero(a) ? 0
            : std::isinf(ends.lo) ? ends.lo
                                  : lower(ends.lo),
            std::isinf(ends.hi) ? ends.hi : -lower(-ends.hi)};
  return exponent < 0 ? quotient({1, 1}, out) : out;
}

/// 1 / (1 + exp(-x)), in these steps.
Range sigmoid(const Range& a) {
  const Range falling = rising(negative(a), [](double x) { return std::exp(x); });
  return quotient({1, 1}, sum({1, 1}, falling));
}

Range domain_checked(Range out, bool inside) {
  out.nan = !inside;
  return out;
}

Range function(Op op, const Range& a) {
  const bool positive = a.lo > 0, not_negative = a.lo >= 0;
  const Range from_zero = clipped(a, 0, kInf);
  switch (op) {
    case Op::exp:
      return rising(a, [](double x) { return std::exp(x); });
    case Op::exp2:
      return rising(a, [](double x) { return std::exp2(x); });
    case Op::log:
      return domain_checked(rising(from_zero, [](double x) { return std::log(x); }), not_negative);
    case Op::log2:
      return domain_checked(rising(from_zero, [](double x) { return std::log2(x); }), not_negative);
    case Op::sqrt:  // -0 is its own root, so 0 stands for both
      return domain_checked(rounded({std::sqrt(from_zero.lo), std::sqrt(from_zero.hi)}), not_negative);
    case Op::rsqrt:
      if (!positive) return domain_checked({-kInf, kInf}, not_negative);
      return approximate({1 / std::sqrt(a.hi), 1 / std::sqrt(a.lo)});
    case Op::tanh:
      return clipped(rising(a, [](double x) { return std::tanh(x); }), -1, 1);
    case Op::erf:
      return clipped(rising(a, [](double x) { return std::erf(x); }), -1, 1);
    case Op::sigmoid:
      return sigmoid(a);
    case Op::sin:
    case Op::cos:
      return domain_checked({-1, 1}, !may_be_infinite(a));
    case Op::acos: {
      const Range inside = clipped(a, -1, 1);
      return domain_checked(approximate({std::acos(inside.hi), std::acos(inside.lo)}), a.within(-1, 1));
    }
    default:  // floor
      return {std::floor(a.lo), std::floor(a.hi)};
  }
}

/// min and max pass over a NaN: what is left is any value of the other operand.
Range extreme(Op op, const Range& a, const Range& b) {
  Range out = op == Op::min ? Range{std::min(a.lo, b.lo), std::min(a.hi, b.hi)} : Range{std::max(a.lo, b.lo), std::max(a.hi, b.hi)};
  if (a.nan) out = hull(out, b);
  if (b.nan) out = hull(out, a);
  out.nan = a.nan && b.nan;
  return out;
}

Range to_i32(const Range& a) {
  const Range type = whole_range(Type::i32);
  const Range whole = clipped({std::trunc(a.lo), std::trunc(a.hi)}, type.lo, type.hi);
  return hull(whole, Range{0, 0});  // what NaN becomes
}

/// One operator by itself: whether its operands are numbers is dealt with by the caller, but for min, max and ? :.
Range transfer(const Node& node, std::span<const Range> args) {
  const Range& a = args[0];
  const Range& b = args[args.size() - 1];
  const bool same = node.arity == 2 && node.args[0] == node.args[1];
  switch (node.op) {
    case Op::add:
      return sum(a, b);
    case Op::sub:
      return same ? domain_checked({0, 0}, !may_be_infinite(a)) : sum(a, negative(b));
    case Op::mul:
      return times(a, b, same);
    case Op::div:
      return quotient(a, b);
    case Op::neg:
      return negative(a);
    case Op::abs:
      return absolute(a);
    case Op::powi:
      return power(a, b.lo);
    case Op::to_f32:
      return rounded(a);
    default:
      return function(node.op, a);
  }
}

/// Whether the result can be infinite because an operand is.
bool takes_infinity(Op op, std::span<const Range> args) {
  if (op == Op::exp || op == Op::exp2) return args[0].hi == kInf;
  if (op == Op::div) return may_be_infinite(args[0]);
  return std::any_of(args.begin(), args.end(), may_be_infinite);
}

bool may_be_nan(const Range& a) {
  return a.nan;
}

/// A divisor of which no one may say that it is never 0 when it is given.
bool divides_by_zero(Op op, std::span<const Range> args) {
  return op == Op::div && !args[1].undeclared && holds_zero(args[1]);
}

/// Whether Floats::finite takes results of `op` as finite.
bool counts_as_finite(Op op) {
  return op == Op::add || op == Op::sub || op == Op::mul || op == Op::div || op == Op::powi;
}

}  // namespace

Range float_range(const Graph& graph, const Node& node, std::span<const Range> args, Floats floats) {
  if (node.op == Op::to_i32) return to_i32(args[0]);
  if (node.type != Type::f32) return {0, 1};  // comparisons, isinf: that it is a number is not certain enough to decide by
  Range out;
  if (node.op == Op::select) {
    if (args[0].is_point()) return args[args[0].lo != 0 ? 1 : 2];
    out = hull(args[1], args[2]);
    out.nan = args[1].nan || args[2].nan;
  } else if (node.op == Op::min || node.op == Op::max) {
    out = extreme(node.op, args[0], args[1]);
  } else {
    const bool of_nan = graph[node.args[0]].type == Type::f32 && std::any_of(args.begin(), args.end(), may_be_nan);
    out = transfer(node, args);
    out.nan = out.nan || of_nan;
  }
  const bool undeclared =
      std::any_of(args.begin(), args.end(), [](const Range& a) { return a.undeclared; }) && !divides_by_zero(node.op, args);
  const bool infinite = takes_infinity(node.op, args);
  if (floats == Floats::finite && undeclared && !infinite && counts_as_finite(node.op)) {
    out.lo = std::clamp(out.lo, -kMaxFloat, kMaxFloat);
    out.hi = std::clamp(out.hi, -kMaxFloat, kMaxFloat);
  }
  const bool certain = std::any_of(args.begin(), args.end(), [](const Range& a) { return may_be_infinite(a) && !a.overflows; });
  out.overflows = may_be_infinite(out) && (infinite ? !certain : undeclared);
  return out;
}

}  // namespace lathe::expr
