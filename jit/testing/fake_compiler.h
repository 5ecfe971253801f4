// A compiler for tests: its output is a function of the job alone, and it can be slow or fail on demand.
#pragma once

#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <vector>

#include "lathe/jit/compiler.h"

namespace lathe::testing {

/// Thread-safe, its knobs included: they may be turned while calls are in flight.
class FakeCompiler : public Compiler {
 public:
  Result<std::string> identity(const std::string& arch) override;
  Result<CompileOutput> compile(const CompileJob& job) override;
  std::vector<std::string> archs() override;
  std::string describe() override { return "fake compiler"; }

  /// What compile() makes of a job: its digest, so that any reader can tell whether the bytes belong to the job.
  static Bytes binary_of(const CompileJob& job);

  void set_version(std::string version);            ///< changes identity()
  void set_delay(std::chrono::milliseconds delay);  ///< each compile sleeps this long
  void fail_with(Status status);                    ///< each compile fails so; an ok Status ends it
  void set_missing(bool missing);                   ///< identity() and compile() say `unavailable`

  uint64_t compiles() const { return compiles_; }  ///< calls of compile() so far
  std::vector<CompileJob> jobs() const;            ///< in the order they came

 private:
  mutable std::mutex mutex_;
  std::string version_ = "1";  // guarded by mutex_, as the next four
  std::chrono::milliseconds delay_{0};
  Status failure_;
  bool missing_ = false;
  std::vector<CompileJob> jobs_;
  std::atomic<uint64_t> compiles_{0};
};

}  // namespace lathe::testing
