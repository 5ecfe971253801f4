// Streams, events and graphs of a CUDA device, for programs that have no CUDA headers. Programs that have their own may mix freely:
// a Stream is a CUstream.
#pragma once

#include <functional>
#include <memory>

#include "lathe/base/status.h"
#include "lathe/runtime/device.h"

namespace lathe {
namespace cuda {

class Context;
/// Internal: the context of a device made by cuda_device(); null for any other.
std::shared_ptr<Context> context_of(Device& device);

}  // namespace cuda

/// What CudaStream::capture() recorded, ready to be replayed. One thread at a time may launch it.
class CudaGraph {
 public:
  /// Queues one replay on `stream`.
  Status launch(Stream stream) const;

 private:
  friend class CudaStream;
  CudaGraph() = default;
  std::shared_ptr<cuda::Context> context_;
  std::shared_ptr<void> executable_;
};

/// A stream of its own, which does not wait for the default stream. Work must be finished before it is destroyed. Movable.
class CudaStream {
 public:
  /// `invalid_argument` when `device` was not made by cuda_device().
  static Result<CudaStream> create(Device& device);

  Stream handle() const { return stream_.get(); }
  /// Records what `body` queues on the stream instead of running it. Anything in `body` that allocates or waits fails. The capture
  /// has ended when this returns, whatever it returns.
  Result<CudaGraph> capture(const std::function<Status()>& body);

 private:
  CudaStream() = default;
  std::shared_ptr<cuda::Context> context_;
  std::shared_ptr<void> stream_;
};

/// A point on a stream, with the device's clock. Movable.
class CudaEvent {
 public:
  /// `invalid_argument` when `device` was not made by cuda_device().
  static Result<CudaEvent> create(Device& device);

  Status record(Stream stream);
  Status wait() const;         // until the device has passed it
  Result<bool> ready() const;  // without waiting
  /// Milliseconds from `start` to `stop`; both must have been passed.
  static Result<float> elapsed_ms(const CudaEvent& start, const CudaEvent& stop);

 private:
  CudaEvent() = default;
  std::shared_ptr<cuda::Context> context_;
  std::shared_ptr<void> event_;
};

}  // namespace lathe
