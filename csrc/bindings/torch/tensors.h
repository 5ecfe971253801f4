// Tensors of PyTorch as Lathe takes them.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lathe/api/tensor.h"
#include "lathe/base/status.h"
#include "lathe/spec/attention_spec.h"

namespace lathe::torch_ops {

using AnyTensor = torch::stable::Tensor;
using OptionalTensor = std::optional<AnyTensor>;
using Tensors = std::optional<std::vector<AnyTensor>>;
using Numbers = std::optional<std::vector<double>>;
using Names = std::optional<std::string>;  // separated by commas
using ElementType = torch::headeronly::ScalarType;

/// Throws what PyTorch shows as RuntimeError: "lathe: invalid_argument: q: ...".
[[noreturn]] void fail(const Status& status);
[[noreturn]] void refuse(const char* argument, const std::string& message);

inline void check(const Status& status) {
  if (!status.ok()) fail(status);
}
template <class T>
T check(Result<T> result) {
  if (!result.ok()) fail(result.status());
  return *std::move(result);
}

ElementType element_of(DType dtype);

/// `t` as the argument `name`, of elements `type`, on the device `like` is on. Shapes and strides are checked by the run.
Tensor view(const char* name, const AnyTensor& t, ElementType type, const AnyTensor& like);

/// The numbers of `t`, which must be contiguous i32 in the host's memory, of any rank; none when there is no tensor.
std::span<const int32_t> host_indices(const char* name, const OptionalTensor& t);

/// The same in the memory of the device that `like` is on; never read here. `count` gets the number of entries.
const int32_t* device_indices(const char* name, const OptionalTensor& t, const AnyTensor& like, int64_t* count);

}  // namespace lathe::torch_ops
