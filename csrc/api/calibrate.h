// Measuring what attention costs on a GPU, for the planner (docs/planner.md, "Calibration").
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lathe/jit/engine.h"
#include "lathe/plan/attention_calibration.h"
#include "lathe/plan/attention_costs_file.h"
#include "lathe/runtime/cuda_timing.h"
#include "lathe/runtime/device.h"

namespace lathe {

struct CalibrateOptions {
  TimingOptions timing{.warmup = 3, .repeats = 15};
  /// Keys of one KV head that each block reads in the longest decodes: a power of two, at least 1024. 8192 take 0.6 to 1.2 GB of
  /// memory on a GPU of 132 multiprocessors.
  int32_t keys_per_block = 8192;
};

/// Runs batches that take the costs apart, on an idle GPU: decodes of few long and of many short requests, the same cut into parts
/// (bytes, items, partials), and tall tiles against few keys (products); bf16, head dims 64 and 128, pages of 16. A sample's time
/// is the median of its launches. Waits for the device; takes about a minute, most of it compiling. invalid_argument when `device`
/// was not made by cuda_device().
Result<std::vector<CalibrationSample>> measure_attention_costs(Engine& engine, const std::shared_ptr<Device>& device,
                                                               const CalibrateOptions& options = {});

/// The stamp of costs measured on `device` by this library; `date` is for people.
CostsStamp costs_stamp(const DeviceInfo& device, std::string date);

}  // namespace lathe
