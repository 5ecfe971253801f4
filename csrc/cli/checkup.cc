#include "checkup.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "lathe/base/knobs.h"
#include "lathe/base/log.h"
#include "lathe/jit/compiler.h"
#include "lathe/jit/engine.h"
#include "lathe/jit/nvrtc_find.h"
#include "lathe/jit/worker/free_memory.h"
#include "lathe/runtime/device.h"
#include "lathe/spec/text.h"
#include "table.h"

namespace lathe::cli {
namespace {

constexpr int64_t kLittleMemory = int64_t{1} << 30;

class Doctor {
 public:
  Checkup run() {
    const bool gpu_compiler = compile("NVRTC", *nvrtc_compiler(), gpu_arch(), "__global__ void checkup(int* x) { *x = 1; }\n",
                                      "install a CUDA toolkit, or the Python package nvidia-cuda-nvrtc, or set LATHE_NVRTC");
    look_at_worker();
    const bool host_compiler_works = compile("host compiler", *host_compiler(), "host",
                                             "extern \"C\" int checkup() { return 1; }\n", "install g++, or set LATHE_CXX");
    look_at_gpu();
    const bool cached = look_at_cache(), bundled = look_at_bundles();
    const bool jit = look_at_jit();
    look_at_memory();
    look_at_knobs();
    // Without a compiler, what was compiled before may serve.
    out_.gpu = device_ != nullptr && ((gpu_compiler && jit) || cached || bundled);
    out_.host = (host_compiler_works && jit) || cached || bundled;
    return std::move(out_);
  }

 private:
  void add(std::string part, Health health, std::string found, std::string todo = {}) {
    out_.findings.push_back({std::move(part), health, std::move(found), std::move(todo)});
  }

  std::string gpu_arch() {
    auto device = cuda_device(0);
    device_trouble_ = device.status();
    if (!device.ok()) return "sm_80";
    device_ = *std::move(device);
    return device_->info().arch;
  }

  bool compile(const char* part, Compiler& compiler, const std::string& arch, const char* source, const char* todo) {
    if (const auto identity = compiler.identity(arch); !identity.ok()) {
      add(part, Health::missing, identity.status().message(), todo);
      return false;
    }
    const Result<CompileOutput> output = compiler.compile({source, "checkup", arch});
    if (!output.ok()) {
      add(part, Health::missing, compiler.describe() + "; " + output.status().to_string(),
          output.status().code() == Code::unsupported ? "install a newer one" : todo);
      return false;
    }
    std::string found = fmt::format("{}; a kernel for {} in {}", compiler.describe(), arch, in_ms(output->milliseconds));
    if (output->start_milliseconds > 0) found += fmt::format(", and {} to start", in_ms(output->start_milliseconds));
    add(part, Health::ok, std::move(found));
    return true;
  }

  void look_at_worker() {
    const std::string worker = find_compile_worker({});
    if (knob("LATHE_COMPILE") == "inprocess") {
      add("compile worker", Health::note, "not used: LATHE_COMPILE=inprocess",
          "unset it, unless a crash of NVRTC may end the program");
    } else if (worker.empty()) {
      add("compile worker", Health::missing, "no lathe-compile-worker beside the library: NVRTC runs inside this process",
          "put the program there, or set LATHE_WORKER to it");
    } else {
      add("compile worker", Health::ok, worker);
    }
  }

  void look_at_gpu() {
    if (device_ == nullptr) {
      add("GPU", Health::missing, device_trouble_.message(),
          "install NVIDIA's driver, or use the host executor (--target host), which is for correctness");
      return;
    }
    const DeviceInfo& info = device_->info();
    add("GPU", Health::ok, fmt::format("{}, {}, driver {}", info.name, info.arch, info.driver));
  }

  // These say whether kernels are there already.
  bool look_at_cache() {
    const CacheOptions options = CacheOptions::from_environment();
    CacheOptions alone = options;
    alone.bundles.clear();
    const DiskCache cache(alone);
    if (!cache.on_disk()) {
      const bool wanted = options.mode != CacheMode::off;
      add("kernel cache", wanted ? Health::missing : Health::note,
          (cache.root().empty() ? "" : cache.root() + ": ") + cache.why_off(),
          wanted ? "set LATHE_CACHE_DIR to a folder of your own; till then each process compiles for itself"
                 : "unset LATHE_CACHE_MODE to keep kernels");
      return false;
    }
    const size_t entries = cache.list().size();
    std::string found = fmt::format("{}, {} {}", cache.root(), entries, entries == 1 ? "entry" : "entries");
    if (cache.writable()) {
      add("kernel cache", Health::ok, std::move(found));
    } else {
      add("kernel cache", Health::note, found + ", read only", "make it writable, or set LATHE_CACHE_DIR, to keep new kernels");
    }
    return entries > 0;
  }

  bool look_at_bundles() {
    CacheOptions options = CacheOptions::from_environment();
    options.mode = CacheMode::off;
    const DiskCache cache(options);
    for (const Bundle& bundle : cache.bundles()) {
      add("bundle", Health::ok, fmt::format("{}, {}", bundle.path(), plural(bundle.items().size(), "kernel")));
    }
    for (const Status& trouble : cache.bundle_troubles()) {
      add("bundle", Health::missing, trouble.to_string(), "make it anew with lathe warm, or take it out of LATHE_BUNDLE");
    }
    return !cache.bundles().empty();
  }

  bool look_at_jit() {
    if (jit_of_environment()) return true;
    add("compiling", Health::note, "LATHE_JIT forbids it: only what bundles and the cache hold is used",
        "set LATHE_JIT=on to compile");
    return false;
  }

  void look_at_memory() {
    const std::optional<int64_t> free = free_memory();
    if (free && *free < kLittleMemory) {
      add("memory", Health::note, in_bytes(static_cast<uint64_t>(*free)) + " are free", "compiles run one at a time below 512 MB");
    }
  }

  // A name that is not in the table is a slip of the pen.
  void look_at_knobs() {
    for (char** at = environ; *at != nullptr; ++at) {
      const std::string_view entry = *at, name = entry.substr(0, entry.find('='));
      if (!name.starts_with("LATHE_") || name.starts_with("LATHE_TEST_")) continue;
      if (std::ranges::any_of(knobs(), [&](const Knob& knob) { return name == knob.name; })) continue;
      add("knobs", Health::note, fields::shown(name) + " is no knob", "README.md lists them");
    }
  }

  Checkup out_;
  std::shared_ptr<Device> device_;
  Status device_trouble_;
};

}  // namespace

Checkup check_up() {
  // Every warning is a finding here.
  set_log_callback([](LogLevel, std::string_view) {});
  Checkup out = Doctor().run();
  set_log_callback({});
  return out;
}

}  // namespace lathe::cli
