#include "lathe/spec/expr/range.h"

#include <algorithm>
#include <cmath>

#include "lathe/spec/expr/bounds.h"
#include "lathe/spec/expr/float_range.h"
#include "lathe/spec/expr/range_arithmetic.h"

namespace lathe::expr {
namespace {

constexpr double kWords = 4294967296.0;  // values of 32 bits

Range floor_divide(const Range& a, const Range& b) {
  if (holds_zero(b)) {  // by zero it is 0, else no larger than a, or by one beyond 0 on the other side
    const double most = std::max(std::fabs(a.lo), std::fabs(a.hi));
    return {a.lo >= 0 && b.lo >= 0 ? 0 : -most, a.lo >= 0 && b.lo >= 0 ? a.hi : most};
  }
  return hull({std::floor(a.lo / b.lo), std::floor(a.lo / b.hi), std::floor(a.hi / b.lo), std::floor(a.hi / b.hi)});
}

Range modulo(const Range& a, const Range& b) {
  if (b.is_point() && b.lo > 0 && std::floor(a.lo / b.lo) == std::floor(a.hi / b.lo)) {
    const double start = std::floor(a.lo / b.lo) * b.lo;
    return {a.lo - start, a.hi - start};
  }
  Range out{b.lo < 0 ? b.lo + 1 : 0, b.hi > 0 ? b.hi - 1 : 0};
  if (a.lo >= 0 && b.lo >= 0) {
    out.hi = std::min(out.hi, a.hi);
    if (b.lo > a.hi) out = {a.lo, a.hi};
  }
  return out;
}

Range shift_right(const Range& a, const Range& count) {
  if (count.is_point()) {
    const bool all_go = count.lo < 0 || count.lo > 31;
    const double unit = std::exp2(all_go ? 31.0 : count.lo);
    return all_go && a.lo >= 0 ? Range{0, 0} : Range{std::floor(a.lo / unit), std::floor(a.hi / unit)};
  }
  return {std::min(a.lo, 0.0), std::max(a.hi, 0.0)};
}

Range bitwise(Op op, const Range& a, const Range& b, Type type) {
  const bool a_positive = a.lo >= 0, b_positive = b.lo >= 0;
  if (op == Op::bit_and) {
    if (a_positive && b_positive) return {0, std::min(a.hi, b.hi)};
    if (a_positive || b_positive) return {0, a_positive ? a.hi : b.hi};
    return whole_range(type);
  }
  if (!a_positive || !b_positive) return whole_range(type);
  const double most = std::max(a.hi, b.hi);
  return {0, std::exp2(std::floor(std::log2(std::max(most, 1.0))) + 1) - 1};
}

Range compare(Op op, const Range& a, const Range& b) {
  if (op == Op::equal) {
    if (a.is_point() && b.is_point() && a.lo == b.lo) return {1, 1};
    return a.hi < b.lo || b.hi < a.lo ? Range{0, 0} : Range{0, 1};
  }
  const bool strict = op == Op::less;
  if (strict ? a.lo >= b.hi : a.lo > b.hi) return {0, 0};
  return (strict ? a.hi < b.lo : a.hi <= b.lo) ? Range{1, 1} : Range{0, 1};
}

/// 2^count for counts within 0..31; what is shifted further is 0.
Range shift_left(const Range& a, const Range& count) {
  const auto unit = [](double of) { return std::exp2(std::clamp(of, 0.0, 31.0)); };
  const bool some_stay = count.lo <= 31 && count.hi >= 0, some_go = count.lo < 0 || count.hi > 31;
  if (!some_stay) return {0, 0};
  const Range shifted = multiply(a, {unit(count.lo), unit(count.hi)});
  return some_go ? hull(shifted, Range{0, 0}) : shifted;
}

/// One operator of integers or bool on exact ranges; what leaves the type is dealt with by the caller.
Range transfer(const Node& node, std::span<const Range> args) {
  const Range& a = args[0];
  const Range& b = args[args.size() - 1];
  const bool same = node.arity == 2 && node.args[0] == node.args[1];
  switch (node.op) {
    case Op::add:
      return {a.lo + b.lo, a.hi + b.hi};
    case Op::sub:
      if (same) return {0, 0};
      return {a.lo - b.hi, a.hi - b.lo};
    case Op::mul:
      return same ? square(a) : multiply(a, b);
    case Op::neg:
      return {-a.hi, -a.lo};
    case Op::floor_div:
      return floor_divide(a, b);
    case Op::mod:
      return modulo(a, b);
    case Op::shl:
      return shift_left(a, b);
    case Op::shr:
      return shift_right(a, b);
    case Op::bit_and:
    case Op::bit_or:
    case Op::bit_xor:
      return bitwise(node.op, a, b, node.type);
    case Op::less:
    case Op::less_equal:
    case Op::equal:
      return compare(node.op, a, b);
    case Op::logical_and:
    case Op::min:
      return {std::min(a.lo, b.lo), std::min(a.hi, b.hi)};
    case Op::logical_or:
    case Op::max:
      return {std::max(a.lo, b.lo), std::max(a.hi, b.hi)};
    case Op::logical_not:
      return {1 - a.hi, 1 - a.lo};
    case Op::select:
      if (a.is_point()) return args[a.lo != 0 ? 1 : 2];
      return hull(args[1], b);
    case Op::abs:
      return absolute(a);
    case Op::to_i32:  // of bool; of a u32 it keeps the bits
      return a.hi > whole_range(Type::i32).hi ? whole_range(Type::i32) : a;
    case Op::popc:
      return {0, 32};
    default:  // bit
      return {0, 1};
  }
}

Range of_operator(const Graph& graph, const Node& node, const std::vector<Range>& known, Floats floats) {
  if (node.op == Op::cuda) {
    Range anything = whole_range(node.type);
    anything.undeclared = true;
    return anything;
  }
  std::array<Range, kMaxOperands> args;
  bool undeclared = false;
  for (size_t i = 0; i < node.arity; ++i) {
    args[i] = known[node.args[i]];
    undeclared = undeclared || args[i].undeclared;
  }
  Range out;
  if (node.type == Type::f32 || graph[node.args[0]].type == Type::f32) {
    out = float_range(graph, node, {args.data(), node.arity}, floats);
  } else {
    out = transfer(node, {args.data(), node.arity});
    const Range type = whole_range(node.type);
    const bool wraps = !out.within(type.lo, type.hi);
    if (wraps) out = type;
    out.wraps = wraps;
  }
  out.undeclared = undeclared;
  return out;
}

Range of_param(const Param& param) {
  Range out = whole_range(param.type);
  if (param.range) return {(*param.range)[0], (*param.range)[1]};
  if (param.type == Type::i32) out = {-static_cast<double>(kDefaultRange), static_cast<double>(kDefaultRange)};
  out.undeclared = param.type != Type::boolean;
  return out;
}

/// A float that is given at run time.
Range given_float(Floats floats) {
  Range out = floats == Floats::any ? Range{-kInf, kInf} : whole_range(Type::f32);
  out.nan = floats == Floats::any;
  out.undeclared = true;
  return out;
}

Range of_element(Elem elem, Floats floats) {
  if (read_type(elem) == Type::f32) return given_float(floats);
  const auto [least, most] = limits_of(elem);
  return {.lo = least, .hi = most, .undeclared = elem == Elem::i32 || elem == Elem::u32};
}

Range of_leaf(const Hooks& hooks, const Node& node, Floats floats) {
  switch (node.op) {
    case Op::constant: {
      const double value = node.type == Type::f32   ? static_cast<double>(as_f32(node))
                           : node.type == Type::i32 ? static_cast<double>(as_i32(node))
                                                    : static_cast<double>(node.value);
      if (std::isnan(value)) return {.lo = -kInf, .hi = kInf, .nan = true};
      return {value, value};
    }
    case Op::param:
      return of_param(hooks.params[node.value]);
    case Op::read:
      return of_element(hooks.tensors[node.value].elem, floats);
    default: {  // input
      const InputInfo& input = info(static_cast<Input>(node.value));
      if (input.type == Type::f32) return given_float(floats);
      return {static_cast<double>(input.lo), static_cast<double>(input.hi)};
    }
  }
}

/// Whether the index `id` is proven to be less than the extent of the named axis `axis`. What `depth` cuts off is not proven.
bool below(const Hooks& hooks, const std::vector<Range>& ranges, Id id, Axis axis, int depth) {
  const Node& node = hooks.graph[id];
  auto under = [&](size_t i) { return depth > 0 && below(hooks, ranges, node.args[i], axis, depth - 1); };
  auto not_negative = [&](size_t i) { return ranges[node.args[i]].lo >= 0; };
  switch (node.op) {
    case Op::constant:
      return node.value == 0;  // what is read for something that exists has an extent of at least 1
    case Op::input: {
      const auto input = static_cast<Input>(node.value);
      const bool is_key = input == Input::kv_pos && hooks.root(Hook::kv_pos) == kNone;
      return is_key ? axis == Axis::kv_pos : info(input).domain == axis;
    }
    case Op::min:
      return under(0) || under(1);
    case Op::max:
      return under(0) && under(1);
    case Op::select:
      return under(1) && under(2);
    case Op::sub:
    case Op::shr:
      return !ranges[id].wraps && not_negative(0) && not_negative(1) && under(0);
    case Op::floor_div:
    case Op::mod:
      return not_negative(0) && not_negative(1) && under(0);
    case Op::bit_and:
      return (not_negative(0) && under(0)) || (not_negative(1) && under(1));
    default:
      return false;
  }
}

}  // namespace

Range whole_range(Type type) {
  switch (type) {
    case Type::boolean:
      return {0, 1};
    case Type::i32:
      return {-kWords / 2, kWords / 2 - 1};
    case Type::u32:
      return {0, kWords - 1};
    case Type::f32:
      return {-kMaxFloat, kMaxFloat};
  }
  return {};
}

Range range_of(const Hooks& hooks, const Node& node, const std::vector<Range>& known) {
  return is_leaf(node.op) || node.op == Op::read ? of_leaf(hooks, node, Floats::any)
                                                 : of_operator(hooks.graph, node, known, Floats::any);
}

std::vector<Range> ranges(const Hooks& hooks, const LeafRange& leaf, Floats floats) {
  const Graph& graph = hooks.graph;
  std::array<std::optional<Range>, kInputs> maps;
  std::vector<Range> out(graph.size());
  auto sweep = [&] {
    for (Id id = 0; id < graph.size(); ++id) {
      const Node& node = graph[id];
      if (!(is_leaf(node.op) || node.op == Op::read)) {
        out[id] = of_operator(graph, node, out, floats);
        if (bounded_read(hooks, id) != kNone) out[id].undeclared = false;
        continue;
      }
      std::optional<Range> given = leaf && node.op != Op::constant ? leaf(id) : std::nullopt;
      if (!given && node.op == Op::input) given = maps[node.value];
      out[id] = given ? *given : of_leaf(hooks, node, floats);
    }
  };
  sweep();
  bool mapped = false;
  for (auto [hook, input] : {std::pair{Hook::q_pos, Input::q_pos}, std::pair{Hook::kv_pos, Input::kv_pos}}) {
    if (hooks.root(hook) == kNone) continue;
    maps[static_cast<size_t>(input)] = out[hooks.root(hook)];
    mapped = true;
  }
  if (mapped) sweep();  // maps use neither position, so their own ranges stand
  return out;
}

bool index_is_inside(const Hooks& hooks, const std::vector<Range>& ranges, Id read, size_t axis) {
  constexpr int kDepth = 8;
  const Node& node = hooks.graph[read];
  const TensorAxis& extent = hooks.tensors[node.value].axes[axis];
  const Id index = node.args[axis];
  const Range& range = ranges[index];
  if (range.wraps || range.lo < 0) return false;
  if (extent.axis == Axis::number) return range.hi <= static_cast<double>(extent.value) - 1;
  if (extent.axis == Axis::param) {
    const Range size = of_param(hooks.params[extent.value]);
    const Node& at = hooks.graph[index];
    const bool is_rest =
        at.op == Op::mod && hooks.graph[at.args[1]].op == Op::param && hooks.graph[at.args[1]].value == extent.value;
    return size.lo >= 1 && (range.hi <= size.lo - 1 || is_rest);
  }
  if (extent.axis == Axis::free || extent.axis == Axis::pages) return false;
  return below(hooks, ranges, index, extent.axis, kDepth);
}

}  // namespace lathe::expr
