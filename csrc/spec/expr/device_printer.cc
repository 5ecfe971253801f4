#include "lathe/spec/expr/device_printer.h"

#include <array>
#include <bit>
#include <string_view>

namespace lathe::expr {
namespace {

std::string hex(uint32_t bits) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out = "0x";
  for (int shift = 28; shift >= 0; shift -= 4) out += kDigits[(bits >> shift) & 15];
  return out + "u";
}

std::string constant_text(const Node& node) {
  switch (node.type) {
    case Type::boolean:
      return node.value != 0 ? "true" : "false";
    case Type::i32:
      if (as_i32(node) >= 0) return std::to_string(as_i32(node));
      if (node.value == uint32_t{1} << 31) return "(-2147483647 - 1)";  // without an opposite that is an int
      return "(" + std::to_string(as_i32(node)) + ")";
    case Type::u32:
      return std::to_string(node.value) + "u";
    case Type::f32:
      return "dev::float_from_bits(" + hex(node.value) + ")";
  }
  return {};
}

}  // namespace

const char* type_text(Type type) {
  static constexpr std::array kNames{"bool", "int", "unsigned", "float"};
  return kNames[static_cast<size_t>(type)];
}

const char* variable_of(Input input) {
  return input == Input::rot_x ? "rot_x" : info(input).text;
}

std::string cuda_function(Id id) {
  return "cuda" + std::to_string(id);
}
bool is_computed(const Node& node) {
  return node.op != Op::constant && node.op != Op::input && node.op != Op::param;
}

DevicePrinter::DevicePrinter(const Hooks& hooks, std::span<const Id> roots)
    : hooks_(hooks),
      ranges_(ranges(hooks)),
      variations_(variations(hooks)),
      used_(reachable(hooks.graph, roots)),
      names_(hooks.graph.size()) {
  int last = 0;
  for (Id id = 0; id < hooks.graph.size(); ++id) {
    const Node& node = hooks.graph[id];
    if (!used_[id]) continue;
    if (node.op == Op::constant) {
      names_[id] = constant_text(node);
    } else if (node.op == Op::input) {
      names_[id] = variable_of(static_cast<Input>(node.value));
    } else {
      names_[id] = node.op == Op::param ? "p" + std::to_string(node.value) : "v" + std::to_string(last++);
    }
  }
}

std::string DevicePrinter::statement(Id id) const {
  const Node& node = hooks_.graph[id];
  return std::string("const ") + type_text(node.type) + " " + names_[id] + " = " + form(id, node) + ";";
}

const std::string& DevicePrinter::arg(const Node& node, size_t i) const {
  return names_[node.args[i]];
}

std::string DevicePrinter::call(std::string_view function, const Node& node) const {
  return "dev::" + std::string(function) + arguments(node);
}
std::string DevicePrinter::arguments(const Node& node) const {
  std::string out = "(";
  for (size_t i = 0; i < node.arity; ++i) out += (i > 0 ? ", " : "") + arg(node, i);
  return out + ")";
}
std::string DevicePrinter::infix(std::string_view sign, const Node& node) const {
  return arg(node, 0) + " " + std::string(sign) + " " + arg(node, 1);
}

std::string DevicePrinter::read(Id id, const Node& node) const {
  const std::string tensor = "t" + std::to_string(node.value);
  std::string out = "dev::read(" + tensor;
  for (size_t i = 0; i < node.arity; ++i) {
    const bool is_inside = index_is_inside(hooks_, ranges_, id, i);
    out += ", " + (is_inside ? arg(node, i) : "dev::inside(" + tensor + ", " + std::to_string(i) + ", " + arg(node, i) + ")");
  }
  return out + ")";
}

/// Divisions by a power of two are shifts and masks, also of negative numbers.
std::string DevicePrinter::quotient(const Node& node) const {
  const Node& divisor = hooks_.graph[node.args[1]];
  const bool is_shift = divisor.op == Op::constant && std::has_single_bit(divisor.value) && divisor.value <= 1u << 30;
  if (!is_shift) return call(node.op == Op::mod ? "mod" : "floor_div", node);
  if (node.op == Op::floor_div) return arg(node, 0) + " >> " + std::to_string(std::countr_zero(divisor.value));
  return arg(node, 0) + " & " + std::to_string(divisor.value - 1);
}

std::string DevicePrinter::form(Id id, const Node& node) const {
  const bool wraps = node.type == Type::i32 && ranges_[id].wraps;  // what C++ leaves undefined
  switch (node.op) {
    case Op::read:
      return read(id, node);
    case Op::add:
      return wraps ? call("wrap_add", node) : infix("+", node);
    case Op::sub:
      return wraps ? call("wrap_sub", node) : infix("-", node);
    case Op::mul:
      return wraps ? call("wrap_mul", node) : infix("*", node);
    case Op::neg:
      return wraps ? call("wrap_neg", node) : "-" + arg(node, 0);
    case Op::floor_div:
    case Op::mod:
      return quotient(node);
    case Op::div:
      return call("div", node);
    case Op::shl:
      return call("shl", node);
    case Op::shr:
      return call("shr", node);
    case Op::cuda:
      return cuda_function(id) + arguments(node);
    case Op::select:
      return arg(node, 0) + " ? " + arg(node, 1) + " : " + arg(node, 2);
    case Op::logical_not:
      return "!" + arg(node, 0);
    case Op::to_i32:
      return call("to_i32", node);
    case Op::to_f32:
      return call("to_f32", node);
    default:  // the other functions and signs are written as in the language
      return info(node.op).is_function ? call(info(node.op).text, node) : infix(info(node.op).text, node);
  }
}

}  // namespace lathe::expr
