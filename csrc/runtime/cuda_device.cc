#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>

#include "lathe/runtime/cuda_context.h"
#include "lathe/runtime/cuda_fence.h"
#include "lathe/runtime/cuda_stream.h"
#include "lathe/runtime/device.h"

namespace lathe {
namespace cuda {
namespace {

constexpr size_t kMaxParams = 4096, kParamAlignment = 64, kAllocationAlignment = 1024, kHostAlignment = 64;
constexpr uint32_t kMaxCluster = 8, kMaxThreadsPerBlock = 1024, kPortableShared = 48 * 1024;

/// Shared by a device and its kernels, which may outlive it.
struct Modules {
  std::atomic<uint64_t> loaded{0};
};

class CudaKernel final : public Kernel {
 public:
  CudaKernel(ArtifactPtr artifact, std::shared_ptr<Context> owner, std::shared_ptr<Modules> counter, CUlib_st* handle)
      : Kernel(std::move(artifact)), context(std::move(owner)), modules(std::move(counter)), library(handle) {
    modules->loaded.fetch_add(1);
  }
  ~CudaKernel() override {
    modules->loaded.fetch_sub(1);
    ScopedContext scope(*context);
    if (scope.status().ok()) context->driver().cuLibraryUnload(library);
  }

  const std::shared_ptr<Context> context;
  const std::shared_ptr<Modules> modules;
  CUlib_st* const library;
  CUfunc_st* function = nullptr;
  size_t param_bytes = 0;  // of the kernel's one parameter
};

std::string text(const Dim3& d) {
  return std::to_string(d.x) + "x" + std::to_string(d.y) + "x" + std::to_string(d.z);
}

uint64_t volume(const Dim3& d) {
  return uint64_t{d.x} * d.y * d.z;
}

/// The driver is given a pointer without a length, so a truncated file must not reach it.
Status check_cubin(BytesView binary) {
  struct Header {  // Elf64_Ehdr
    unsigned char ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, program_offset, section_offset;
    uint32_t flags;
    uint16_t header_bytes, program_bytes, programs, section_bytes, sections, names;
  } h;
  auto fits = [&](uint64_t offset, uint64_t bytes) { return offset <= binary.size() && bytes <= binary.size() - offset; };
  if (binary.size() < sizeof h) return invalid_argument("artifact.binary", std::to_string(binary.size()) + " bytes are no cubin");
  std::memcpy(&h, binary.data(), sizeof h);
  if (std::memcmp(h.ident,
                  "\x7f"
                  "ELF\x02",
                  5) != 0)
    return invalid_argument("artifact.binary", "not a 64-bit ELF file, as a cubin is");
  if (!fits(h.section_offset, uint64_t{h.section_bytes} * h.sections) ||
      !fits(h.program_offset, uint64_t{h.program_bytes} * h.programs))
    return invalid_argument("artifact.binary", "the cubin is truncated: " + std::to_string(binary.size()) + " bytes");
  return {};
}

/// Whether machine code for `arch` runs on compute capability `cc`: "sm_90a" on 9.0 alone, "sm_100f" on 10.0 and later 10.x,
/// "sm_80" on 8.x.
bool runs_on(const std::string& arch, int cc) {
  if (arch.rfind("sm_", 0) != 0) return false;
  size_t digits = arch.find_first_not_of("0123456789", 3);
  std::string number = arch.substr(3, digits == std::string::npos ? digits : digits - 3);
  if (number.empty() || number.size() > 4) return false;
  int built_for = std::stoi(number);
  if (digits != std::string::npos && arch.substr(digits) == "a") return built_for == cc;
  return built_for / 10 == cc / 10 && built_for <= cc;
}

class CudaDevice final : public Device {
 public:
  static Result<std::shared_ptr<CudaDevice>> open(int ordinal);

  const std::shared_ptr<Context>& context() const { return context_; }

  const DeviceInfo& info() const override { return info_; }
  Status accepts(std::string_view compiler) const override;
  Result<KernelPtr> load(const ArtifactPtr& artifact) override;
  Status launch(const Kernel& kernel, const Launch& launch, Stream stream) override;
  Result<std::shared_ptr<std::byte>> allocate(size_t bytes) override;
  Status copy_in(void* device, const void* host, size_t bytes, Stream stream) override;
  Status copy_out(void* host, const void* device, size_t bytes, Stream stream) override;
  Status fill(void* device, uint8_t value, size_t bytes, Stream stream) override;
  Status synchronize(Stream stream) override;
  Result<std::shared_ptr<std::byte>> allocate_host(size_t bytes) override;
  Result<std::unique_ptr<Fence>> make_fence() override { return cuda::make_fence(context_); }
  Result<bool> capturing(Stream stream) override;
  uint64_t modules() const override { return modules_->loaded.load(); }

