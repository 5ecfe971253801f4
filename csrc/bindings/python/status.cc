#include "status.h"

namespace py = pybind11;

namespace lathe::python {

void raise(const Status& status) {
  const py::object error = py::module_::import("lathe.errors")
                               .attr("from_status")(name_of(status.code()), status.where(), status.message(), status.hint());
  PyErr_SetObject(py::type::of(error).ptr(), error.ptr());
  throw py::error_already_set();
}

void refuse(const std::string& argument, const std::string& message) {
  raise(invalid_argument(argument, message));
}

}  // namespace lathe::python
