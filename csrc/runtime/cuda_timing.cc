#include "lathe/runtime/cuda_timing.h"

#include <algorithm>
#include <chrono>

namespace lathe {

Result<Timing> time_launches(Device& device, const std::function<Status()>& launch, Stream stream, const TimingOptions& options) {
  using Clock = std::chrono::steady_clock;
  auto flush = device.allocate(options.flush_bytes);
  LATHE_TRY(flush);
  std::vector<std::pair<CudaEvent, CudaEvent>> events;
  for (int i = 0; i < options.repeats; ++i) {
    auto start = CudaEvent::create(device), stop = CudaEvent::create(device);
    LATHE_TRY(start);
    LATHE_TRY(stop);
    events.emplace_back(*std::move(start), *std::move(stop));
  }
  for (int i = 0; i < options.warmup; ++i) LATHE_TRY(launch());
  LATHE_TRY(device.synchronize(stream));

  Timing out;
  for (auto& [start, stop] : events) {
    LATHE_TRY(device.fill(flush->get(), static_cast<uint8_t>(out.host_us.size()), options.flush_bytes, stream));
    LATHE_TRY(start.record(stream));
    const Clock::time_point before = Clock::now();
    LATHE_TRY(launch());
    out.host_us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - before).count());
    LATHE_TRY(stop.record(stream));
  }
  LATHE_TRY(device.synchronize(stream));
  for (auto& [start, stop] : events) {
    auto ms = CudaEvent::elapsed_ms(start, stop);
    LATHE_TRY(ms);
    out.device_us.push_back(double{*ms} * 1000);
  }
  std::sort(out.device_us.begin(), out.device_us.end());
  std::sort(out.host_us.begin(), out.host_us.end());
  return out;
}

double quantile(const std::vector<double>& values, double q) {
  if (values.empty()) return 0;
  return values[std::min(values.size() - 1, static_cast<size_t>(q * static_cast<double>(values.size())))];
}

}  // namespace lathe
