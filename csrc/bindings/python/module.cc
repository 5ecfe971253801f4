// lathe._lathe: the C++ API for Python. The package in python/lathe is what programs use.
#include "lathe/base/version.h"
#include "parts.h"

PYBIND11_MODULE(_lathe, m) {
  m.doc() = "The C++ side of lathe.";
  m.attr("__version__") = lathe::version();
  lathe::python::add_spec(m);
  lathe::python::add_engine(m);
  lathe::python::add_layouts(m);
  lathe::python::add_attention(m);
  lathe::python::add_expr(m);
}
