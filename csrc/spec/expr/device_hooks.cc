#include "lathe/spec/expr/device_hooks.h"

#include <algorithm>
#include <array>
#include <vector>

#include "lathe/spec/expr/device_printer.h"
#include "lathe/spec/expr/skip_class.h"

namespace lathe::expr {
namespace {

/// Where a function finds what it did not compute itself.
struct Sources {
  std::array<std::string, 4>
      inputs;  // by Variation: the structure that holds the inputs, with its dot; element: none, given by name
  std::array<std::string, 4> values;  // the structure that holds computed values
};

size_t index_of(Variation variation) {
  return static_cast<size_t>(variation);
}

bool is_text_input(Input input) {  // given to element functions by name
  switch (input) {
    case Input::dot:
    case Input::score:
    case Input::w:
    case Input::x:
    case Input::rot_x:
    case Input::o:
    case Input::lse:
      return true;
    default:
      return false;
  }
}

/// One body: the statements of `computed`, ascending, after what they and `results` need from elsewhere.
std::string body_of(const Hooks& hooks, const DevicePrinter& printer, const std::vector<Id>& computed,
                    const std::vector<Id>& results, const Sources& from) {
  std::vector<bool> wanted(hooks.graph.size());
  for (Id id : computed) {
    for (Id arg : hooks.graph[id].operands()) wanted[arg] = true;
  }
  for (Id id : results) wanted[id] = true;
  for (Id id : computed) wanted[id] = false;

  std::string out;
  std::vector<bool> tensors(hooks.tensors.size());
  for (Id id : computed) {
    if (hooks.graph[id].op == Op::read) tensors[hooks.graph[id].value] = true;
  }
  for (Id id = 0; id < hooks.graph.size(); ++id) {
    if (!wanted[id]) continue;
    const Node& node = hooks.graph[id];
    const std::string left = std::string("  const ") + type_text(node.type) + " " + printer.name(id) + " = ";
    if (node.op == Op::input) {
      const auto input = static_cast<Input>(node.value);
      if (is_text_input(input)) continue;
      const std::string& holder =
          input == Input::d ? from.inputs[index_of(Variation::element)] : from.inputs[index_of(info(input).variation)];
      out += left + holder + variable_of(input) + ";\n";
    } else if (node.op == Op::param) {
      static constexpr std::array kReaders{"bool", "i32", "u32", "f32"};
      out += left + "dev::param_" + kReaders[static_cast<size_t>(node.type)] + "(args, " + std::to_string(node.value) + ");\n";
    } else if (is_computed(node)) {
      out += left + from.values[index_of(printer.variation(id))] + printer.name(id) + ";\n";
    }
  }
  for (size_t slot = 0; slot < tensors.size(); ++slot) {
    if (!tensors[slot]) continue;
    const Elem elem = hooks.tensors[slot].elem;
    const std::string name = elem == Elem::boolean ? "boolean" : name_of(elem);
    out +=
        "  const dev::HookTensor<dev::" + name + "> t" + std::to_string(slot) + "{args.tensors[" + std::to_string(slot) + "]};\n";
  }
  for (Id id : computed) out += "  " + printer.statement(id) + "\n";
  return out;
}

/// The hooks that are evaluated for each score, in steps.
class ScoreFunctions {
 public:
  explicit ScoreFunctions(const Hooks& hooks)
      : hooks_(hooks),
        roots_{hooks.root(Hook::mask), hooks.root(Hook::logits), hooks.root(Hook::weight)},
        printer_(hooks, roots_) {}

  std::string text() const {
    const Sources in_tile{{"in.", "", "", ""}, {"", "", "", ""}};
    const Sources in_row{{"tile.in.", "in.", "", ""}, {"tile.", "", "", ""}};
    const Sources in_column{{"tile.in.", "", "in.", ""}, {"tile.", "", "", ""}};
    return step(Variation::kernel, "Tile", "tile", "const TileInputs& in", in_tile) +
           step(Variation::row, "Row", "row", "[[maybe_unused]] const Tile& tile, const RowInputs& in", in_row) +
           step(Variation::column, "Column", "column", "[[maybe_unused]] const Tile& tile, const ColumnInputs& in", in_column) +
           last(Hook::mask, "bool visible", "", "true") +
           last(Hook::logits, "float logit", ", [[maybe_unused]] float dot, float score", "score") +
           last(Hook::weight, "float weight", ", float w", "w");
  }

 private:
  std::vector<Id> computed_at(Variation level, const std::vector<bool>& among) const {
    std::vector<Id> out;
    for (Id id = 0; id < hooks_.graph.size(); ++id) {
      if (among[id] && is_computed(hooks_.graph[id]) && printer_.variation(id) == level) out.push_back(id);
    }
    return out;
  }

  /// Computed at `level` and needed beyond it.
  std::vector<Id> handed_on(Variation level) const {
    std::vector<bool> needed(hooks_.graph.size());
    for (Id id = 0; id < hooks_.graph.size(); ++id) {
      if (!printer_.used(id) || printer_.variation(id) == level) continue;
      for (Id arg : hooks_.graph[id].operands()) needed[arg] = true;
    }
    for (Id root : roots_) {
      if (root != kNone) needed[root] = true;
    }
    return computed_at(level, needed);
  }

