#include "lathe/runtime/cuda_fence.h"

namespace lathe::cuda {
namespace {

constexpr unsigned kDisableTiming = 2;  // CU_EVENT_DISABLE_TIMING

class CudaFence final : public Fence {
 public:
  CudaFence(std::shared_ptr<Context> context, CUevent_st* event) : context_(std::move(context)), event_(event) {}
  ~CudaFence() override {
    ScopedContext scope(*context_);
    if (scope.status().ok()) context_->driver().cuEventDestroy_v2(event_);
  }
  CudaFence(const CudaFence&) = delete;
  CudaFence& operator=(const CudaFence&) = delete;

  Status record(Stream stream) override {
    ScopedContext scope(*context_);
    LATHE_TRY(scope.status());
    return context_->check(context_->driver().cuEventRecord(event_, static_cast<CUstream_st*>(stream)), "cuEventRecord");
  }

  Result<bool> passed() const override {
    ScopedContext scope(*context_);
    LATHE_TRY(scope.status());
    const int error = context_->driver().cuEventQuery(event_);
    if (error == kNotReady) return false;
    LATHE_TRY(context_->check(error, "cuEventQuery"));
    return true;
  }

  Status wait() const override {
    ScopedContext scope(*context_);
    LATHE_TRY(scope.status());
    return context_->check(context_->driver().cuEventSynchronize(event_), "cuEventSynchronize");
  }

 private:
  const std::shared_ptr<Context> context_;
  CUevent_st* const event_;
};

}  // namespace

Result<std::unique_ptr<Fence>> make_fence(std::shared_ptr<Context> context) {
  ScopedContext scope(*context);
  LATHE_TRY(scope.status());
  CUevent_st* event = nullptr;
  LATHE_TRY(context->check(context->driver().cuEventCreate(&event, kDisableTiming), "cuEventCreate"));
  return std::unique_ptr<Fence>(std::make_unique<CudaFence>(std::move(context), event));
}

}  // namespace lathe::cuda
