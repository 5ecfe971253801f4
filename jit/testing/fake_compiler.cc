#include "lathe/jit_testing/fake_compiler.h"

#include <span>
#include <thread>

#include "lathe/cache/entry.h"

namespace lathe::testing {
namespace {

Status missing() {
  return {Code::unavailable, "the fake compiler is set missing", "fake compiler"};
}

}  // namespace

Result<std::string> FakeCompiler::identity(const std::string& arch) {
  std::lock_guard lock(mutex_);
  if (missing_) return missing();
  return "fake " + version_ + " for " + arch;
}

Result<CompileOutput> FakeCompiler::compile(const CompileJob& job) {
  ++compiles_;
  std::chrono::milliseconds delay;
  Status failure;
  {
    std::lock_guard lock(mutex_);
    if (missing_) return missing();
    jobs_.push_back(job);
    delay = delay_;
    failure = failure_;
  }
  std::this_thread::sleep_for(delay);
  LATHE_TRY(failure);
  CompileOutput out;
  out.binary = binary_of(job);
  out.milliseconds = static_cast<double>(delay.count());
  out.registers = 32;
  return out;
}

std::vector<std::string> FakeCompiler::archs() {
  return {"host", "sm_80", "sm_89", "sm_90a", "sm_100a", "sm_120a"};
}

Bytes FakeCompiler::binary_of(const CompileJob& job) {
  std::string text = "fake binary " + job.arch + " " + digest_of(std::as_bytes(std::span(job.source))).hex();
  auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

void FakeCompiler::set_version(std::string version) {
  std::lock_guard lock(mutex_);
  version_ = std::move(version);
}

void FakeCompiler::set_delay(std::chrono::milliseconds delay) {
  std::lock_guard lock(mutex_);
  delay_ = delay;
}

void FakeCompiler::fail_with(Status status) {
  std::lock_guard lock(mutex_);
  failure_ = std::move(status);
}

void FakeCompiler::set_missing(bool missing) {
  std::lock_guard lock(mutex_);
  missing_ = missing;
}

std::vector<CompileJob> FakeCompiler::jobs() const {
  std::lock_guard lock(mutex_);
  return jobs_;
}

}  // namespace lathe::testing
