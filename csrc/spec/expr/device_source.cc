#include "lathe/spec/expr/device_source.h"

#include "lathe/spec/expr/device_printer.h"

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

}  // namespace

std::string DeviceSource::body() const {
  std::string out;
  for (const Statement& statement : statements) out += statement.text + "\n";
  return out + "return " + result + ";\n";
}

DeviceSource device_source(const Hooks& hooks, Hook hook) {
  const Id root = hooks.root(hook);
  const DevicePrinter printer(hooks, {&root, 1});
  DeviceSource out;
  std::vector<bool> inputs(kInputs), params(hooks.params.size()), tensors(hooks.tensors.size());
  for (Id id = 0; id <= root; ++id) {
    const Node& node = hooks.graph[id];
    if (!printer.used(id)) continue;
    if (node.op == Op::input) inputs[node.value] = true;
    if (node.op == Op::param) params[node.value] = true;
    if (node.op == Op::read) tensors[node.value] = true;
    if (is_computed(node)) out.statements.push_back({printer.variation(id), printer.statement(id)});
  }
  out.result = printer.name(root);
  for (uint32_t i = 0; i < kInputs; ++i) {
    if (inputs[i]) out.inputs.push_back(static_cast<Input>(i));
  }
  for (uint32_t i = 0; i < params.size(); ++i) {
    if (params[i]) out.params.push_back(i);
  }
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i]) out.tensors.push_back(i);
  }
  return out;
}

std::span<const DeviceFunction> device_functions() {
  return kFunctions;
}

}  // namespace lathe::expr
