#include "gpu.h"

namespace lathe::testing {

const Result<std::shared_ptr<Device>>& gpu() {
  static const auto* opened = new Result<std::shared_ptr<Device>>(cuda_device(0));  // kept until the process ends, as the driver is
  return *opened;
}

}  // namespace lathe::testing
