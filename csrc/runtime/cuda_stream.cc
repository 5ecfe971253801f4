#include "lathe/runtime/cuda_stream.h"

#include "lathe/runtime/cuda_context.h"

namespace lathe {

using cuda::ScopedContext;

namespace {

constexpr unsigned kNonBlocking = 1;    // CU_STREAM_NON_BLOCKING
constexpr int kThreadLocalCapture = 1;  // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on allocating

/// A handle that is destroyed with its context current, on whatever thread lets go of it last.
template <class T>
std::shared_ptr<void> owned(std::shared_ptr<cuda::Context> context, T* handle, int (*const cuda::Driver::*destroy)(T*)) {
  return std::shared_ptr<void>(handle, [context = std::move(context), destroy](void* h) {
    if (h == nullptr) return;
    ScopedContext scope(*context);
    if (scope.status().ok()) (context->driver().*destroy)(static_cast<T*>(h));
  });
}

Result<std::shared_ptr<cuda::Context>> cuda_context(Device& device) {
  auto context = cuda::context_of(device);
  if (context == nullptr) return invalid_argument("device", device.info().name + " is not a CUDA device");
  return context;
}

}  // namespace

Status CudaGraph::launch(Stream stream) const {
  LATHE_TRY(context_->enter());
  return context_->check(
      context_->driver().cuGraphLaunch(static_cast<CUgraphExec_st*>(executable_.get()), static_cast<CUstream_st*>(stream)),
      "cuGraphLaunch");
}

Result<CudaStream> CudaStream::create(Device& device) {
  auto context = cuda_context(device);
  LATHE_TRY(context);
  ScopedContext scope(**context);
  LATHE_TRY(scope.status());
  CUstream_st* stream = nullptr;
  LATHE_TRY((*context)->check((*context)->driver().cuStreamCreate(&stream, kNonBlocking), "cuStreamCreate"));
  CudaStream result;
  result.context_ = *context;
  result.stream_ = owned(*context, stream, &cuda::Driver::cuStreamDestroy_v2);
  return result;
}

Result<CudaGraph> CudaStream::capture(const std::function<Status()>& body) {
  ScopedContext scope(*context_);
  LATHE_TRY(scope.status());
  const cuda::Driver& d = context_->driver();
  auto* stream = static_cast<CUstream_st*>(handle());
  LATHE_TRY(context_->check(d.cuStreamBeginCapture_v2(stream, kThreadLocalCapture), "cuStreamBeginCapture"));
  Status recorded = body();
  CUgraph_st* graph = nullptr;
  int error = d.cuStreamEndCapture(stream, &graph);
  auto owner = owned(context_, graph, &cuda::Driver::cuGraphDestroy);
  LATHE_TRY(recorded);  // the first thing that went wrong
  LATHE_TRY(context_->check(error, "cuStreamEndCapture"));
  CUgraphExec_st* executable = nullptr;
  LATHE_TRY(context_->check(d.cuGraphInstantiateWithFlags(&executable, graph, 0), "cuGraphInstantiate"));
  CudaGraph result;
  result.context_ = context_;
  result.executable_ = owned(context_, executable, &cuda::Driver::cuGraphExecDestroy);
  return result;
}

Result<CudaEvent> CudaEvent::create(Device& device) {
  auto context = cuda_context(device);
  LATHE_TRY(context);
  ScopedContext scope(**context);
  LATHE_TRY(scope.status());
  CUevent_st* event = nullptr;
  LATHE_TRY((*context)->check((*context)->driver().cuEventCreate(&event, 0), "cuEventCreate"));
  CudaEvent result;
  result.context_ = *context;
  result.event_ = owned(*context, event, &cuda::Driver::cuEventDestroy_v2);
  return result;
}

Status CudaEvent::record(Stream stream) {
  LATHE_TRY(context_->enter());
  return context_->check(
      context_->driver().cuEventRecord(static_cast<CUevent_st*>(event_.get()), static_cast<CUstream_st*>(stream)), "cuEventRecord");
}

Status CudaEvent::wait() const {
  ScopedContext scope(*context_);
  LATHE_TRY(scope.status());
  return context_->check(context_->driver().cuEventSynchronize(static_cast<CUevent_st*>(event_.get())), "cuEventSynchronize");
}

Result<bool> CudaEvent::ready() const {
  ScopedContext scope(*context_);
  LATHE_TRY(scope.status());
  int error = context_->driver().cuEventQuery(static_cast<CUevent_st*>(event_.get()));
  if (error == cuda::kNotReady) return false;
  LATHE_TRY(context_->check(error, "cuEventQuery"));
  return true;
}

Result<float> CudaEvent::elapsed_ms(const CudaEvent& start, const CudaEvent& stop) {
  ScopedContext scope(*stop.context_);
  LATHE_TRY(scope.status());
  float milliseconds = 0;
  LATHE_TRY(
      stop.context_->check(stop.context_->driver().cuEventElapsedTime(&milliseconds, static_cast<CUevent_st*>(start.event_.get()),
                                                                      static_cast<CUevent_st*>(stop.event_.get())),
                           "cuEventElapsedTime"));
  return milliseconds;
}

}  // namespace lathe
