#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <numeric>
#include <thread>

#include "lathe/arch/traits.h"
#include "lathe/base/version.h"
#include "lathe/runtime/device.h"
#include "lathe/runtime/simt/api.h"
#include "lathe/runtime/simt/module.h"
#include "lathe/runtime/simt/report.h"
#include "lathe/runtime/simt/scheduler.h"

namespace lathe {
namespace {

using simt::Grid;
using simt::Module;
using simt::Worker;

constexpr uint32_t kCheckedResident = 4;  // blocks at a time, so that their order can differ from seed to seed
constexpr size_t kMaxParams = 4096;
constexpr size_t kAlignment = 1024;

class HostKernel : public Kernel {
 public:
  HostKernel(ArtifactPtr artifact, std::shared_ptr<const Module> module)
      : Kernel(std::move(artifact)), module_(std::move(module)) {}
  const Module& module() const { return *module_; }

 private:
  std::shared_ptr<const Module> module_;
};

// Work is done when the call that queues it returns.
class HostFence final : public Fence {
 public:
  Status record(Stream) override { return {}; }
  Result<bool> passed() const override { return true; }
  Status wait() const override { return {}; }
};

struct alignas(64) Params {
  std::byte bytes[kMaxParams];
};

class HostDevice : public Device {
 public:
  explicit HostDevice(SimtOptions options) : options_(options) {
    info_.name = "host executor";
    info_.arch = "host";
    info_.num_sms = options.num_sms;
    info_.max_shared_bytes = arch_traits("host")->max_shared_bytes;
    info_.driver = std::string("lathe ") + version();
    if (options_.threads <= 0) options_.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    if (options_.check) options_.threads = 1;
  }

  const DeviceInfo& info() const override { return info_; }
  Result<KernelPtr> load(const ArtifactPtr& artifact) override;
  Status launch(const Kernel& kernel, const Launch& launch, Stream stream) override;

  Result<std::shared_ptr<std::byte>> allocate(size_t bytes) override;
  Status copy_in(void* device, const void* host, size_t bytes, Stream) override { return copy(device, host, bytes); }
  Status copy_out(void* host, const void* device, size_t bytes, Stream) override { return copy(host, device, bytes); }
  Status fill(void* device, uint8_t value, size_t bytes, Stream) override {
    if (bytes != 0) std::memset(device, value, bytes);
    return {};
  }
  Status synchronize(Stream) override { return {}; }
  Result<std::shared_ptr<std::byte>> allocate_host(size_t bytes) override { return allocate(bytes); }
  Result<std::unique_ptr<Fence>> make_fence() override { return std::unique_ptr<Fence>(std::make_unique<HostFence>()); }
  Result<bool> capturing(Stream) override { return false; }

  LaunchCounters counters() const override {
    std::lock_guard lock(mutex_);
    auto at = counters_.find(std::this_thread::get_id());
    return at == counters_.end() ? LaunchCounters{} : at->second;
  }
  uint64_t modules() const override {
    std::lock_guard lock(mutex_);
    return std::count_if(loaded_.begin(), loaded_.end(), [](const auto& entry) { return !entry.second.expired(); });
  }

 private:
  static Status copy(void* to, const void* from, size_t bytes) {
    if (bytes != 0) std::memcpy(to, from, bytes);
    return {};
  }
  Status validate(const HostKernel& kernel, const Launch& launch) const;
  Status run(Grid& grid, std::vector<std::unique_ptr<Worker>>& workers) const;
  std::vector<std::unique_ptr<Worker>> borrow_workers(size_t count);
  void keep(std::vector<std::unique_ptr<Worker>> workers, const Launch& launch);