  std::string step(Variation level, const char* type, const char* function, const char* params, const Sources& from) const {
    const std::vector<bool> used = reachable(hooks_.graph, roots_);
    const std::vector<Id> results = handed_on(level);
    std::string out = std::string("struct ") + type + " {\n  " + type + "Inputs in;\n";
    for (Id id : results) out += std::string("  ") + type_text(hooks_.graph[id].type) + " " + printer_.name(id) + ";\n";
    out += "};\nLATHE_DEVICE " + std::string(type) + " " + function + "([[maybe_unused]] const Args& args, " + params + ") {\n";
    if (results.empty()) return out + "  return {in};\n}\n";
    out += body_of(hooks_, printer_, computed_at(level, used), {}, from) + "  return {in";
    for (Id id : results) out += ", " + printer_.name(id);
    return out + "};\n}\n";
  }

  std::string last(Hook hook, const std::string& function, const std::string& params, const std::string& without) const {
    const Id root = hooks_.root(hook);
    std::string out = "LATHE_DEVICE " + function +
                      "([[maybe_unused]] const Args& args, [[maybe_unused]] const Tile& tile, [[maybe_unused]] const Row& row, "
                      "[[maybe_unused]] const Column& column" +
                      params + ") {\n";
    if (root == kNone) return out + "  return " + without + ";\n}\n";
    const Sources from{{"tile.in.", "row.in.", "column.in.", ""}, {"tile.", "row.", "column.", ""}};
    const std::vector<Id> computed = computed_at(Variation::element, reachable(hooks_.graph, {&root, 1}));
    return out + body_of(hooks_, printer_, computed, {root}, from) + "  return " + printer_.name(root) + ";\n}\n";
  }

  const Hooks& hooks_;
  const std::array<Id, 3> roots_;
  const DevicePrinter printer_;
};

/// A hook that is evaluated in one step.
std::string element_function(const Hooks& hooks, Hook hook, const std::string& params, const std::string& without) {
  const Id root = hooks.root(hook);
  std::string out = std::string("LATHE_DEVICE float ") + info(hook).text +
                    "([[maybe_unused]] const Args& args, [[maybe_unused]] const ElementInputs& in" + params + ") {\n";
  if (root == kNone) return out + "  return " + without + ";\n}\n";
  const DevicePrinter printer(hooks, {&root, 1});
  const Sources from{{"in.tile.", "in.row.", "in.column.", "in."}, {}};
  std::vector<Id> computed;
  for (Id id = 0; id < hooks.graph.size(); ++id) {
    if (printer.used(id) && is_computed(hooks.graph[id])) computed.push_back(id);
  }
  return out + body_of(hooks, printer, computed, {root}, from) + "  return " + printer.name(root) + ";\n}\n";
}

/// The texts of unsafe_cuda, each as the body of a function of its operands: the one place where a caller's text becomes source.
std::string cuda_functions(const Hooks& hooks) {
  const std::vector<bool> used = reachable(hooks.graph, hooks.roots);
  std::string out;
  for (Id id = 0; id < hooks.graph.size(); ++id) {
    const Node& node = hooks.graph[id];
    if (!used[id] || node.op != Op::cuda) continue;
    out += std::string("LATHE_DEVICE ") + type_text(node.type) + " " + cuda_function(id) + "(";
    for (size_t i = 0; i < node.arity; ++i) {
      out += std::string(i > 0 ? ", " : "") + "[[maybe_unused]] " + type_text(hooks.graph[node.args[i]].type) + " a" +
             std::to_string(i);
    }
    out += ") {\n" + hooks.graph.text(node.value) + "\n}\n";
  }
  return out;
}

}  // namespace

std::string device_hooks(const Hooks& hooks) {
  const auto flag = [&](const char* name, bool value) {
    return std::string("constexpr bool ") + name + " = " + (value ? "true" : "false") + ";\n";
  };
  const auto given = [&](Hook hook) { return hooks.root(hook) != kNone; };
  const std::vector<bool> used = reachable(hooks.graph, hooks.roots);
  const auto sees = [&](Input input) {
    for (Id id = 0; id < hooks.graph.size(); ++id) {
      const Node& node = hooks.graph[id];
      if (used[id] && node.op == Op::input && node.value == static_cast<uint32_t>(input)) return true;
    }
    return false;
  };
  return flag("kNormalizes", hooks.normalizer == Normalizer::softmax) + flag("kMask", given(Hook::mask)) +
         flag("kMaskDiffersByHead", mask_differs_by_head(hooks)) + flag("kLogits", given(Hook::logits)) +
         flag("kWeight", given(Hook::weight)) + flag("kSink", given(Hook::sink)) + flag("kOutput", given(Hook::output)) +
         flag("kLseTransform", given(Hook::lse_transform)) + flag("kQuery", given(Hook::query)) + flag("kKey", given(Hook::key)) +
         flag("kValue", given(Hook::value)) + flag("kQuerySum", sees(Input::qsum)) + flag("kQueryNorm", sees(Input::qnorm)) +
         flag("kRotaryInterleaved", hooks.rotary.interleaved) + "constexpr int kRotaryDims = " + std::to_string(hooks.rotary.dims) +
         ";\nLATHE_DEVICE float query_norm(float squares) {\n  return " + (sees(Input::qnorm) ? "dev::sqrt(squares)" : "squares") +
         ";\n}\n" + cuda_functions(hooks) + ScoreFunctions(hooks).text() +
         element_function(hooks, Hook::query, ", float x, [[maybe_unused]] float rot_x", "x") +
         element_function(hooks, Hook::key, ", float x, [[maybe_unused]] float rot_x", "x") +
         element_function(hooks, Hook::value, ", float x, [[maybe_unused]] float rot_x", "x") +
         element_function(hooks, Hook::sink, "", "-dev::kInfinity") +
         element_function(hooks, Hook::output, ", float o, [[maybe_unused]] float lse", "o") +
         element_function(hooks, Hook::lse_transform, ", float lse", "lse");
}

}  // namespace lathe::expr
