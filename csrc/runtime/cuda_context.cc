#include "lathe/runtime/cuda_context.h"

#include <unistd.h>

namespace lathe::cuda {

Result<std::shared_ptr<Context>> Context::open(int ordinal) {
  auto driver = open_driver();
  LATHE_TRY(driver);
  std::shared_ptr<Context> context(new Context);
  context->driver_ = *std::move(driver);
  const Driver& d = *context->driver_;

  int count = 0;
  LATHE_TRY(context->check(d.cuDeviceGetCount(&count), "cuDeviceGetCount"));
  if (ordinal < 0 || ordinal >= count)
    return Status(Code::unavailable,
                  "GPU " + std::to_string(ordinal) + " does not exist: the driver lists " + std::to_string(count), "ordinal",
                  count > 0 ? "use 0.." + std::to_string(count - 1) : "see CUDA_VISIBLE_DEVICES");
  LATHE_TRY(context->check(d.cuDeviceGet(&context->device_, ordinal), "cuDeviceGet"));
  CUctx_st* retained = nullptr;
  LATHE_TRY(context->check(d.cuDevicePrimaryCtxRetain(&retained, context->device_), "cuDevicePrimaryCtxRetain"));
  context->context_ = retained;
  context->process_ = getpid();
  return context;
}

Context::~Context() {
  // In a forked child the reference is the parent's to give back.
  if (context_ != nullptr && process_ == getpid()) driver_->cuDevicePrimaryCtxRelease_v2(device_);
}

Status Context::usable() const {
  // Before any lock: a forked child may have inherited a held one. The call costs about 0.1 µs of a launch's 2 µs or more.
  if (process_ != getpid())
    return {Code::unavailable,
            "CUDA was initialised in process " + std::to_string(process_) + ", of which this one (" + std::to_string(getpid()) +
                ") is a fork; CUDA does not support that",
            "GPU " + std::to_string(device_),
            "start the process with exec (Python: the spawn start method), or fork before first using CUDA"};
  if (lost_.load(std::memory_order_acquire)) {
    std::lock_guard lock(mutex_);
    return first_error_;
  }
  return {};
}

Status Context::check(int error, const char* call) const {
  if (error == kSuccess) return {};
  std::string message = std::string(call) + ": " + driver_->explain(error);
  std::string where = "GPU " + std::to_string(device_);
  if (error == kOutOfMemory) return {Code::resource_exhausted, std::move(message), std::move(where)};
  if (!is_sticky(error)) return {Code::launch_failed, std::move(message), std::move(where)};
  std::lock_guard lock(mutex_);
  if (!lost_.load(std::memory_order_relaxed)) {
    first_error_ = {Code::device_lost, std::move(message) + "; it was caused by this call or by work queued before it",
                    std::move(where), "the device cannot be used by this process any more: start the process anew"};
    lost_.store(true, std::memory_order_release);
  }
  return first_error_;
}

Status Context::enter() const {
  LATHE_TRY(usable());
  CUctx_st* current = nullptr;
  LATHE_TRY(check(driver_->cuCtxGetCurrent(&current), "cuCtxGetCurrent"));
  if (current == context_) return {};
  if (current == nullptr) return check(driver_->cuCtxSetCurrent(context_), "cuCtxSetCurrent");
  int other = -1;
  LATHE_TRY(check(driver_->cuCtxGetDevice(&other), "cuCtxGetDevice"));
  if (other == device_)
    return invalid_argument("stream",
                            "the calling thread's current CUDA context is not the primary context of GPU " +
                                std::to_string(device_) + ", where the kernel is loaded",
                            "make the primary context current before the call");
  return invalid_argument("stream",
                          "the calling thread's current CUDA context belongs to GPU " + std::to_string(other) +
                              ", the kernel is loaded on GPU " + std::to_string(device_),
                          "make GPU " + std::to_string(device_) + " current before the call (cudaSetDevice, torch.cuda.device)");
}

ScopedContext::ScopedContext(const Context& context) : context_(context), status_(context.usable()) {
  if (!status_.ok()) return;
  const Driver& d = context.driver();
  CUctx_st* current = nullptr;
  status_ = context.check(d.cuCtxGetCurrent(&current), "cuCtxGetCurrent");
  if (!status_.ok() || current == context.handle()) return;
  status_ = context.check(d.cuCtxPushCurrent_v2(context.handle()), "cuCtxPushCurrent");
  pushed_ = status_.ok();
}

ScopedContext::~ScopedContext() {
  CUctx_st* popped = nullptr;
  if (pushed_) context_.driver().cuCtxPopCurrent_v2(&popped);
}

}  // namespace lathe::cuda