  SimtOptions options_;
  DeviceInfo info_;
  mutable std::mutex mutex_;                                   // of all below
  std::map<std::string, std::weak_ptr<const Kernel>> loaded_;  // by key
  std::vector<std::unique_ptr<Worker>> idle_;
  std::map<std::thread::id, LaunchCounters> counters_;
};

Result<KernelPtr> HostDevice::load(const ArtifactPtr& artifact) {
  if (artifact->arch != "host") return invalid_argument("artifact", "is built for " + artifact->arch + "; this device runs host");
  std::lock_guard lock(mutex_);
  std::erase_if(loaded_, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<const Kernel>& known = loaded_[artifact->key];
  if (KernelPtr kernel = known.lock()) return kernel;
  auto module = Module::load(artifact->binary, artifact->entry, simt::simt_api(options_.check));
  if (!module) return Status(module.status().code(), module.status().message(), artifact->description);
  KernelPtr kernel = std::make_shared<HostKernel>(artifact, *std::move(module));
  known = kernel;
  return kernel;
}

Result<std::shared_ptr<std::byte>> HostDevice::allocate(size_t bytes) {
  constexpr int kPoison = 0xff;
  if (bytes > SIZE_MAX - kAlignment) return invalid_argument("bytes", fmt::format("is {}; no memory is that large", bytes));
  const size_t size = std::max(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(kAlignment, size));
  if (memory == nullptr) return Status(Code::resource_exhausted, fmt::format("no memory for {} bytes", bytes), "host executor");
  if (options_.check) std::memset(memory, kPoison, size);
  return std::shared_ptr<std::byte>(memory, [](std::byte* p) { std::free(p); });
}

Status HostDevice::validate(const HostKernel& kernel, const Launch& launch) const {
  Problems problems;
  const Artifact& artifact = *kernel.artifact();
  auto one = [](const Dim3& d) { return d.y == 1 && d.z == 1; };
  auto text = [](const Dim3& d) { return fmt::format("is {} x {} x {}", d.x, d.y, d.z); };
  if (launch.grid.x == 0 || !one(launch.grid)) problems.add("grid", text(launch.grid) + "; it must be n x 1 x 1");
  if (launch.cluster.x != 1 || !one(launch.cluster))
    problems.add("cluster", text(launch.cluster) + "; the host executor runs 1 x 1 x 1");
  if (launch.block.x == 0 || launch.block.x % simt::kLanes != 0 || launch.block.x > simt::kLanes * simt::kMaxWarps ||
      !one(launch.block)) {
    problems.add("block", text(launch.block) + "; it must be n x 1 x 1, n a multiple of 32 up to 1024");
  } else if (artifact.block_threads != 0 && launch.block.x != artifact.block_threads) {
    problems.add("block", fmt::format("{}; the kernel is built for {}", text(launch.block), artifact.block_threads));
  }
  if (launch.shared_bytes > static_cast<uint32_t>(info_.max_shared_bytes)) {
    problems.add("shared_bytes", fmt::format("is {}; at most {}", launch.shared_bytes, info_.max_shared_bytes));
  }
  if (launch.params.size() > kMaxParams)
    problems.add("params", fmt::format("has {} bytes; at most {}", launch.params.size(), kMaxParams));
  return problems.status();
}

// Workers outlive launches: their stacks, shared memory and shadows are used again.
std::vector<std::unique_ptr<Worker>> HostDevice::borrow_workers(size_t count) {
  std::vector<std::unique_ptr<Worker>> out;
  std::lock_guard lock(mutex_);
  while (out.size() < count && !idle_.empty()) {
    out.push_back(std::move(idle_.back()));
    idle_.pop_back();
  }
  while (out.size() < count) out.push_back(std::make_unique<Worker>());
  return out;
}

void HostDevice::keep(std::vector<std::unique_ptr<Worker>> workers, const Launch& launch) {
  LaunchCounters sum;
  for (const BufferArg& buffer : launch.buffers) sum.tensors.push_back({buffer.name, 0, 0});
  for (const auto& worker : workers) {
    sum.matrix_instructions += worker->counters.matrix_instructions;
    sum.idle_matrix_instructions += worker->counters.idle_matrix_instructions;
    sum.block_barriers += worker->counters.block_barriers;
    sum.warp_collectives += worker->counters.warp_collectives;
    sum.shared_accesses += worker->counters.shared_accesses;
    sum.shared_bank_conflicts += worker->counters.shared_bank_conflicts;
    sum.async_copies += worker->counters.async_copies;
    for (size_t i = 0; i < sum.tensors.size(); ++i) {
      sum.tensors[i].bytes_read += worker->traffic.read[i];
      sum.tensors[i].bytes_written += worker->traffic.written[i];
    }
  }
  std::lock_guard lock(mutex_);
  counters_[std::this_thread::get_id()] = std::move(sum);
  for (auto& worker : workers) idle_.push_back(std::move(worker));
}

Status HostDevice::run(Grid& grid, std::vector<std::unique_ptr<Worker>>& workers) const {
  const uint32_t resident = grid.resident ? grid.blocks : grid.check ? std::min(kCheckedResident, grid.blocks) : 1;
  std::vector<Status> outcomes(workers.size());
  auto work = [&](size_t i) { outcomes[i] = simt::run_blocks(*workers[i], grid, resident); };
  std::vector<std::thread> others;
  for (size_t i = 1; i < workers.size(); ++i) others.emplace_back(work, i);
  work(0);
  for (std::thread& thread : others) thread.join();
  for (Status& outcome : outcomes) {
    if (!outcome.ok()) return std::move(outcome);
  }
  return {};
}

Status HostDevice::launch(const Kernel& kernel, const Launch& launch, Stream) {
  const auto& host = dynamic_cast<const HostKernel&>(kernel);
  LATHE_TRY(validate(host, launch));
  Params params{};
  std::copy(launch.params.begin(), launch.params.end(), params.bytes);

  Grid grid;
  grid.module = &host.module();
  grid.entry = host.module().entry();
  grid.params = params.bytes;
  grid.blocks = launch.grid.x;
  grid.warps = launch.block.x / simt::kLanes;
  grid.shared_bytes = launch.shared_bytes;
  grid.check = options_.check;
  grid.resident = launch.resident_grid;
  grid.memory.reset(launch.buffers, options_.check);
  std::mt19937_64 random(options_.seed);
  grid.order.resize(grid.blocks);
  std::iota(grid.order.begin(), grid.order.end(), 0);
  std::shuffle(grid.order.begin(), grid.order.end(), random);

  // Blocks that wait for each other stay on one OS thread: only there can a deadlock be told from patience.
  const auto threads = grid.resident ? 1 : std::min(static_cast<uint32_t>(options_.threads), grid.blocks);
  auto workers = borrow_workers(threads);
  for (auto& worker : workers) {
    worker->module_base = host.module().base();
    worker->budget = options_.step_limit;
    worker->random.seed(random());
    worker->counters = {};
    worker->traffic.read.assign(launch.buffers.size(), 0);
    worker->traffic.written.assign(launch.buffers.size(), 0);
  }
  Status status = run(grid, workers);
  keep(std::move(workers), launch);
  if (grid.fault != nullptr) return simt::report(*grid.fault, host.module(), host.artifact()->description);
  return status;
}

}  // namespace

std::shared_ptr<Device> host_device(SimtOptions options) {
  return std::make_shared<HostDevice>(options);
}

}  // namespace lathe
