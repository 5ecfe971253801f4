// Fences of a CUDA device. Internal to csrc/runtime.
#pragma once

#include <memory>

#include "lathe/runtime/cuda_context.h"
#include "lathe/runtime/device.h"

namespace lathe::cuda {

/// An event without a clock, which is cheaper to record than one with it.
Result<std::unique_ptr<Fence>> make_fence(std::shared_ptr<Context> context);

}  // namespace lathe::cuda
