// From a request to a kernel on a device: what every family's prepare() ends with.
#pragma once

#include "lathe/base/status.h"
#include "lathe/jit/engine.h"
#include "lathe/runtime/device.h"

namespace lathe {

/// Builds `request` and loads it on `device`. First asks the device whether it can load what the engine's compiler makes, so that a
/// driver that is too old is refused before anything is compiled.
Result<KernelPtr> build_kernel(Engine& engine, Device& device, const KernelRequest& request, Origin* origin = nullptr);

}  // namespace lathe
