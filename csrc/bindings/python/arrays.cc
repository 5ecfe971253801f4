#include "arrays.h"

#include <array>
#include <utility>

#include "dlpack.h"
#include "status.h"

namespace py = pybind11;

namespace lathe::python {
namespace {

constexpr int kMaxRank = 5;

std::string class_of(const py::handle& value) {
  return py::str(py::type::handle_of(value).attr("__name__"));
}

std::string element_of(const py::dtype& dtype) {
  // Swapped bytes have the same name, and are other numbers.
  if (!dtype.attr("isnative").cast<bool>()) return py::str(dtype);
  const std::string name = py::str(dtype.attr("name"));
  // The last three are of the ml_dtypes package.
  static constexpr std::array<std::pair<const char*, const char*>, 11> kNames{{{"float32", "f32"},
                                                                               {"float16", "f16"},
                                                                               {"int32", "i32"},
                                                                               {"int8", "i8"},
                                                                               {"uint32", "u32"},
                                                                               {"uint16", "bits16"},
                                                                               {"uint8", "u8"},
                                                                               {"bool", "bool"},
                                                                               {"bfloat16", "bf16"},
                                                                               {"float8_e4m3fn", "e4m3"},
                                                                               {"float8_e5m2", "e5m2"}}};
  for (const auto& [numpy, ours] : kNames) {
    if (name == numpy) return ours;
  }
  return name;
}

std::string element_of(const dlpack::DataType& type) {
  const std::string bits = std::to_string(type.bits) + (type.lanes == 1 ? "" : "x" + std::to_string(type.lanes));
  switch (type.code) {
    case dlpack::kFloat:
      return "f" + bits;
    case dlpack::kBfloat:
      return "bf" + bits;
    case dlpack::kBool:
      return "bool";
    case dlpack::kInt:
      return "i" + bits;
    case dlpack::kUnsigned:
      return bits == "16" ? "bits16" : "u" + bits;
    default:
      return "DLPack type " + std::to_string(type.code) + " of " + bits + " bits";
  }
}

void check_rank(const char* name, int64_t rank) {
  if (rank > kMaxRank) refuse(name, "has " + std::to_string(rank) + " dimensions; allowed: at most " + std::to_string(kMaxRank));
}

Array of_numpy(const char* name, const py::array& array) {
  check_rank(name, array.ndim());
  const auto size = array.itemsize();
  Array out{.element = element_of(array.dtype()), .writable = array.writeable(), .owner = array};
  out.tensor.data = const_cast<void*>(array.data());
  out.tensor.rank = static_cast<int>(array.ndim());
  for (int i = 0; i < out.tensor.rank; ++i) {
    out.tensor.shape[i] = array.shape(i);
    if (array.strides(i) % size != 0) {
      refuse(name, "has a stride of " + std::to_string(array.strides(i)) + " bytes in dimension " + std::to_string(i) +
                       "; allowed: multiples of its element, " + std::to_string(size) + " bytes");
    }
    out.tensor.stride[i] = array.strides(i) / size;
  }
  return out;
}

/// Takes the tensor out of a fresh capsule; the new one gives it back when it dies.
py::capsule take(const char* name, const py::object& fresh, dlpack::Managed*& managed) {
  managed = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(fresh.ptr(), dlpack::kFresh));
  if (managed == nullptr) {
    PyErr_Clear();
    refuse(name, "is an object whose __dlpack__() gives no DLPack tensor; allowed: numpy arrays, DLPack");
  }
  PyCapsule_SetName(fresh.ptr(), dlpack::kTaken);
  return py::capsule(managed, [](void* pointer) {
    auto* tensor = static_cast<dlpack::Managed*>(pointer);
    if (tensor->release != nullptr) tensor->release(tensor);
  });
}

Array of_dlpack(const char* name, const py::object& value) {
  py::object fresh;
  try {
    fresh = value.attr("__dlpack__")();
  } catch (py::error_already_set& error) {
    refuse(name, "is a " + class_of(value) + " that cannot be exported: " + py::str(error.value()).cast<std::string>());
  }
  dlpack::Managed* managed = nullptr;
  Array out{.owner = take(name, fresh, managed)};
  const dlpack::Tensor& t = managed->tensor;
  check_rank(name, t.rank);
  out.element = element_of(t.dtype);
  out.on_host = t.device.type == dlpack::kCpu || t.device.type == dlpack::kCudaHost;
  out.gpu = t.device.id;
  if (!out.on_host && t.device.type != dlpack::kCuda) {
    refuse(name, "is on DLPack device type " + std::to_string(t.device.type) + "; allowed: the host or a CUDA GPU");
  }
  out.tensor.data = static_cast<std::byte*>(t.data) + t.byte_offset;
  out.tensor.rank = t.rank;
  int64_t step = 1;
  for (int i = t.rank - 1; i >= 0; --i) {
    out.tensor.shape[i] = t.shape[i];
    out.tensor.stride[i] = t.strides != nullptr ? t.strides[i] : step;
    step *= t.shape[i];
  }
  return out;
}

}  // namespace

Array array_of(const char* name, const py::object& value) {
  if (py::isinstance<py::array>(value)) return of_numpy(name, value);
  if (py::hasattr(value, "__dlpack__")) return of_dlpack(name, value);
  refuse(name,
         "is " + (value.is_none() ? "None" : "a " + class_of(value)) + "; allowed: a numpy array, or an object with __dlpack__()");
}

Array array_of(const char* name, const py::object& value, const std::string& element) {
  Array array = array_of(name, value);
  if (array.element == element) return array;
  if (array.element == "u8" && (element == "e4m3" || element == "e5m2" || element == "bool")) return array;  // its bits
  std::string hint = element;
  if (element == "bf16") hint += " (of ml_dtypes, of a DLPack tensor, or its bits as uint16)";
  refuse(name, "has elements of " + array.element + "; allowed: " + hint);
}

Array array_of(const char* name, const py::object& value, DType dtype) {
  Array array = array_of(name, value);
  if (array.element == "bits16") {
    array.element = name_of(dtype);
    return array;
  }
  return array_of(name, value, name_of(dtype));
}

void check_writable(const char* name, const Array& array) {
  if (!array.writable) refuse(name, "is read-only; allowed: an array that can be written");
}

std::span<const int32_t> span_of(const Indices& indices) {
  return {indices.data(), static_cast<size_t>(indices.size())};
}

std::string shown(const Array& array) {
  std::string text = array.element + "[";
  for (int i = 0; i < array.tensor.rank; ++i) text += (i == 0 ? "" : ", ") + std::to_string(array.tensor.shape[i]);
  return text + "]";
}

}  // namespace lathe::python
