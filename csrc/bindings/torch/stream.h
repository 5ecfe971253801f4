// Where an operator runs: the host, or a GPU with PyTorch's current stream.
#pragma once

#include <torch/csrc/stable/accelerator.h>

#include <optional>

#include "lathe/runtime/device.h"
#include "tensors.h"

namespace lathe::torch_ops {

inline constexpr int kHost = -1;

/// The ordinal of the GPU that `t` is on, or kHost.
int ordinal_of(const AnyTensor& t);

/// While it lives, the GPU's context is the thread's current one, as launches need it. Nothing for the host.
class Place {
 public:
  explicit Place(int ordinal);
  int ordinal() const { return ordinal_; }
  Stream stream() const { return stream_; }

 private:
  int ordinal_;
  std::optional<torch::stable::accelerator::DeviceGuard> guard_;
  Stream stream_ = nullptr;
};

}  // namespace lathe::torch_ops
