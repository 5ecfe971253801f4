// From a request to a kernel on a device: what every family's prepare() ends with.
#pragma once

#include "lathe/base/status.h"
#include "lathe/jit/engine.h"
#include "lathe/runtime/device.h"

namespace lathe {

/// Builds `request` and loads it on `device`. First asks the device whether it can load what the engine's compiler makes, so that a
/// driver that is too old is refused before anything is compiled. An artifact that the device refuses (`launch_failed` from load())
/// is taken out of the cache and built anew, once; the Status of a second refusal holds both logs.
Result<KernelPtr> build_kernel(Engine& engine, Device& device, const KernelRequest& request, Origin* origin = nullptr);

}  // namespace lathe
