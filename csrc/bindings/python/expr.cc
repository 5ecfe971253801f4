// Hooks for Python: a builder that python/lathe/expr.py drives, operator by operator, and hooks as they come out of it.
#include <pybind11/stl.h>

#include <cmath>
#include <optional>

#include "lathe/spec/expr/build.h"
#include "lathe/spec/expr/check.h"
#include "lathe/spec/expr/json.h"
#include "lathe/spec/expr/names.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/expr/rope.h"
#include "lathe/spec/expr/simplify.h"
#include "lathe/spec/text.h"
#include "parts.h"
#include "status.h"

namespace py = pybind11;

namespace lathe::python {
namespace {

using namespace expr;

constexpr const char* kDeclarations = "declarations";

/// What a call of the builder gives Python: the node, or what forbids it. (id, problem, hint)
py::tuple outcome(const Built& built) {
  return py::make_tuple(built.ok() ? py::object(py::int_(built.id)) : py::none(), built.problem, built.hint);
}

template <class T>
T word(const std::optional<T>& found, const char* what, const std::string& text) {
  if (!found) refuse(what, "is " + fields::in_quotes(text) + ", which is none");
  return *found;
}

/// One set of hooks that is being written. Ids are handed out by its own calls; others are refused.
class HookBuilder {
 public:
  HookBuilder(bool softmax, bool interleaved, uint32_t rotary_dims) : builder_(hooks_) {
    hooks_.normalizer = softmax ? Normalizer::softmax : Normalizer::none;
    hooks_.rotary = {interleaved, rotary_dims};
  }

  Id i32(int32_t value) { return room(builder_.constant(i32_node(value))); }
  Id u32(uint32_t value) { return room(builder_.constant(constant_node(Type::u32, value))); }
  py::tuple f32(double value) { return made(builder_.real(value)); }
  Id boolean(bool value) { return room(builder_.constant(bool_node(value))); }
  Id input(const std::string& name) {
    return room(builder_.input(name == "rot(x)" ? Input::rot_x : word(input_named(name), "input", name)));
  }

  uint32_t param(const std::string& name, const std::string& type, std::optional<std::array<double, 2>> range) {
    Param param{name, word(type_named(type), "type", type), range};
    if (param.range) param.range = range_ends(param.type, *param.range);
    hooks_.params.push_back(std::move(param));
    return count("params", hooks_.params.size());
  }
  /// Axes: a name of the language, a number, or the index of a param as a one-element tuple.
  uint32_t tensor(const std::string& name, const std::string& elem, const py::list& axes, bool summary, bool sorted,
                  std::optional<std::array<double, 2>> range) {
    Tensor tensor{name, word(elem_named(elem), "element", elem), {}, summary, sorted, {}};
    if (range) tensor.range = range_ends(read_type(tensor.elem), *range);
    for (const py::handle axis : axes) {
      if (py::isinstance<py::str>(axis)) {
        const auto text = axis.cast<std::string>();
        tensor.axes.push_back({word(axis_named(text), "axis", text), 0});
      } else if (py::isinstance<py::tuple>(axis)) {
        const auto index = axis.cast<std::tuple<uint32_t>>();
        if (std::get<0>(index) >= hooks_.params.size()) refuse("axis", "is no param of these hooks");
        tensor.axes.push_back({Axis::param, std::get<0>(index)});
      } else {
        tensor.axes.push_back({Axis::number, axis.cast<uint32_t>()});
      }
    }
    hooks_.tensors.push_back(std::move(tensor));
    return count("tensors", hooks_.tensors.size());
  }
  Id param_node(uint32_t index) {
    if (index >= hooks_.params.size()) refuse("param", "is not one of these hooks");
    return room(builder_.param(index));
  }

