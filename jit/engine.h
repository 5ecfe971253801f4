// The engine: from a kernel request to verified machine code, each distinct request compiled once.
//
// request -> in-memory table -> disk cache -> render -> compile (single flight) -> publish. It knows no kernel family: a family is
// its spec, its folder of templates and its planner.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "lathe/base/bytes.h"
#include "lathe/base/status.h"
#include "lathe/cache/disk_cache.h"
#include "lathe/jit/compiler.h"
#include "lathe/jit/render.h"
#include "lathe/jit/template_store.h"

namespace lathe {

/// What a kernel family asks of the engine. `canonical` decides identity: two requests with equal (family, canonical, arch) must be
/// equal.
struct KernelRequest {
  std::string family;       // folder under templates/kernels; its root is kernels/<family>/kernel.cu
  std::string description;  // for people: the spec's text form
  std::string spec;         // for people: JSON of a spec for which `lathe warm` makes this kernel; empty when there is none
  Bytes canonical;          // every choice that changes generated code, in a fixed byte form
  TemplateData data;        // the same choices as template values
  /// Source that a printer made, without a caller's text unless `unsafe_cuda` says so: files that templates include, by path
  /// relative to templates/.
  std::map<std::string, std::string, std::less<>> printed;
  std::string arch;            // "sm_90a" | "host"
  std::string entry;           // name of the extern "C" kernel
  uint32_t block_threads = 0;  // launch facts, checked against the arch and kept with the binary
  uint32_t shared_bytes = 0;   // dynamic shared memory
  /// `printed` holds CUDA text of the caller's, who asked for that in this call. Refused unless EngineOptions::unsafe_cuda.
  bool unsafe_cuda = false;
};

/// Machine code and its facts. Immutable; shared between threads and devices.
struct Artifact {
  std::string key;      // full key material (binary); equal keys mean equal code
  std::string key_hex;  // XXH3-128 of key, for people and file names
  std::string family, description, arch, entry, compiler;
  uint32_t block_threads = 0, shared_bytes = 0;
  int registers = 0, spill_bytes = 0;
  int64_t ptx_bytes = 0;
  double compile_ms = 0;
  bool unsafe_cuda = false;  // made of KernelRequest::unsafe_cuda; marked in the cache
  Bytes binary;
};
using ArtifactPtr = std::shared_ptr<const Artifact>;

/// Whether LATHE_JIT, read now, allows compiling. A value that is neither on nor off counts as off, with a warning.
bool jit_of_environment();

struct EngineOptions {
  CacheOptions cache = CacheOptions::from_environment();
  std::shared_ptr<Compiler> compiler;              // null: default_compiler()
  std::shared_ptr<const TemplateStore> templates;  // null: TemplateStore::from_environment()
  bool jit = jit_of_environment();                 // false: only what bundles and the cache have, by whatever compiler it was made
  /// Whether kernels may hold CUDA text of callers (the hooks' unsafe_cuda), which runs with the rights of this process and of the
  /// GPU. Each call must ask for it as well. No knob sets it.
  bool unsafe_cuda = false;
};

struct EngineStats {
  uint64_t memory_hits = 0, disk_hits = 0, misses = 0, compiles = 0, failures = 0;
  double compile_ms = 0;  // summed
  double start_ms = 0;    // summed: starting compiler processes, not in compile_ms
  CacheStats cache;
};

enum class Origin : uint8_t { memory, disk, compiled };

/// Thread-safe. Destroying it while calls are in flight is the caller's mistake.
class Engine {
 public:
  explicit Engine(EngineOptions options = {});
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// The artifact of `request`; concurrent equal requests compile once and share the outcome. A failed compile is remembered in
  /// memory (not on disk), keeps its source for inspection and names it. `origin`, when given, says where the artifact came from.
  /// Without a compiler, or with EngineOptions::jit off, an artifact that any compiler made of the same request serves;
  /// `unavailable` when there is none, naming the kernel and the command that makes it.
  Result<ArtifactPtr> build(const KernelRequest& request, Origin* origin = nullptr);
  /// After a device has refused `refused`, which build() gave: takes it out of the cache and builds anew, once for each request;
  /// after that, and where nothing can be built, a Status says so. Whoever comes later gets the new artifact.
  Result<ArtifactPtr> rebuild(const KernelRequest& request, const ArtifactPtr& refused, Origin* origin = nullptr);
  /// The exact text that would be compiled.
  Result<std::string> source(const KernelRequest& request) const;
  /// The full key material of `request`: canonical bytes, template digest, compiler identity, arch, entry. No paths, no times.
  Result<std::string> key(const KernelRequest& request) const;

  bool jit() const;  ///< EngineOptions::jit
  EngineStats stats() const;
  const DiskCache& cache() const;
  Compiler& compiler() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lathe
