#include "stream.h"

#include <dlfcn.h>

namespace lathe::torch_ops {
namespace {

using CurrentStream = int32_t (*)(int32_t, void**);

/// PyTorch's CUDA library is loaded where there are CUDA tensors; it is not linked, so that PyTorch without CUDA serves too.
CurrentStream current_stream() {
  static const CurrentStream function = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_NOLOAD | RTLD_LAZY);
    void* symbol = library != nullptr ? dlsym(library, "aoti_torch_get_current_cuda_stream") : nullptr;
    return reinterpret_cast<CurrentStream>(symbol);
  }();
  return function;
}

}  // namespace

int ordinal_of(const AnyTensor& t) {
  return t.is_cuda() ? t.get_device_index() : kHost;
}

Place::Place(int ordinal) : ordinal_(ordinal) {
  if (ordinal == kHost) return;
  if (current_stream() == nullptr) {
    fail({Code::unavailable, "libtorch_cuda.so is not loaded, or has no aoti_torch_get_current_cuda_stream", "PyTorch"});
  }
  guard_.emplace(ordinal);
  if (current_stream()(ordinal, &stream_) != 0) fail({Code::launch_failed, "the current stream could not be had", "PyTorch"});
}

}  // namespace lathe::torch_ops
