// What the parts of the module add to it, and the types they share.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>

#include "lathe/jit/engine.h"
#include "lathe/spec/attention_spec.h"

namespace lathe::python {

void add_spec(pybind11::module_& m);
void add_engine(pybind11::module_& m);  // after the specs, as for the next
void add_layouts(pybind11::module_& m);
void add_attention(pybind11::module_& m);
void add_expr(pybind11::module_& m);

/// "memory", "disk" or "compiled".
const char* name_of(Origin origin);

/// `text` as Python reads JSON.
pybind11::object from_json_text(const std::string& text);

}  // namespace lathe::python
