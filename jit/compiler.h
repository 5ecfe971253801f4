// Compilers behind one interface: NVRTC in worker processes, NVRTC in this process, the host C++ compiler, and fakes for tests.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lathe/base/bytes.h"
#include "lathe/base/status.h"

namespace lathe {

struct CompileJob {
  std::string source;  // one self-contained translation unit
  std::string name;    // for messages, e.g. "attention"
  std::string arch;    // "sm_90a" | "host"
};

struct CompileOutput {
  Bytes binary;                   // cubin (GPU) or shared object (host)
  std::string log;                // what the compiler said
  double milliseconds = 0;        // inside the compiler
  double start_milliseconds = 0;  // of a process that was started for it, which later jobs use again; not in `milliseconds`
  int registers = 0;              // most of any entry; 0 for the host
  int spill_bytes = 0;            // stores + loads, summed over entries
  int64_t ptx_bytes = 0;
};

/// Thread-safe.
class Compiler {
 public:
  virtual ~Compiler() = default;
  /// Everything about the tool that may change its output: name, version, build, options in order. Part of the compile key; holds
  /// no path and no time. Fails with `unavailable` when the tool is missing, saying where it was looked for.
  virtual Result<std::string> identity(const std::string& arch) = 0;
  /// `compile_failed` with the log's end; `resource_exhausted` when a limit was hit; `unavailable` when the tool is missing;
  /// `unsupported` when it does not list `job.arch` (the message lists what it does).
  virtual Result<CompileOutput> compile(const CompileJob& job) = 0;
  /// Archs the tool can compile for; empty when it is missing.
  virtual std::vector<std::string> archs() = 0;
  /// What was found where, for `lathe env` and reports: e.g. "NVRTC 13.0.88 (/path/libnvrtc.so.13), 2 workers".
  virtual std::string describe() = 0;
};

struct NvrtcOptions {
  std::string library;                      // empty: LATHE_NVRTC, an installed toolkit, then the Python wheels
  std::string worker;                       // empty: LATHE_WORKER, then lathe-compile-worker beside the library or program
  int workers = 2;                          // processes at most, started when needed
  int timeout_ms = 120'000;                 // of one compile
  int64_t memory_bytes = int64_t{4} << 30;  // address space of a worker
  int64_t room_bytes = int64_t{512} << 20;  // memory that must be free for one more worker beside others
  bool in_process = false;                  // LATHE_COMPILE=inprocess: a crash of NVRTC is a crash of this process
};

std::shared_ptr<Compiler> nvrtc_compiler(NvrtcOptions options = {});
/// The system C++ compiler for the host executor (LATHE_CXX, c++, g++, clang++).
std::shared_ptr<Compiler> host_compiler();
/// host_compiler() for "host", nvrtc_compiler(gpu) for the rest.
std::shared_ptr<Compiler> default_compiler(NvrtcOptions gpu = {});

}  // namespace lathe
