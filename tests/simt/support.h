// Small kernels, written in the test itself against the device primitives, on the host executor.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lathe/runtime/device.h"

namespace lathe::testing {

/// What every kernel of these tests takes; a template declares the same with `kArgs`.
struct alignas(64) Args {
  const void* in = nullptr;
  void* out = nullptr;
  void* work = nullptr;
  uint32_t n = 0;
};
inline constexpr char kHeader[] = R"(#include "device/primitives.cuh"
using namespace dev;
struct alignas(64) Args { const void* in; void* out; void* work; unsigned n; };
LATHE_DEVICE u32* word(void* base, u32 i) { return static_cast<u32*>(base) + i; }
LATHE_DEVICE const u32* word(const void* base, u32 i) { return static_cast<const u32*>(base) + i; }
)";

/// A template of several kernels, rendered and compiled once.
class Probe {
 public:
  /// `body` follows kHeader.
  explicit Probe(std::string body);
  /// An artifact whose entry is kernel `name`.
  ArtifactPtr artifact(const std::string& name) const;
  /// "templates/kernels/probe/kernel.cu:<line>" of the one line that holds `marker`.
  std::string place(const std::string& marker) const;

 private:
  std::string text_;
  Bytes binary_;
};

/// Vectors that a launch may touch. Input, output, and work, which is shared between blocks.
struct Memory {
  std::vector<uint32_t> in, out, work;
  BufferArg::Use work_use = BufferArg::Use::workspace;
};
struct Shape {
  uint32_t grid = 1, threads = 32, shared = 0;
  bool resident = false;
};
struct Outcome {
  Status status;
  LaunchCounters counters;
};

SimtOptions checked(uint64_t seed = 0);
SimtOptions unchecked(int threads = 1);
/// Runs kernel `name`; `memory` holds what it wrote.
Outcome run(const Probe& probe, const std::string& name, Memory& memory, Shape shape, Device& device, uint32_t n = 0);
Outcome run(const Probe& probe, const std::string& name, Memory& memory, Shape shape, const SimtOptions& options, uint32_t n = 0);

}  // namespace lathe::testing
