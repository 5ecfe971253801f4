#include "lathe/spec/expr/build.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>

#include "lathe/spec/expr/bounds.h"
#include "lathe/spec/expr/interpret.h"
#include "lathe/spec/expr/names.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/text.h"

namespace lathe::expr {
namespace {

constexpr int32_t kMaxPower = 1024;

/// How a function is built: straight as one operator, or (clamp, rcp) out of others.
enum class Spelling : uint8_t { plain, clamp, reciprocal };
struct Function {
  std::string_view name;
  Spelling spelling;
  Op op;
  size_t arity;
};

std::optional<Function> find_function(std::string_view name) {
  if (name == "clamp") return Function{name, Spelling::clamp, Op::min, 3};
  if (name == "rcp") return Function{name, Spelling::reciprocal, Op::div, 1};
  for (size_t i = 0; i < kOps; ++i) {
    const Op op = static_cast<Op>(i);
    if (info(op).is_function && name == info(op).text) return Function{name, Spelling::plain, op, info(op).arity};
  }
  return std::nullopt;
}

std::string quoted(std::string_view sign) {
  return "'" + fields::shown(sign) + "'";
}

bool is_integer(Type type) {
  return type == Type::i32 || type == Type::u32;
}

Built mismatch(const Graph& graph, std::string_view sign, Id left, Id right) {
  const Type a = graph[left].type, b = graph[right].type;
  const bool convertible = a != Type::boolean && b != Type::boolean && (a == Type::f32 || b == Type::f32);
  std::string hint = convertible ? "convert with f32() or i32()" : "";
  for (const auto& [number, other] : {std::pair{graph[left], b}, std::pair{graph[right], a}}) {
    const bool is_large = number.op == Op::constant && number.type == Type::u32 && number.value > uint32_t{INT32_MAX};
    const std::string digits = std::to_string(number.value);
    if (is_large && other == Type::i32) hint = digits + " is past 2147483647, the greatest i32, so it is a u32";
    if (is_large && other == Type::f32) hint = digits + " is a u32: write " + digits + ".0";
  }
  return {"operands of " + quoted(sign) + " are " + name_of(a) + " and " + name_of(b) + "; allowed: two of one type", hint};
}

class NoLeaves : public Environment {
 public:
  Value input(Input) const override { return {}; }
  Value param(uint32_t) const override { return {}; }
  Value read(uint32_t, std::span<const int32_t>) const override { return {}; }
};

bool has_leaves(const Graph& graph, Id root) {
  if (graph[root].op == Op::constant) return false;
  const std::vector<bool> used = reachable(graph, {&root, 1});
  for (Id id = 0; id < graph.size(); ++id) {
    const Op op = graph[id].op;
    if (used[id] && (op == Op::input || op == Op::param || op == Op::read)) return true;
  }
  return false;
}

}  // namespace

bool is_function(std::string_view name) {
  return find_function(name).has_value();
}

size_t arity_of(std::string_view function) {
  auto found = find_function(function);
  return found ? found->arity : 0;
}

Id Builder::make(Op op, Type type, std::initializer_list<Id> args, uint32_t value) {
  return hooks_.graph.add(op_node(op, type, {args.begin(), args.size()}, value));
}

Built Builder::real(double value) {
  const std::optional<float> held = f32_of(value);
  if (!held) return {"the number " + number_text(value) + " is none of f32", ""};
  return constant(f32_node(*held));
}

Id Builder::input(Input input) {
  return make(Op::input, info(input).type, {}, static_cast<uint32_t>(input));
}

Id Builder::param(uint32_t index) {
  return make(Op::param, hooks_.params[index].type, {}, index);
}

Id Builder::adapted(Id id, Type to) {
  const Node node = hooks_.graph[id];
  if (node.type == to) return id;
  if (node.op != Op::constant || node.type != Type::i32) return kNone;
  const int32_t value = as_i32(node);
  if (to == Type::u32 && value >= 0) return constant(constant_node(Type::u32, node.value));
  if (to == Type::f32 && static_cast<double>(static_cast<float>(value)) == value)
    return constant(f32_node(static_cast<float>(value)));
  return kNone;
}

bool Builder::unify(Id& a, Id& b) {
  if (type(a) == type(b)) return true;
  if (Id id = adapted(a, type(b)); id != kNone) return a = id, true;
  if (Id id = adapted(b, type(a)); id != kNone) return b = id, true;
  return false;
}

Built Builder::read(uint32_t index, std::span<const Id> at) {
  const Tensor& tensor = hooks_.tensors[index];
  if (at.size() != tensor.axes.size()) {
    return {"tensor " + tensor.name + " is read at " + std::to_string(at.size()) +
                " indices; allowed: one for each of its axes: " + std::to_string(tensor.axes.size()),
            ""};
  }
  for (size_t i = 0; i < at.size(); ++i) {
    if (type(at[i]) == Type::i32) continue;
    return {"index " + std::to_string(i + 1) + " of tensor " + tensor.name + " is " + name_of(type(at[i])) + "; allowed: i32",
            "convert with i32()"};
  }
  return bounded(hooks_.graph, tensor, hooks_.graph.add(op_node(Op::read, read_type(tensor.elem), at, index)));
}

Built Builder::prefix(std::string_view sign, Id operand) {
  const Node node = hooks_.graph[operand];
  if (sign == "!") {
    if (node.type != Type::boolean) return {"operand of '!' is " + std::string(name_of(node.type)) + "; allowed: bool", ""};
    return make(Op::logical_not, Type::boolean, {operand});
  }
  if (node.op == Op::constant) {  // a negative number is a number, so that it adapts like one
    if (node.type == Type::f32) return constant(f32_node(-as_f32(node)));
    constexpr uint32_t kLeast = uint32_t{1} << 31;
    const bool is_least = node.type == Type::u32 && node.value == kLeast;
    if (is_least || (node.type == Type::i32 && node.value != kLeast)) return constant(constant_node(Type::i32, 0u - node.value));
  }
  if (node.type != Type::i32 && node.type != Type::f32) {
    return {"operand of '-' is " + std::string(name_of(node.type)) + "; allowed: i32, f32", ""};
  }
  return make(Op::neg, node.type, {operand});
}

Built Builder::arithmetic(Op op, std::string_view sign, Id a, Id b) {
  if (op == Op::shl || op == Op::shr) {
    if (is_integer(type(a)) && (type(b) == Type::i32 || type(b) == type(a))) return make(op, type(a), {a, b});
    return {"operands of " + quoted(sign) + " are " + name_of(type(a)) + " and " + name_of(type(b)) +
                "; allowed: i32 or u32, by an i32",
            ""};
  }
  if (op == Op::div) {
    const Id x = adapted(a, Type::f32), y = adapted(b, Type::f32);
    if (x != kNone && y != kNone) return make(op, Type::f32, {x, y});
    return {std::string("operands of '/' are ") + name_of(type(a)) + " and " + name_of(type(b)) + "; allowed: f32",
            "'//' divides integers, f32() converts them"};
  }
  if (!unify(a, b)) return mismatch(hooks_.graph, sign, a, b);
  const bool integers_only = op != Op::add && op != Op::sub && op != Op::mul;
  const bool allowed = integers_only ? is_integer(type(a)) : type(a) != Type::boolean;
  if (!allowed) {
    return {
        "operands of " + quoted(sign) + " are " + name_of(type(a)) + "; allowed: " + (integers_only ? "i32, u32" : "i32, u32, f32"),
        type(a) == Type::boolean && integers_only ? "'&&' and '||' join conditions" : ""};
  }
  return make(op, type(a), {a, b});
}

Built Builder::infix(std::string_view sign, Id a, Id b) {
  if (sign == "&&" || sign == "||") {
    if (type(a) == Type::boolean && type(b) == Type::boolean) {
      return make(sign == "&&" ? Op::logical_and : Op::logical_or, Type::boolean, {a, b});
    }
    return {"operands of " + quoted(sign) + " are " + name_of(type(a)) + " and " + name_of(type(b)) + "; allowed: bool",
            "compare first, as in x != 0"};
  }
  if (sign == "==" || sign == "!=") {
    if (!unify(a, b)) return mismatch(hooks_.graph, sign, a, b);
    const Id same = make(Op::equal, Type::boolean, {a, b});
    return sign == "==" ? same : make(Op::logical_not, Type::boolean, {same});
  }
  if (sign == "<" || sign == "<=" || sign == ">" || sign == ">=") {
    if (!unify(a, b)) return mismatch(hooks_.graph, sign, a, b);
    if (type(a) == Type::boolean) return {"operands of " + quoted(sign) + " are bool; allowed: i32, u32, f32", ""};
    if (sign[0] == '>') std::swap(a, b);
    return make(sign.size() == 1 ? Op::less : Op::less_equal, Type::boolean, {a, b});
  }
  for (Op op :
       {Op::add, Op::sub, Op::mul, Op::div, Op::floor_div, Op::mod, Op::shl, Op::shr, Op::bit_and, Op::bit_or, Op::bit_xor}) {
    if (sign == info(op).text) return arithmetic(op, sign, a, b);
  }
  return {"no operator " + quoted(sign), ""};
}

Built Builder::select(Id condition, Id yes, Id no) {
  if (type(condition) != Type::boolean) {
    return {"condition of '?' is " + std::string(name_of(type(condition))) + "; allowed: bool", "compare first, as in x != 0"};
  }
  if (!unify(yes, no)) return mismatch(hooks_.graph, "? :", yes, no);
  return make(Op::select, type(yes), {condition, yes, no});
}

Built Builder::power(Id base, Id exponent) {
  base = adapted(base, Type::f32);
  if (base == kNone) return {"powi: the base is not f32", "f32() converts"};
  if (type(exponent) != Type::i32 || has_leaves(hooks_.graph, exponent)) {
    return {"powi: the exponent is not a constant whole number", "x * x, or exp2(y * log2(x)) for a positive x"};
  }
  const int32_t power = interpret(hooks_, exponent, NoLeaves{}).i;
  if (power < -kMaxPower || power > kMaxPower) {
    return {"powi: the exponent is " + std::to_string(power) + "; allowed: " + std::to_string(-kMaxPower) + ".." +
                std::to_string(kMaxPower),
            ""};
  }
  return make(Op::powi, Type::f32, {base, constant(i32_node(power))});
}

Built Builder::convert(Op op, Type to, Id arg) {
  const Node node = hooks_.graph[arg];
  if (node.type == to) return arg;
  if (op == Op::to_f32 && node.type == Type::boolean) return {"f32: the argument is bool; allowed: i32, u32, f32", "f32(i32(...))"};
  return make(op, to, {arg});
}

Built Builder::call(std::string_view name, std::span<const Id> given) {
  auto function = find_function(name);
  if (!function) return {"no function " + quoted(name), ""};
  if (given.size() != function->arity) {
    return {std::string(name) + ": " + std::to_string(given.size()) + " arguments; allowed: " + std::to_string(function->arity),
            ""};
  }
  std::array<Id, 3> args{};
  std::copy(given.begin(), given.end(), args.begin());
  auto refuse = [&](Id arg, const char* allowed, const char* hint = "") {
    return Built(std::string(name) + ": an argument is " + name_of(type(arg)) + "; allowed: " + allowed, hint);
  };

  if (function->spelling == Spelling::clamp) {
    const std::array lower = {args[0], args[1]};
    Built raised = call("max", lower);
    if (!raised.ok()) return raised;
    const std::array upper = {raised.id, args[2]};
    return call("min", upper);
  }
  if (function->spelling == Spelling::reciprocal) return infix("/", constant(i32_node(1)), args[0]);

  const Op op = function->op;
  switch (op) {
    case Op::powi:
      return power(args[0], args[1]);
    case Op::to_i32:
      return convert(op, Type::i32, args[0]);
    case Op::to_f32: {
      const Id number = adapted(args[0], Type::f32);
      return number != kNone ? Built(number) : convert(op, Type::f32, args[0]);
    }
    case Op::min:
    case Op::max:
      if (!unify(args[0], args[1])) return mismatch(hooks_.graph, name, args[0], args[1]);
      if (type(args[0]) == Type::boolean) return refuse(args[0], "i32, u32, f32");
      return make(op, type(args[0]), {args[0], args[1]});
    case Op::abs:
      if (type(args[0]) != Type::i32 && type(args[0]) != Type::f32) return refuse(args[0], "i32, f32");
      return make(op, type(args[0]), {args[0]});
    case Op::bit: {
      const Id word = adapted(args[0], Type::u32);
      if (word == kNone) return refuse(args[0], "u32", "declare the words as u32");
      if (type(args[1]) != Type::i32) return refuse(args[1], "i32");
      return make(op, Type::boolean, {word, args[1]});
    }
    case Op::popc: {
      const Id word = adapted(args[0], Type::u32);
      return word == kNone ? refuse(args[0], "u32", "declare the words as u32") : Built(make(op, Type::i32, {word}));
    }
    default: {
      const Id number = adapted(args[0], Type::f32);
      if (number == kNone) return refuse(args[0], "f32", "f32() converts");
      return make(op, op == Op::is_inf ? Type::boolean : Type::f32, {number});
    }
  }
}

Built Builder::cuda(Hook hook, std::string_view text, std::span<const Id> args) {
  if (const std::string problem = cuda_problem(text); !problem.empty()) return {"the text of unsafe_cuda " + problem, ""};
  if (args.size() > kMaxOperands) {
    return {"unsafe_cuda: " + std::to_string(args.size()) + " operands; allowed: at most " + std::to_string(kMaxOperands), ""};
  }
  return hooks_.graph.add(op_node(Op::cuda, info(hook).type, args, hooks_.graph.add_text(text)));
}

}  // namespace lathe::expr
