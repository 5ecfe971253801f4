#include "lathe/spec/expr/device_source.h"

#include <algorithm>
#include <array>
#include <bit>

#include "lathe/spec/expr/range.h"
#include "lathe/spec/expr/variation.h"

namespace lathe::expr {
namespace {

constexpr DeviceFunction kFunctions[] = {
    {"float_from_bits", "float float_from_bits(unsigned bits)", "the f32 with these bits"},
    {"wrap_add", "int wrap_add(int a, int b)", "modulo 2^32, as the next three"},
    {"wrap_sub", "int wrap_sub(int a, int b)", ""},
    {"wrap_mul", "int wrap_mul(int a, int b)", ""},
    {"wrap_neg", "int wrap_neg(int a)", ""},
    {"floor_div", "T floor_div(T a, T b)", "T: int, unsigned; rounds down; 0 by zero"},
    {"mod", "T mod(T a, T b)", "T: int, unsigned; of the divisor's sign; 0 by zero"},
    {"shl", "T shl(T word, unsigned count)", "T: int, unsigned; 32 and more shift everything out"},
    {"shr", "T shr(T word, unsigned count)", "as shl; fills with the sign of an int"},
    {"abs", "T abs(T a)", "T: int (modulo 2^32), float"},
    {"min", "T min(T a, T b)", "T: int, unsigned, float; passes over a NaN; -0 is less than +0"},
    {"max", "T max(T a, T b)", "as min"},
    {"to_i32", "int to_i32(T a)", "T: bool; unsigned, whose bits it keeps; float, towards zero, saturating, NaN to 0"},
    {"to_f32", "float to_f32(T a)", "T: int, unsigned; to nearest even"},
    {"div", "float div(float a, float b)", ""},
    {"exp", "float exp(float a)", ""},
    {"exp2", "float exp2(float a)", ""},
    {"log", "float log(float a)", "natural"},
    {"log2", "float log2(float a)", ""},
    {"sqrt", "float sqrt(float a)", ""},
    {"rsqrt", "float rsqrt(float a)", "1 / sqrt(a)"},
    {"tanh", "float tanh(float a)", ""},
    {"sigmoid", "float sigmoid(float a)", "1 / (1 + exp(-a))"},
    {"erf", "float erf(float a)", ""},
    {"sin", "float sin(float a)", ""},
    {"cos", "float cos(float a)", ""},
    {"acos", "float acos(float a)", ""},
    {"floor", "float floor(float a)", ""},
    {"powi", "float powi(float a, int n)", "a^n by squaring; 1 / a^-n for a negative n, which is a literal"},
    {"isinf", "bool isinf(float a)", ""},
    {"bit", "bool bit(unsigned word, int i)", "bit (i & 31)"},
    {"popc", "int popc(unsigned word)", "bits that are 1"},
    {"read", "T read(t, int... index)", "the element of a tensor slot, converted: int, unsigned, float or bool"},
    {"inside", "int inside(t, int axis, int index)", "index clamped to [0, extent of that axis - 1]; axis is a literal"},
};

const char* type_text(Type type) {
  static constexpr std::array kNames{"bool", "int", "unsigned", "float"};
  return kNames[static_cast<size_t>(type)];
}

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

/// Prints one expression as statements, one for each operator: what several use is computed once, and no sign needs parentheses.
class Printer {
 public:
  Printer(const Hooks& hooks, Id root)
      : hooks_(hooks), ranges_(ranges(hooks)), variations_(variations(hooks)), names_(hooks.graph.size()) {
    const std::vector<bool> used = reachable(hooks.graph, {&root, 1});
    std::vector<bool> inputs(kInputs), params(hooks.params.size()), tensors(hooks.tensors.size());
    for (Id id = 0; id <= root; ++id) {
      const Node& node = hooks.graph[id];
      if (!used[id]) continue;
      if (node.op == Op::input) inputs[node.value] = true;
      if (node.op == Op::param) params[node.value] = true;
      if (node.op == Op::read) tensors[node.value] = true;
      print(id, node);
    }
    out_.result = names_[root];
    for (uint32_t i = 0; i < kInputs; ++i) {
      if (inputs[i]) out_.inputs.push_back(static_cast<Input>(i));
    }
    for (uint32_t i = 0; i < params.size(); ++i) {
      if (params[i]) out_.params.push_back(i);
    }
    for (uint32_t i = 0; i < tensors.size(); ++i) {
      if (tensors[i]) out_.tensors.push_back(i);
    }
  }
  DeviceSource take() { return std::move(out_); }

 private:
  void print(Id id, const Node& node) {
    switch (node.op) {
      case Op::constant:
        names_[id] = constant_text(node);
        return;
      case Op::input:
        names_[id] = static_cast<Input>(node.value) == Input::rot_x ? "rot_x" : info(static_cast<Input>(node.value)).text;
        return;
      case Op::param:
        names_[id] = "p" + std::to_string(node.value);
        return;
      default:
        names_[id] = "v" + std::to_string(last_++);
        out_.statements.push_back(
            {variations_[id], std::string("const ") + type_text(node.type) + " " + names_[id] + " = " + form(id, node) + ";"});
    }
  }

  const std::string& arg(const Node& node, size_t i) const { return names_[node.args[i]]; }

  std::string call(std::string_view function, const Node& node) const {
    std::string out = "dev::" + std::string(function) + "(";
    for (size_t i = 0; i < node.arity; ++i) out += (i > 0 ? ", " : "") + arg(node, i);
    return out + ")";
  }
  std::string infix(std::string_view sign, const Node& node) const {
    return arg(node, 0) + " " + std::string(sign) + " " + arg(node, 1);
  }

  std::string read(Id id, const Node& node) const {
    const std::string tensor = "t" + std::to_string(node.value);
    std::string out = "dev::read(" + tensor;
    for (size_t i = 0; i < node.arity; ++i) {
      const bool is_inside = index_is_inside(hooks_, ranges_, id, i);
      out += ", " + (is_inside ? arg(node, i) : "dev::inside(" + tensor + ", " + std::to_string(i) + ", " + arg(node, i) + ")");
    }
    return out + ")";
  }

  /// Divisions by a power of two are shifts and masks, also of negative numbers.
  std::string quotient(const Node& node) const {
    const Node& divisor = hooks_.graph[node.args[1]];
    const bool is_shift = divisor.op == Op::constant && std::has_single_bit(divisor.value) && divisor.value <= 1u << 30;
    if (!is_shift) return call(node.op == Op::mod ? "mod" : "floor_div", node);
    if (node.op == Op::floor_div) return arg(node, 0) + " >> " + std::to_string(std::countr_zero(divisor.value));
    return arg(node, 0) + " & " + std::to_string(divisor.value - 1);
  }

  std::string form(Id id, const Node& node) const {
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

  const Hooks& hooks_;
  const std::vector<Range> ranges_;
  const std::vector<Variation> variations_;
  std::vector<std::string> names_;  // by node: what its value is called
  int last_ = 0;
  DeviceSource out_;
};

}  // namespace

std::string DeviceSource::body() const {
  std::string out;
  for (const Statement& statement : statements) out += statement.text + "\n";
  return out + "return " + result + ";\n";
}

DeviceSource device_source(const Hooks& hooks, Hook hook) {
  return Printer(hooks, hooks.root(hook)).take();
}

std::span<const DeviceFunction> device_functions() {
  return kFunctions;
}

}  // namespace lathe::expr
