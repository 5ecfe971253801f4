// Times launches on a GPU: events around each one, caches flushed before it.
#pragma once

#include <functional>
#include <vector>

#include "lathe/runtime/cuda_stream.h"

namespace lathe {

struct TimingOptions {
  int warmup = 5, repeats = 30;
  size_t flush_bytes = size_t{256} << 20;  // written before each launch: more than any L2; 0 leaves the caches warm
};

struct Timing {
  std::vector<double> device_us;  // of each launch, sorted
  std::vector<double> host_us;    // that queuing it took, sorted
};

/// Runs `launch` warmup + repeats times on `stream`. All are queued before the first is waited for, and the flush keeps the device
/// busy meanwhile, so the time of a launch holds no gap between host and device.
Result<Timing> time_launches(Device& device, const std::function<Status()>& launch, Stream stream, const TimingOptions& options);

/// The value that a fraction `q` of the sorted `values` lies below; 0.5 is the median.
double quantile(const std::vector<double>& values, double q);

}  // namespace lathe
