#include "tensors.h"

#include <stdexcept>

namespace lathe::torch_ops {
namespace {

std::string place_of(const AnyTensor& t) {
  return t.is_cuda() ? "cuda:" + std::to_string(t.get_device_index()) : "the CPU";
}

void check_type(const char* name, const AnyTensor& t, ElementType type) {
  if (t.scalar_type() == type) return;
  refuse(name, std::string("has elements of ") + torch::headeronly::toString(t.scalar_type()) +
                   "; allowed: " + torch::headeronly::toString(type));
}

void check_place(const char* name, const AnyTensor& t, const AnyTensor& like) {
  if (t.is_cuda() == like.is_cuda() && t.get_device_index() == like.get_device_index()) return;
  refuse(name, "is on " + place_of(t) + "; allowed: " + place_of(like) + ", as the other tensors");
}

}  // namespace

void fail(const Status& status) {
  throw std::runtime_error("lathe: " + status.to_string());
}

void refuse(const char* argument, const std::string& message) {
  fail(invalid_argument(argument, message));
}

ElementType element_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return ElementType::Half;
    case DType::e4m3:
      return ElementType::Float8_e4m3fn;
    case DType::e5m2:
      return ElementType::Float8_e5m2;
    case DType::i8:
      return ElementType::Char;
    case DType::bf16:
      break;
  }
  return ElementType::BFloat16;
}

Tensor view(const char* name, const AnyTensor& t, ElementType type, const AnyTensor& like) {
  check_place(name, t, like);
  check_type(name, t, type);
  Tensor out;
  if (t.dim() > static_cast<int64_t>(out.shape.size())) {
    refuse(name, "has " + std::to_string(t.dim()) + " dimensions; allowed: at most " + std::to_string(out.shape.size()));
  }
  out.data = t.data_ptr();
  out.rank = static_cast<int>(t.dim());
  const auto sizes = t.sizes(), strides = t.strides();
  for (int i = 0; i < out.rank; ++i) {
    out.shape[i] = sizes[i];
    out.stride[i] = strides[i];
  }
  return out;
}

std::span<const int32_t> host_indices(const char* name, const OptionalTensor& t) {
  if (!t) return {};
  check_type(name, *t, ElementType::Int);
  if (!t->is_cpu()) refuse(name, "is on " + place_of(*t) + "; allowed: the CPU, where plans are made");
  if (!t->is_contiguous()) refuse(name, "is not contiguous; allowed: a contiguous tensor");
  return {static_cast<const int32_t*>(t->data_ptr()), static_cast<size_t>(t->numel())};
}

const int32_t* device_indices(const char* name, const OptionalTensor& t, const AnyTensor& like, int64_t* count) {
  *count = 0;
  if (!t) return nullptr;
  check_place(name, *t, like);
  check_type(name, *t, ElementType::Int);
  if (!t->is_contiguous()) refuse(name, "is not contiguous; allowed: a contiguous tensor");
  *count = t->numel();
  return static_cast<const int32_t*>(t->data_ptr());
}

}  // namespace lathe::torch_ops
