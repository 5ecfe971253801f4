// Places where kernels run: a GPU through the CUDA driver, the host executor, or a fake for tests. A kernel launch means the same
// on each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/arch/traits.h"
#include "lathe/base/bytes.h"
#include "lathe/base/status.h"
#include "lathe/jit/engine.h"

namespace lathe {

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
};

/// A range of device memory that a launch may touch. GPUs ignore these; the host executor checks every access against them.
struct BufferArg {
  enum class Use : uint8_t {
    input,      // only read
    output,     // written; what this launch has written may be read back
    workspace,  // shared between blocks, with contents from before the launch (counters)
    scratch,    // shared between blocks, without: reading what this launch has not written is a fault
  };
  const char* name = "";  // a literal: "q", "kv_indices", ...
  const void* address = nullptr;
  size_t bytes = 0;
  Use use = Use::input;
};

/// Everything about a launch. It holds no per-batch number: those are read from the plan in device memory, so that one captured
/// launch serves every batch.
struct Launch {
  Dim3 grid, cluster, block;
  uint32_t shared_bytes = 0;
  bool resident_grid = false;         // the kernel's blocks wait for each other: all must be resident
  std::span<const std::byte> params;  // 64-byte aligned, at most 4096 bytes; copied by launch()
  std::span<const BufferArg> buffers;
};

/// A caller's stream; null is the default stream. The host executor runs at once.
using Stream = void*;

struct DeviceInfo {
  std::string name;  // "NVIDIA H100 80GB HBM3", "host executor"
  std::string arch;  // "sm_90a", "host"
  int32_t num_sms = 0;
  int32_t max_shared_bytes = 0;
  std::string driver;  // version, for people
};

/// A kernel loaded on one device. Immutable; keeps its module loaded while it lives.
class Kernel {
 public:
  virtual ~Kernel() = default;
  const ArtifactPtr& artifact() const { return artifact_; }

 protected:
  explicit Kernel(ArtifactPtr artifact) : artifact_(std::move(artifact)) {}

 private:
  ArtifactPtr artifact_;
};
using KernelPtr = std::shared_ptr<const Kernel>;

/// A point on a stream that can be asked about. One thread at a time; keeps its device's context alive.
class Fence {
 public:
  virtual ~Fence() = default;
  /// Marks what was queued on `stream` so far, in place of what was marked before.
  virtual Status record(Stream stream) = 0;
  /// Whether the device has finished what is marked; true when nothing is. Never waits.
  virtual Result<bool> passed() const = 0;
  /// Waits until it has.
  virtual Status wait() const = 0;
};

/// What the host executor counted in one launch (all zero on a GPU).
struct LaunchCounters {
  struct Tensor {
    std::string name;
    uint64_t bytes_read = 0, bytes_written = 0;
  };
  std::vector<Tensor> tensors;
  uint64_t matrix_instructions = 0;
  /// Of these, how many had nothing but zeros for their left operand and so did nothing: weights of keys that no row sees, where a
  /// tile is masked whole, and queries that do not exist, where the rows of a tile are left over.
  uint64_t idle_matrix_instructions = 0;
  uint64_t block_barriers = 0, warp_collectives = 0;
  uint64_t shared_accesses = 0;        // warp-wide, plain and ldmatrix
  uint64_t shared_bank_conflicts = 0;  // extra passes over the ideal, summed
  uint64_t async_copies = 0;
};

/// Thread-safe.
class Device {
 public:
  virtual ~Device() = default;
  virtual const DeviceInfo& info() const = 0;

  /// Whether this device can load what a compiler of this identity (Compiler::identity) makes; asked before anything is compiled.
  /// `unavailable`, naming both, when the driver is older than the major version of the NVRTC.
  virtual Status accepts(std::string_view compiler) const {
    (void)compiler;
    return {};
  }
  /// Loads verified bytes; the same artifact is loaded once per device while any handle lives.
  virtual Result<KernelPtr> load(const ArtifactPtr& artifact) = 0;
  /// Queues one launch on `stream`; nothing else: no allocation on the device, no synchronisation. On the host executor it runs to
  /// the end, and a fault (race, bad address, deadlock, ...) is `launch_failed` naming template file and line, block and thread.
  virtual Status launch(const Kernel& kernel, const Launch& launch, Stream stream) = 0;

  /// Memory, copies and waiting, for plans, tests and tools. Copies are queued on `stream`.
  virtual Result<std::shared_ptr<std::byte>> allocate(size_t bytes) = 0;  // 1024-byte aligned device memory
  virtual Status copy_in(void* device, const void* host, size_t bytes, Stream stream) = 0;
  virtual Status copy_out(void* host, const void* device, size_t bytes, Stream stream) = 0;
  virtual Status fill(void* device, uint8_t value, size_t bytes, Stream stream) = 0;
  virtual Status synchronize(Stream stream) = 0;

  /// What staging needs. Host memory is page-locked and 64-byte aligned: a copy from it is queued without waiting and reads it
  /// later, so it must outlive the copy. Neither of the first two may be called while the calling thread captures a stream.
  virtual Result<std::shared_ptr<std::byte>> allocate_host(size_t bytes) = 0;
  virtual Result<std::unique_ptr<Fence>> make_fence() = 0;
  /// Whether `stream` is being captured into a graph.
  virtual Result<bool> capturing(Stream stream) = 0;

  /// Of the most recent launch by this thread (host executor).
  virtual LaunchCounters counters() const { return {}; }
  /// Modules loaded now.
  virtual uint64_t modules() const = 0;
};

struct SimtOptions {
  uint64_t seed = 0;                    // order of threads, blocks and late copies
  bool check = false;                   // races, uninitialised reads, bounds, divergent barriers
  int threads = 0;                      // operating-system threads; 0: LATHE_SIMT_THREADS or the cores; 1 when checking
  int32_t num_sms = 8;                  // what info() claims
  int64_t step_limit = 20'000'000'000;  // memory accesses, collectives and waits of one OS thread in one launch; more is a fault
  static SimtOptions from_environment();
};

/// The host executor as a device.
std::shared_ptr<Device> host_device(SimtOptions options = SimtOptions::from_environment());

/// GPU `ordinal` through the CUDA driver, opened at run time (LATHE_CUDA_DRIVER). Fails with `unavailable` when there is no driver,
/// it is too old, or there is no such device. Holds a reference to the primary context, the one that the CUDA runtime and PyTorch
/// use. launch() uses the calling thread's current context: it changes nothing when that is this GPU's, makes it current when the
/// thread has none, and refuses when another is current; the other calls restore what was current. After a fatal error every call
/// repeats it
/// (`device_lost`). In a forked child every call is refused. allocate() and load() must not be called while a stream is being
/// captured.
Result<std::shared_ptr<Device>> cuda_device(int ordinal = 0);

}  // namespace lathe
