// Which costs a device's plans are made with. Internal to csrc/api.
#pragma once

#include <string>

#include "lathe/arch/traits.h"
#include "lathe/plan/attention_cost.h"
#include "lathe/plan/attention_costs_file.h"
#include "lathe/runtime/device.h"

namespace lathe {

/// For `num_ctas` blocks on `device`: as measured, where the knob LATHE_COSTS names a costs file of this device and version; else
/// the estimates of `arch`. A file that cannot be used is warned about once in a process, saying why.
AttentionCosts device_costs(const DeviceInfo& device, const ArchTraits& arch, int32_t num_ctas);

/// Reads the costs file at `path`: a regular file of at most kMaxCostsFileBytes.
Result<CostsFile> read_costs_file(const std::string& path);

/// Refuses costs measured on another device or by another version, naming what disagrees.
Status check_stamp(const CostsStamp& stamp, const DeviceInfo& device);

}  // namespace lathe
