// The CUDA driver, opened at run time: the functions Lathe calls, declared by hand so that no CUDA header is needed to build and no
// CUDA library to start.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "lathe/base/status.h"

// The driver's own opaque types, so that handles of programs that include cuda.h are the same types.
struct CUctx_st;
struct CUstream_st;
struct CUevent_st;
struct CUgraph_st;
struct CUgraphExec_st;
struct CUlib_st;
struct CUkern_st;
struct CUfunc_st;

namespace lathe::cuda {

/// What a driver call returns; 0 is success. The codes Lathe looks at:
enum Error : int {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNotInitialized = 3,
  kStubLibrary = 34,
  kNoDevice = 100,
  kInvalidImage = 200,
  kNoBinaryForGpu = 209,
  kNotReady = 600,
};

/// True for errors after which nothing in the context works again: the process must start over to use this device.
bool is_sticky(int error);

enum DeviceAttribute : int {
  kSmCount = 16,
  kCapabilityMajor = 75,
  kCapabilityMinor = 76,
  kMaxSharedOptIn = 97,
};
enum FunctionAttribute : int { kMaxThreads = 0, kStaticShared = 1, kMaxDynamicShared = 8 };
enum JitOption : int { kErrorLog = 5, kErrorLogBytes = 6 };

/// One attribute of a launch (CUlaunchAttribute): an id and a 64-byte value.
struct LaunchAttribute {
  enum Id : int { kCooperative = 2, kClusterDimension = 4 };
  int id = 0;
  int padding = 0;
  uint32_t value[16] = {};
};

/// CUlaunchConfig.
struct LaunchConfig {
  uint32_t grid_x, grid_y, grid_z;
  uint32_t block_x, block_y, block_z;
  uint32_t shared_bytes;
  CUstream_st* stream;
  LaunchAttribute* attributes;
  uint32_t num_attributes;
};

using DevicePtr = unsigned long long;

// X(name, parameters): every driver function that is called, by the symbol it is exported under. All return an Error.
#define LATHE_CUDA_FUNCTIONS(X)                                                                                          \
  X(cuInit, (unsigned flags))                                                                                            \
  X(cuDriverGetVersion, (int* version))                                                                                  \
  X(cuGetErrorName, (int error, const char** text))                                                                      \
  X(cuGetErrorString, (int error, const char** text))                                                                    \
  X(cuDeviceGetCount, (int* count))                                                                                      \
  X(cuDeviceGet, (int* device, int ordinal))                                                                             \
  X(cuDeviceGetName, (char* name, int bytes, int device))                                                                \
  X(cuDeviceGetAttribute, (int* value, int attribute, int device))                                                       \
  X(cuDevicePrimaryCtxRetain, (CUctx_st * *context, int device))                                                         \
  X(cuDevicePrimaryCtxRelease_v2, (int device))                                                                          \
  X(cuCtxGetCurrent, (CUctx_st * *context))                                                                              \
  X(cuCtxSetCurrent, (CUctx_st * context))                                                                               \
  X(cuCtxPushCurrent_v2, (CUctx_st * context))                                                                           \
  X(cuCtxPopCurrent_v2, (CUctx_st * *context))                                                                           \
  X(cuCtxGetDevice, (int* device))                                                                                       \
  X(cuLibraryLoadData, (CUlib_st * *library, const void* image, int* jit_options, void** jit_values, unsigned num_jit,   \
                        int* library_options, void** library_values, unsigned num_library))                              \
  X(cuLibraryUnload, (CUlib_st * library))                                                                               \
  X(cuLibraryGetKernel, (CUkern_st * *kernel, CUlib_st * library, const char* name))                                     \
  X(cuKernelGetFunction, (CUfunc_st * *function, CUkern_st * kernel))                                                    \
  X(cuFuncGetAttribute, (int* value, int attribute, CUfunc_st* function))                                                \
  X(cuFuncSetAttribute, (CUfunc_st * function, int attribute, int value))                                                \
  X(cuFuncGetParamInfo, (CUfunc_st * function, size_t index, size_t * offset, size_t * bytes))                           \
  X(cuFuncLoad, (CUfunc_st * function))                                                                                  \
  X(cuLaunchKernelEx, (const ::lathe::cuda::LaunchConfig* config, CUfunc_st* function, void** parameters, void** extra)) \
  X(cuMemAlloc_v2, (::lathe::cuda::DevicePtr * address, size_t bytes))                                                   \
  X(cuMemFree_v2, (::lathe::cuda::DevicePtr address))                                                                    \
  X(cuMemHostAlloc, (void** address, size_t bytes, unsigned flags))                                                      \
  X(cuMemFreeHost, (void* address))                                                                                      \
  X(cuMemcpyHtoDAsync_v2, (::lathe::cuda::DevicePtr device, const void* host, size_t bytes, CUstream_st* stream))        \
  X(cuMemcpyDtoHAsync_v2, (void* host, ::lathe::cuda::DevicePtr device, size_t bytes, CUstream_st* stream))              \
  X(cuMemsetD8Async, (::lathe::cuda::DevicePtr device, unsigned char value, size_t bytes, CUstream_st* stream))          \
  X(cuStreamCreate, (CUstream_st * *stream, unsigned flags))                                                             \
  X(cuStreamDestroy_v2, (CUstream_st * stream))                                                                          \
  X(cuStreamSynchronize, (CUstream_st * stream))                                                                         \
  X(cuStreamIsCapturing, (CUstream_st * stream, int* status))                                                            \
  X(cuStreamBeginCapture_v2, (CUstream_st * stream, int mode))                                                           \
  X(cuStreamEndCapture, (CUstream_st * stream, CUgraph_st * *graph))                                                     \
  X(cuGraphInstantiateWithFlags, (CUgraphExec_st * *executable, CUgraph_st * graph, unsigned long long flags))           \
  X(cuGraphDestroy, (CUgraph_st * graph))                                                                                \
  X(cuGraphLaunch, (CUgraphExec_st * executable, CUstream_st * stream))                                                  \
  X(cuGraphExecDestroy, (CUgraphExec_st * executable))                                                                   \
  X(cuEventCreate, (CUevent_st * *event, unsigned flags))                                                                \
  X(cuEventDestroy_v2, (CUevent_st * event))                                                                             \
  X(cuEventRecord, (CUevent_st * event, CUstream_st * stream))                                                           \
  X(cuEventQuery, (CUevent_st * event))                                                                                  \
  X(cuEventSynchronize, (CUevent_st * event))                                                                            \
  X(cuEventElapsedTime, (float* milliseconds, CUevent_st* start, CUevent_st* stop))

/// The table of entry points. Immutable once opened; the library stays loaded for the life of the process, as CUDA requires.
struct Driver {
#define LATHE_CUDA_MEMBER(name, parameters) int(*name) parameters = nullptr;
  LATHE_CUDA_FUNCTIONS(LATHE_CUDA_MEMBER)
#undef LATHE_CUDA_MEMBER
  int version = 0;   // 13000 is 13.0
  std::string path;  // what was opened

  int major() const {
    return version / 1000;
  }
  /// "CUDA driver 13.0 (libcuda.so.1)"
  std::string describe() const;
  /// "CUDA_ERROR_ILLEGAL_ADDRESS (700): an illegal memory access was encountered"
  std::string explain(int error) const;
};

/// The least driver with every function above.
inline constexpr int kLeastDriver = 12040;

/// Opens LATHE_CUDA_DRIVER (else libcuda.so.1) and initialises it. `unavailable`, saying what was tried, when there is none, it is
/// too old, it finds no device, or this process was forked from one that had initialised it.
Result<std::shared_ptr<const Driver>> open_driver();

/// The major version of the NVRTC in a compiler's identity or description ("... NVRTC 13.0.88 ..."); 0 when it names none.
int nvrtc_major(std::string_view compiler);

}  // namespace lathe::cuda
