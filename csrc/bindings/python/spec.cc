#include "lathe/spec/attention_spec.h"
#include "lathe/spec/field_docs.h"
#include "parts.h"
#include "status.h"

namespace py = pybind11;

namespace lathe::python {
namespace {

AttentionSpec read_spec(const std::string& json) {
  AttentionSpec spec = check(attention_spec_from_json(json));
  check(validate(spec));
  return spec;
}

/// The names that a spec's JSON object has at its top: fields, and groups of fields.
std::vector<std::string> top_names() {
  std::vector<std::string> names;
  for (const FieldDoc& field : attention_field_docs()) {
    std::string name = field.path.substr(0, field.path.find('.'));
    if (names.empty() || names.back() != name) names.push_back(std::move(name));
  }
  return names;
}

py::list field_docs() {
  py::list list;
  for (const FieldDoc& field : attention_field_docs())
    list.append(py::make_tuple(field.path, field.allowed, field.preset, field.doc));
  return list;
}

py::bytes bytes_of(const Bytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// What a field means, and of a group of fields each of them.
std::string doc_of(const std::string& name) {
  std::string text;
  for (const FieldDoc& field : attention_field_docs()) {
    if (field.path == name) return field.doc;
    if (field.path.starts_with(name + ".")) text += field.path.substr(name.size() + 1) + ": " + field.doc + "\n";
  }
  return text;
}

// The texts of python/lathe/_lathe.pyi.
constexpr const char* kSpecDoc = R"(Everything about an attention operation that changes generated code.

An immutable value: equal specs are equal, and may be keys of dicts. Lengths, head counts, window width, scale and soft-cap are
arguments of a run and never part of it.

Parameters
----------
**fields
    As `lathe.spec.fields()` lists them; what is left out has its preset.

Raises
------
lathe.SpecError
    Unknown fields, with the nearest known one; values that are not allowed; combinations that cannot be served. All at once.)";

constexpr const char* kFromJsonDoc = R"(The spec of a JSON object of fields.

Parameters
----------
text : str
    Fields as `to_json` writes them; what is left out has its preset.

Returns
-------
AttentionSpec

Raises
------
lathe.SpecError
    As of the constructor; text that is no JSON.)";

constexpr const char* kReplaceDoc = R"(The same spec with other values of some fields.

Parameters
----------
**fields
    As in the constructor; a dict for ``layout`` replaces what it names.

Returns
-------
AttentionSpec

Raises
------
lathe.SpecError
    As of the constructor.)";

}  // namespace

py::object from_json_text(const std::string& text) {
  return py::module_::import("json").attr("loads")(text);
}

void add_spec(py::module_& m) {
  py::class_<AttentionSpec> spec(m, "AttentionSpec", kSpecDoc);
  spec.def(py::init([](const py::kwargs& fields) {
    return read_spec(py::cast<std::string>(py::module_::import("lathe.spec").attr("json_of")(fields)));
  }));
  spec.def_static("from_json", &read_spec, py::arg("text"), kFromJsonDoc);
  spec.def(
      "to_json", [](const AttentionSpec& self) { return to_json(self); }, "All fields as JSON text, which `from_json` reads back.");
  spec.def(
      "to_dict", [](const AttentionSpec& self) { return from_json_text(to_json(self)); }, "All fields as a dict of Python values.");
  spec.def(
      "canonical_bytes", [](const AttentionSpec& self) { return bytes_of(canonical_bytes(self)); },
      "Bytes that are equal where specs share one kernel.");
  spec.def(
      "replace",
      [](const AttentionSpec& self, const py::kwargs& fields) {
        return read_spec(
            py::cast<std::string>(py::module_::import("lathe.spec").attr("replaced")(from_json_text(to_json(self)), fields)));
      },
      kReplaceDoc);
  spec.def("__eq__", [](const AttentionSpec& a, const py::object& b) -> py::object {
    if (!py::isinstance<AttentionSpec>(b)) return py::reinterpret_borrow<py::object>(Py_NotImplemented);
    return py::bool_(a == b.cast<const AttentionSpec&>());
  });
  spec.def("__hash__", [](const AttentionSpec& self) { return py::hash(bytes_of(canonical_bytes(self))); });
  spec.def("__str__", [](const AttentionSpec& self) { return to_string(self); });
  spec.def("__repr__", [](const AttentionSpec& self) {
    return "AttentionSpec.from_json(" + std::string(py::repr(py::str(to_json(self)))) + ")";
  });
  for (const std::string& name : top_names()) {
    spec.def_property_readonly(
        name.c_str(),
        [name](const AttentionSpec& self) -> py::object {
          const py::dict fields = from_json_text(to_json(self));
          return fields.contains(name.c_str()) ? py::object(fields[name.c_str()]) : py::none();
        },
        doc_of(name).c_str());
  }
  m.def("attention_fields", &field_docs, "Every field of an attention spec: (path, allowed, preset, one sentence).");
}

}  // namespace lathe::python