 private:
  Status check_artifact(const Artifact& artifact) const;
  Result<std::shared_ptr<CudaKernel>> load_new(const ArtifactPtr& artifact) const;
  Status resolve(CudaKernel& kernel) const;
  Status check_launch(const CudaKernel& kernel, const Launch& launch) const;
  Status queue(const CudaKernel& kernel, const Launch& launch, Stream stream) const;

  std::shared_ptr<Context> context_;
  std::shared_ptr<Modules> modules_ = std::make_shared<Modules>();
  DeviceInfo info_;
  int capability_ = 0;  // 90 is 9.0
  std::mutex mutex_;    // guards kernels_; held while loading, so that equal artifacts become one module
  std::map<std::string, std::weak_ptr<CudaKernel>> kernels_;
};

Result<std::shared_ptr<CudaDevice>> CudaDevice::open(int ordinal) {
  auto context = Context::open(ordinal);
  LATHE_TRY(context);
  auto device = std::make_shared<CudaDevice>();
  device->context_ = *context;
  const Driver& d = (*context)->driver();
  const int id = (*context)->device();

  char name[256] = {};
  LATHE_TRY((*context)->check(d.cuDeviceGetName(name, sizeof name - 1, id), "cuDeviceGetName"));
  int major = 0, minor = 0, sms = 0, shared = 0;
  for (auto [attribute, value] :
       {std::pair{kCapabilityMajor, &major}, {kCapabilityMinor, &minor}, {kSmCount, &sms}, {kMaxSharedOptIn, &shared}})
    LATHE_TRY((*context)->check(d.cuDeviceGetAttribute(value, attribute, id), "cuDeviceGetAttribute"));
  device->capability_ = major * 10 + minor;
  if (device->capability_ < 80)
    return Status(Code::unsupported,
                  std::string(name) + " has compute capability " + std::to_string(major) + "." + std::to_string(minor) +
                      "; Lathe needs 8.0 or newer",
                  "GPU " + std::to_string(ordinal));
  // From 9.0 on, kernels use instructions that only the arch-specific ("a") target has.
  std::string arch = "sm_" + std::to_string(device->capability_) + (device->capability_ >= 90 ? "a" : "");
  device->info_ = {name, std::move(arch), sms, shared, d.describe()};
  return device;
}

Status CudaDevice::accepts(std::string_view compiler) const {
  const Driver& d = context_->driver();
  int needed = nvrtc_major(compiler);
  if (needed <= d.major()) return {};
  return {Code::unavailable,
          d.describe() + " is older than what it would load: kernels are compiled by " + std::string(compiler) +
              ", which needs a driver of CUDA " + std::to_string(needed) + " or newer",
          info_.name, "update the driver, or name an older NVRTC in LATHE_NVRTC"};
}

Status CudaDevice::check_artifact(const Artifact& artifact) const {
  LATHE_TRY(accepts(artifact.compiler));
  if (!runs_on(artifact.arch, capability_))
    return invalid_argument("artifact.arch", artifact.arch + " does not run on " + info_.name + ", which is " + info_.arch);
  if (artifact.shared_bytes > static_cast<uint32_t>(info_.max_shared_bytes))
    return invalid_argument("artifact.shared_bytes", std::to_string(artifact.shared_bytes) + "; a block of " + info_.name +
                                                         " has at most " + std::to_string(info_.max_shared_bytes));
  if (artifact.block_threads == 0 || artifact.block_threads > kMaxThreadsPerBlock)
    return invalid_argument("artifact.block_threads",
                            std::to_string(artifact.block_threads) + "; allowed is 1.." + std::to_string(kMaxThreadsPerBlock));
  return check_cubin(artifact.binary);
}

Result<KernelPtr> CudaDevice::load(const ArtifactPtr& artifact) {
  LATHE_TRY(context_->usable());
  if (artifact == nullptr) return invalid_argument("artifact", "null");
  LATHE_TRY(check_artifact(*artifact));
  std::lock_guard lock(mutex_);
  std::erase_if(kernels_, [](const auto& entry) { return entry.second.expired(); });
  auto found = kernels_.find(artifact->key);
  if (found != kernels_.end())
    if (auto kernel = found->second.lock()) return KernelPtr(std::move(kernel));
  auto kernel = load_new(artifact);
  LATHE_TRY(kernel);
  kernels_[artifact->key] = *kernel;
  return KernelPtr(*std::move(kernel));
}

Result<std::shared_ptr<CudaKernel>> CudaDevice::load_new(const ArtifactPtr& artifact) const {
  ScopedContext scope(*context_);
  LATHE_TRY(scope.status());
  const Driver& d = context_->driver();
  char log[4096] = {};
  int options[] = {kErrorLog, kErrorLogBytes};
  void* values[] = {log, reinterpret_cast<void*>(sizeof log - 1)};
  CUlib_st* library = nullptr;
  int error = d.cuLibraryLoadData(&library, artifact->binary.data(), options, values, 2, nullptr, nullptr, 0);
  if (error != kSuccess) {
    Status status = context_->check(error, "cuLibraryLoadData");
    if (status.code() == Code::device_lost) return status;
    std::string message = status.message() + "; " + artifact->description + " (" + artifact->arch + ", " +
                          std::to_string(artifact->binary.size()) + " bytes, key " + artifact->key_hex + ", " + artifact->compiler +
                          ") by " + d.describe();
    if (log[0] != '\0') message += "\n" + std::string(log);
    return Status(status.code(), std::move(message), "loading " + artifact->family);
  }
  auto kernel = std::make_shared<CudaKernel>(artifact, context_, modules_, library);
  LATHE_TRY(resolve(*kernel));
  return kernel;
}

/// Finds the entry and settles everything that launch() must not do: shared memory beyond the portable limit, loading of the code
/// (the driver would otherwise do it lazily at the first launch, which a stream capture forbids), and that the launch facts can
/// hold.
Status CudaDevice::resolve(CudaKernel& kernel) const {
  const Driver& d = context_->driver();
  const Artifact& artifact = *kernel.artifact();
  CUkern_st* handle = nullptr;
  if (int error = d.cuLibraryGetKernel(&handle, kernel.library, artifact.entry.c_str()); error != kSuccess) {
    Status status = context_->check(error, "cuLibraryGetKernel");
    return {status.code(), status.message() + "; entry " + artifact.entry, "loading " + artifact.family};
  }
  LATHE_TRY(context_->check(d.cuKernelGetFunction(&kernel.function, handle), "cuKernelGetFunction"));

  int fixed_shared = 0, max_threads = 0;
  LATHE_TRY(context_->check(d.cuFuncGetAttribute(&fixed_shared, kStaticShared, kernel.function), "cuFuncGetAttribute"));
  LATHE_TRY(context_->check(d.cuFuncGetAttribute(&max_threads, kMaxThreads, kernel.function), "cuFuncGetAttribute"));
  if (int64_t{fixed_shared} + artifact.shared_bytes > info_.max_shared_bytes)
    return invalid_argument("artifact.shared_bytes", std::to_string(artifact.shared_bytes) + " and " +
                                                         std::to_string(fixed_shared) + " declared in the code; a block of " +
                                                         info_.name + " has at most " + std::to_string(info_.max_shared_bytes));
  if (static_cast<int64_t>(artifact.block_threads) > max_threads)
    return invalid_argument("artifact.block_threads",
                            std::to_string(artifact.block_threads) + "; the code allows at most " + std::to_string(max_threads));
  if (artifact.shared_bytes > kPortableShared)
    LATHE_TRY(context_->check(d.cuFuncSetAttribute(kernel.function, kMaxDynamicShared, static_cast<int>(artifact.shared_bytes)),
                              "cuFuncSetAttribute"));

  size_t offset = 0, more = 0;
  LATHE_TRY(context_->check(d.cuFuncGetParamInfo(kernel.function, 0, &offset, &kernel.param_bytes), "cuFuncGetParamInfo"));
  if (kernel.param_bytes > kMaxParams || d.cuFuncGetParamInfo(kernel.function, 1, &offset, &more) == kSuccess)
    return invalid_argument("artifact.entry",
                            artifact.entry + " must take one parameter block of at most " + std::to_string(kMaxParams) + " bytes");
  return context_->check(d.cuFuncLoad(kernel.function), "cuFuncLoad");
}

Status CudaDevice::check_launch(const CudaKernel& kernel, const Launch& l) const {
  const Artifact& artifact = *kernel.artifact();
  if (l.params.size() > kMaxParams)
    return invalid_argument("launch.params",
                            std::to_string(l.params.size()) + " bytes; at most " + std::to_string(kMaxParams) + " are allowed");
  if (l.params.size() != kernel.param_bytes)
    return invalid_argument("launch.params", std::to_string(l.params.size()) + " bytes; " + artifact.entry + " takes " +
                                                 std::to_string(kernel.param_bytes));
  if (reinterpret_cast<uintptr_t>(l.params.data()) % kParamAlignment != 0)
    return invalid_argument("launch.params", "the address is not a multiple of " + std::to_string(kParamAlignment));
  if (volume(l.block) != artifact.block_threads)
    return invalid_argument("launch.block", text(l.block) + "; " + artifact.entry + " is built for " +
                                                std::to_string(artifact.block_threads) + " threads");
  if (l.shared_bytes > artifact.shared_bytes)
    return invalid_argument("launch.shared_bytes", std::to_string(l.shared_bytes) + "; " + artifact.entry +
                                                       " was loaded for at most " + std::to_string(artifact.shared_bytes));
  if (l.grid.x == 0 || l.grid.y == 0 || l.grid.z == 0 || l.grid.x > INT32_MAX || l.grid.y > UINT16_MAX || l.grid.z > UINT16_MAX)
    return invalid_argument("launch.grid", text(l.grid) + "; allowed is 1..2147483647 by 1..65535 by 1..65535");
  if (volume(l.cluster) == 1) return {};
  if (capability_ < 90) return invalid_argument("launch.cluster", text(l.cluster) + "; " + info_.arch + " has no clusters");
  if (volume(l.cluster) == 0 || volume(l.cluster) > kMaxCluster)
    return invalid_argument("launch.cluster", text(l.cluster) + "; 1.." + std::to_string(kMaxCluster) + " blocks are allowed");
  if (l.grid.x % l.cluster.x != 0 || l.grid.y % l.cluster.y != 0 || l.grid.z % l.cluster.z != 0)
    return invalid_argument("launch.cluster", text(l.cluster) + " does not divide the grid, " + text(l.grid));
  return {};
}

Status CudaDevice::launch(const Kernel& kernel, const Launch& launch, Stream stream) {
  const auto* own = dynamic_cast<const CudaKernel*>(&kernel);
  if (own == nullptr || own->context != context_) return invalid_argument("kernel", "it was loaded on another device");
  LATHE_TRY(check_launch(*own, launch));
  LATHE_TRY(context_->enter());
  return queue(*own, launch, stream);
}

Status CudaDevice::queue(const CudaKernel& kernel, const Launch& l, Stream stream) const {
  LaunchAttribute attributes[2];
  uint32_t count = 0;
  if (volume(l.cluster) > 1) {
    attributes[count].id = LaunchAttribute::kClusterDimension;
    attributes[count].value[0] = l.cluster.x;
    attributes[count].value[1] = l.cluster.y;
    attributes[count++].value[2] = l.cluster.z;
  }
  if (l.resident_grid) {  // the driver then refuses a grid that does not fit instead of letting it hang
    attributes[count].id = LaunchAttribute::kCooperative;
    attributes[count++].value[0] = 1;
  }
  LaunchConfig config{l.grid.x,   l.grid.y,  l.grid.z,       l.block.x,
                      l.block.y,  l.block.z, l.shared_bytes, static_cast<CUstream_st*>(stream),
                      attributes, count};
  void* parameters[] = {const_cast<std::byte*>(l.params.data())};
  int error = context_->driver().cuLaunchKernelEx(&config, kernel.function, parameters, nullptr);
  if (error == kSuccess) return {};
  Status status = context_->check(error, "cuLaunchKernelEx");
  if (status.code() == Code::device_lost) return status;
  const Artifact& artifact = *kernel.artifact();
  return {status.code(),
          status.message() + "; " + artifact.description + ", grid " + text(l.grid) + ", cluster " + text(l.cluster) + ", block " +
              text(l.block) + ", " + std::to_string(l.shared_bytes) + " bytes of shared memory",
          "launching " + artifact.family};
}

Result<std::shared_ptr<std::byte>> CudaDevice::allocate(size_t bytes) {
  auto padded = checked_add(bytes, kAllocationAlignment);  // the driver promises 256-byte alignment
  if (!padded) return invalid_argument("bytes", std::to_string(bytes) + " is more than can be addressed");
  ScopedContext scope(*context_);
  LATHE_TRY(scope.status());
  DevicePtr base = 0;
  if (int error = context_->driver().cuMemAlloc_v2(&base, *padded); error != kSuccess) {
    Status status = context_->check(error, "cuMemAlloc");
    if (status.code() == Code::device_lost) return status;
    return Status(status.code(), status.message() + "; " + std::to_string(bytes) + " bytes were asked for", status.where());
  }
  auto release = [context = context_, base](std::byte*) {
    ScopedContext owner(*context);
    if (owner.status().ok()) context->driver().cuMemFree_v2(base);
  };
  return std::shared_ptr<std::byte>(reinterpret_cast<std::byte*>(round_up<DevicePtr>(base, kAllocationAlignment)), release);
}

Status CudaDevice::copy_in(void* device, const void* host, size_t bytes, Stream stream) {
  ScopedContext scope(*context_);
  LATHE_TRY(scope.status());
  if (bytes == 0) return {};
  return context_->check(
      context_->driver().cuMemcpyHtoDAsync_v2(reinterpret_cast<DevicePtr>(device), host, bytes, static_cast<CUstream_st*>(stream)),
      "cuMemcpyHtoDAsync");
}

Status CudaDevice::copy_out(void* host, const void* device, size_t bytes, Stream stream) {
  ScopedContext scope(*context_);
  LATHE_TRY(scope.status());
  if (bytes == 0) return {};
  return context_->check(
      context_->driver().cuMemcpyDtoHAsync_v2(host, reinterpret_cast<DevicePtr>(device), bytes, static_cast<CUstream_st*>(stream)),
      "cuMemcpyDtoHAsync");
}

Status CudaDevice::fill(void* device, uint8_t value, size_t bytes, Stream stream) {
  ScopedContext scope(*context_);
  LATHE_TRY(scope.status());
  if (bytes == 0) return {};
  return context_->check(
      context_->driver().cuMemsetD8Async(reinterpret_cast<DevicePtr>(device), value, bytes, static_cast<CUstream_st*>(stream)),
      "cuMemsetD8Async");
}

Status CudaDevice::synchronize(Stream stream) {
  ScopedContext scope(*context_);
  LATHE_TRY(scope.status());
  return context_->check(context_->driver().cuStreamSynchronize(static_cast<CUstream_st*>(stream)), "cuStreamSynchronize");
}

Result<std::shared_ptr<std::byte>> CudaDevice::allocate_host(size_t bytes) {
  auto padded = checked_add(bytes, kHostAlignment);
  if (!padded) return invalid_argument("bytes", std::to_string(bytes) + " is more than can be addressed");
  ScopedContext scope(*context_);
  LATHE_TRY(scope.status());
  void* base = nullptr;
  if (int error = context_->driver().cuMemHostAlloc(&base, *padded, 0); error != kSuccess) {
    Status status = context_->check(error, "cuMemHostAlloc");
    if (status.code() == Code::device_lost) return status;
    return Status(status.code(), status.message() + "; " + std::to_string(bytes) + " page-locked bytes were asked for",
                  status.where());
  }
  auto release = [context = context_, base](std::byte*) {
    ScopedContext owner(*context);
    if (owner.status().ok()) context->driver().cuMemFreeHost(base);
  };
  const auto aligned = round_up<uintptr_t>(reinterpret_cast<uintptr_t>(base), kHostAlignment);
  return std::shared_ptr<std::byte>(reinterpret_cast<std::byte*>(aligned), release);
}

Result<bool> CudaDevice::capturing(Stream stream) {
  ScopedContext scope(*context_);
  LATHE_TRY(scope.status());
  int status = 0;  // CU_STREAM_CAPTURE_STATUS_NONE
  LATHE_TRY(
      context_->check(context_->driver().cuStreamIsCapturing(static_cast<CUstream_st*>(stream), &status), "cuStreamIsCapturing"));
  return status != 0;
}

}  // namespace

std::shared_ptr<Context> context_of(Device& device) {
  auto* own = dynamic_cast<CudaDevice*>(&device);
  return own != nullptr ? own->context() : nullptr;
}

}  // namespace cuda

Result<std::shared_ptr<Device>> cuda_device(int ordinal) {
  auto device = cuda::CudaDevice::open(ordinal);
  LATHE_TRY(device);
  return std::shared_ptr<Device>(*std::move(device));
}

}  // namespace lathe