  py::tuple read(uint32_t index, const std::vector<Id>& at) {
    if (index >= hooks_.tensors.size()) refuse("tensor", "is not one of these hooks");
    return made(builder_.read(index, known(at)));
  }
  py::tuple prefix(const std::string& sign, Id operand) {
    if (sign != "-" && sign != "!") refuse("sign", "is " + fields::in_quotes(sign) + "; allowed: - !");
    return made(builder_.prefix(sign, known(operand)));
  }
  py::tuple infix(const std::string& sign, Id left, Id right) { return made(builder_.infix(sign, known(left), known(right))); }
  py::tuple select(Id condition, Id yes, Id no) { return made(builder_.select(known(condition), known(yes), known(no))); }
  py::tuple call(const std::string& name, const std::vector<Id>& args) { return made(builder_.call(name, known(args))); }

  py::tuple cuda(const std::string& hook, const std::string& text, const std::vector<Id>& args) {
    return made(builder_.cuda(word(hook_named(hook), "hook", hook), text, known(args)));
  }

  std::string type_of(Id id) const { return expr::name_of(hooks_.graph[known(id)].type); }

  void set(const std::string& hook_name, Id id) {
    const Hook hook = word(hook_named(hook_name), "hook", hook_name);
    const Id typed = builder_.adapted(known(id), info(hook).type);
    hooks_.root(hook) = typed != kNone ? typed : id;
  }

  /// Every finding of check(): (is an error, hook or None, id or None, message, hint).
  py::list findings() const {
    py::list list;
    for (const Finding& f : expr::check(hooks_)) {
      list.append(py::make_tuple(f.error, f.hook ? py::object(py::str(info(*f.hook).text)) : py::none(),
                                 f.node != kNone ? py::object(py::int_(f.node)) : py::none(), f.message, f.hint));
    }
    return list;
  }

  Hooks finish() const {
    Problems problems;
    for (const Finding& f : expr::check(hooks_)) {
      if (f.error) problems.add(f.hook ? info(*f.hook).text : kDeclarations, f.text());
    }
    python::check(problems.status());
    return hooks_;
  }

 private:
  Id known(Id id) const {
    if (id >= hooks_.graph.size()) refuse("term", "is of other hooks");
    return id;
  }
  std::span<const Id> known(const std::vector<Id>& ids) const {
    for (Id id : ids) (void)known(id);
    return ids;
  }
  Id room(Id id) const {
    if (hooks_.graph.size() > kMaxGraph) refuse("hooks", "take more than " + std::to_string(kMaxGraph) + " nodes");
    return id;
  }
  py::tuple made(const Built& built) const {
    room(built.id);
    return outcome(built);
  }
  static uint32_t count(const char* what, size_t size) {
    if (size > kMaxDeclarations) refuse(what, "are more than " + std::to_string(kMaxDeclarations));
    return static_cast<uint32_t>(size - 1);
  }

  Hooks hooks_;
  Builder builder_;
};

py::list warnings_of(const Hooks& hooks) {
  py::list list;
  for (const Finding& f : expr::check(hooks)) {
    if (!f.error) list.append(py::make_tuple(f.where, f.text()));
  }
  return list;
}

std::string rope(int32_t head_dim, int32_t dims, bool interleaved, double theta, const std::string& scaling, double factor,
                 double original_context, double low_frequency, double high_frequency, double beta_fast, double beta_slow,
                 double attention_factor, bool cache) {
  RopeOptions options{head_dim,      dims,           interleaved, theta,     RopeScaling::none, factor, original_context,
                      low_frequency, high_frequency, beta_fast,   beta_slow, attention_factor,  cache};
  if (scaling == "llama3") {
    options.scaling = RopeScaling::llama3;
  } else if (scaling == "yarn") {
    options.scaling = RopeScaling::yarn;
  } else if (scaling != "none") {
    refuse("scaling", "is " + fields::in_quotes(scaling) + "; allowed: none, llama3, yarn");
  }
  return python::check(rope_text(options));
}

py::dict words() {
  using namespace py::literals;
  py::dict hooks;
  for (size_t i = 0; i < kHooks; ++i) {
    const HookInfo& hook = info(static_cast<Hook>(i));
    py::list inputs;
    for (Input input : hook.inputs) inputs.append(info(input).text);
    hooks[hook.text] = inputs;
  }
  py::list inputs;
  for (size_t i = 0; i < kInputs; ++i) inputs.append(info(static_cast<Input>(i)).text);
  return py::dict("hooks"_a = hooks, "inputs"_a = inputs);
}

// The texts of python/lathe/_lathe.pyi.
constexpr const char* kParseDoc = R"(Hooks in the text form.

Parameters
----------
text : str
    As in docs/expressions.md.

Returns
-------
Hooks

Raises
------
lathe.SpecError
    Text that cannot be read, or hooks that are refused; with line and column.)";

constexpr const char* kFromJsonDoc = R"(Hooks in the JSON form.

Parameters
----------
text : str
    As `to_json` writes it.

Returns
-------
Hooks

Raises
------
lathe.SpecError
    Text that cannot be read, or hooks that are refused.)";

}  // namespace

