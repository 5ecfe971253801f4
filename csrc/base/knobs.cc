#include "lathe/base/knobs.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "lathe/base/log.h"

namespace lathe {
namespace {

constexpr std::array kKnobs{
    Knob{"LATHE_BUNDLE", "directories, separated by :", "",
         "Bundles of compiled kernels, looked into before the cache (docs/bundle-format.md)."},
    Knob{"LATHE_CACHE_DIR", "a directory", "$XDG_CACHE_HOME/lathe, else ~/.cache/lathe", "Root of the kernel cache."},
    Knob{"LATHE_CACHE_FSYNC", "auto | on | off", "auto",
         "Whether an entry is on the disk before it gets its name; auto: on network file systems."},
    Knob{"LATHE_CACHE_MODE", "rw | ro | off", "rw", "Whether the cache on disk is read and written."},
    Knob{"LATHE_CACHE_SHARED", "0 | 1", "0", "Accept a cache root that the group may write."},
    Knob{"LATHE_CACHE_SIZE", "bytes, or with K, M, G", "2G", "Size over which the cache is trimmed; 0: never."},
    Knob{"LATHE_COMPILE", "worker | inprocess", "worker", "Where NVRTC runs: in worker processes, or unprotected in this one."},
    Knob{"LATHE_COSTS", "a file", "estimates for the arch",
         "The planner's costs, as `lathe calibrate` measured them on this device."},
    Knob{"LATHE_CUDA_DRIVER", "a library", "libcuda.so.1", "The CUDA driver to open."},
    Knob{"LATHE_CXX", "a program", "c++, else g++, else clang++", "The C++ compiler of the host target."},
    Knob{"LATHE_DEBUG", "0 | 1 | 2 | 3", "1",
         "0: warnings and errors; 1: and each compile, with why it was due; 2: and what is found in the cache; 3: and keep every "
         "rendered source."},
    Knob{"LATHE_IGNORE_TOOLKIT", "0 | 1", "0", "Pass over an installed CUDA toolkit; use the Python wheels' NVRTC."},
    Knob{"LATHE_JIT", "on | off", "on", "off: nothing is compiled; kernels come from bundles and the cache alone."},
    Knob{"LATHE_KEEP_DIR", "a directory", "lathe-failed below the cache root", "Where sources of failed compiles are kept."},
    Knob{"LATHE_NVRTC", "a library", "toolkit, then the Python wheels", "The NVRTC library to open."},
    Knob{"LATHE_NVTX", "0 | 1 | a library", "0",
         "Ranges for Nsight Systems around compiles, plans and launches, with their shapes; 1: by libnvtx3interop.so.1 as the "
         "loader finds it."},
    Knob{"LATHE_SIMT_CHECK", "0 | 1", "0", "Host executor: find races, uninitialised reads, bad addresses and divergent barriers."},
    Knob{"LATHE_SIMT_SEED", "a whole number", "0", "Host executor: seed of the order of threads, blocks and late copies."},
    Knob{"LATHE_SIMT_THREADS", "a whole number", "number of cores",
         "Host executor: operating-system threads (1 under LATHE_SIMT_CHECK)."},
    Knob{"LATHE_TEMPLATE_DIR", "a directory", "the templates inside the library", "Read templates from here, for development."},
    Knob{"LATHE_TRACE_DIR", "a directory", "", "Folder of request traces for the demo and the benches."},
    Knob{"LATHE_WORKER", "a program", "lathe-compile-worker beside the library", "The compile worker to start."},
};

const char* value_of(const char* name) {
  bool known = std::any_of(kKnobs.begin(), kKnobs.end(), [&](const Knob& k) { return std::strcmp(k.name, name) == 0; });
  if (!known) {
    std::fprintf(stderr, "lathe: knob %s is not in the table of csrc/base/knobs.cc\n", name);
    std::abort();
  }
  return secure_getenv(name);
}

}  // namespace

std::span<const Knob> knobs() {
  return kKnobs;
}

std::optional<std::string> knob(const char* name) {
  const char* value = value_of(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

std::optional<long long> knob_int(const char* name) {
  auto text = knob(name);
  if (!text) return std::nullopt;
  long long number = 0;
  const char* end = text->data() + text->size();
  auto [stop, error] = std::from_chars(text->data(), end, number);
  if (error != std::errc() || stop != end) {
    warn_once(name, std::string(name) + "=" + *text + " is not a whole number: ignored");
    return std::nullopt;
  }
  return number;
}

bool knob_on(const char* name) {
  auto text = knob(name);
  return text && *text != "0" && *text != "off" && *text != "false" && *text != "no";
}

}  // namespace lathe
