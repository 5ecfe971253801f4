// Arrays of Python programs as tensors: numpy arrays, and whatever speaks DLPack.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <span>
#include <string>

#include "lathe/api/tensor.h"
#include "lathe/spec/attention_spec.h"

namespace lathe::python {

/// An array, borrowed: its memory stays while `owner` lives.
struct Array {
  Tensor tensor = {};
  // "f32", "f16", "bf16", "e4m3", "e5m2", "i32", "i8", "u32", "u8", "bool", "bits16" (two bytes of unknown meaning), else a name
  // for messages.
  std::string element = {};
  bool on_host = true;  // else in the memory of GPU `gpu`
  int gpu = 0;
  bool writable = true;
  pybind11::object owner = {};
};

/// `value`, the argument `name`. Raises lathe.SpecError for what is no array, has more than five dimensions, or strides that are
/// not whole elements. No data is copied.
Array array_of(const char* name, const pybind11::object& value);

/// The same where a tensor of `dtype` is expected; arrays of two-byte unsigned integers are taken as its bits.
Array array_of(const char* name, const pybind11::object& value, DType dtype);
/// The same where one of `element` is.
Array array_of(const char* name, const pybind11::object& value, const std::string& element);

/// Raises unless `array` may be written.
void check_writable(const char* name, const Array& array);

/// Contiguous numbers in host memory; None is none.
using Indices = pybind11::array_t<int32_t, pybind11::array::c_style>;
std::span<const int32_t> span_of(const Indices& indices);

/// What `value` is, for messages: "a list", "f32[3, 4]".
std::string shown(const Array& array);

}  // namespace lathe::python
