// One GPU's primary context as everything on the CUDA side shares it: who may call, what an error means, and that the first fatal
// one is kept.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <mutex>

#include "lathe/base/status.h"
#include "lathe/runtime/driver.h"

namespace lathe::cuda {

/// Thread-safe. Holds one reference to the primary context of a GPU; kernels, memory, streams and the device share it, so any of
/// them may outlive the others. In a process forked from the one that opened it, every call is refused and nothing of the driver is
/// touched.
class Context {
 public:
  /// Retains the primary context of GPU `ordinal` (the one that the CUDA runtime and PyTorch use). `unavailable` without such a
  /// GPU.
  static Result<std::shared_ptr<Context>> open(int ordinal);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const Driver& driver() const { return *driver_; }
  int device() const { return device_; }
  CUctx_st* handle() const { return context_; }

  /// OK, or why no call may be made: the process was forked, or the device was lost (the first error, repeated).
  Status usable() const;
  /// Turns what driver call `call` returned into a Status. A sticky error is kept: from then on usable() repeats it.
  Status check(int error, const char* call) const;
  /// Makes sure that the calling thread may launch. It changes nothing when this context is current, makes it current when none is
  /// (as the CUDA runtime does), and refuses when another is: a launch never switches contexts behind its caller's back.
  Status enter() const;

 private:
  Context() = default;

  std::shared_ptr<const Driver> driver_;
  CUctx_st* context_ = nullptr;
  int device_ = 0;
  pid_t process_ = 0;
  mutable std::atomic<bool> lost_{false};
  mutable std::mutex mutex_;  // guards first_error_
  mutable Status first_error_;
};

/// Makes a context current for a scope and restores what was there: for everything but launches, and for destructors, which run on
/// any thread. Costs one call when it is current already.
class ScopedContext {
 public:
  explicit ScopedContext(const Context& context);
  ~ScopedContext();
  ScopedContext(const ScopedContext&) = delete;
  ScopedContext& operator=(const ScopedContext&) = delete;

  const Status& status() const { return status_; }

 private:
  const Context& context_;
  bool pushed_ = false;
  Status status_;
};

}  // namespace lathe::cuda