void add_expr(py::module_& m) {
  py::class_<Hooks> hooks(m, "Hooks",
                          "Declarations, and the expression of each hook; checked. Made by `lathe.expr.hooks`, `parse` and "
                          "`from_json`.");
  hooks.def_static(
      "parse", [](const std::string& text) { return python::check(parse(text)); }, py::arg("text"), kParseDoc);
  hooks.def_static(
      "from_json", [](const std::string& text) { return python::check(hooks_from_json(text)); }, py::arg("text"), kFromJsonDoc);
  hooks.def(
      "to_text", [](const Hooks& self) { return to_text(self); }, "Text that `parse` reads back.");
  hooks.def(
      "to_json", [](const Hooks& self) { return expr::to_json(self); }, "JSON that `from_json` reads back.");
  hooks.def(
      "canonical_bytes",
      [](const Hooks& self) {
        const Bytes bytes = expr::canonical_bytes(self);
        return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      },
      "Bytes that are equal where hooks share one kernel, however they are written.");
  hooks.def("warnings", &warnings_of, "What is allowed but doubtful: (place, text).");
  hooks.def("__eq__", [](const Hooks& a, const py::object& b) -> py::object {
    if (!py::isinstance<Hooks>(b)) return py::reinterpret_borrow<py::object>(Py_NotImplemented);
    return py::bool_(a == b.cast<const Hooks&>());
  });
  hooks.def("__hash__", [](const Hooks& self) { return py::hash(py::str(to_text(self))); });
  hooks.def("__str__", [](const Hooks& self) { return to_text(self); });
  hooks.def("__repr__",
            [](const Hooks& self) { return "<lathe.expr.Hooks " + std::string(py::repr(py::str(to_text(self)))) + ">"; });

  py::class_<HookBuilder> builder(m, "HookBuilder");
  builder.def(py::init<bool, bool, uint32_t>(), py::arg("softmax"), py::arg("interleaved"), py::arg("rotary_dims"));
  builder.def("i32", &HookBuilder::i32).def("u32", &HookBuilder::u32).def("f32", &HookBuilder::f32);
  builder.def("boolean", &HookBuilder::boolean).def("input", &HookBuilder::input).def("param", &HookBuilder::param);
  builder.def("tensor", &HookBuilder::tensor).def("param_node", &HookBuilder::param_node).def("read", &HookBuilder::read);
  builder.def("prefix", &HookBuilder::prefix).def("infix", &HookBuilder::infix).def("select", &HookBuilder::select);
  builder.def("cuda", &HookBuilder::cuda);
  builder.def("call", &HookBuilder::call).def("type_of", &HookBuilder::type_of).def("set", &HookBuilder::set);
  builder.def("findings", &HookBuilder::findings).def("finish", &HookBuilder::finish);
  m.def("words", &words);
  m.def("rope", &rope, py::arg("head_dim"), py::arg("dims"), py::arg("interleaved"), py::arg("theta"), py::arg("scaling"),
        py::arg("factor"), py::arg("original_context"), py::arg("low_frequency"), py::arg("high_frequency"), py::arg("beta_fast"),
        py::arg("beta_slow"), py::arg("attention_factor"), py::arg("cache"));
}

}  // namespace lathe::python
