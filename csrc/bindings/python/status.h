// From Status to Python exceptions.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <utility>

#include "lathe/base/status.h"

namespace lathe::python {

/// Raises the exception of lathe.errors that stands for `status`, which is not ok. Needs the GIL.
[[noreturn]] void raise(const Status& status);

/// As above, for a caller's mistake.
[[noreturn]] void refuse(const std::string& argument, const std::string& message);

inline void check(const Status& status) {
  if (!status.ok()) raise(status);
}
template <class T>
T check(Result<T> result) {
  if (!result.ok()) raise(result.status());
  return *std::move(result);
}

}  // namespace lathe::python
