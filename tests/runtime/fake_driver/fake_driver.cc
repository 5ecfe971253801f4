// The driver's entry points. Each one first asks State::admit() whether it may go on.
#include "lathe/fake_driver/fake_driver.h"

#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <type_traits>

#include "lathe/fake_driver/entry.h"

namespace fake = lathe::testing::fake;
namespace cuda = lathe::cuda;
using fake::Kind;
using fake::ours;
using fake::State;

namespace {

constexpr int kInvalidDevice = 101, kInvalidHandle = 400, kNotFound = 500, kCaptureUnsupported = 900, kCaptureInvalidated = 901;

bool valid(const State& s, int device) {
  return s.contexts.count(device) != 0;
}

fake::LaunchRecord record_of(const cuda::LaunchConfig& c, const CUfunc_st& f, void** parameters) {
  fake::LaunchRecord r;
  r.kernel = f.name;
  r.device = fake::current().back()->device;
  r.grid = {c.grid_x, c.grid_y, c.grid_z};
  r.block = {c.block_x, c.block_y, c.block_z};
  r.shared_bytes = c.shared_bytes;
  r.stream = c.stream;
  for (uint32_t i = 0; i < c.num_attributes; ++i) {
    const cuda::LaunchAttribute& a = c.attributes[i];
    if (a.id == cuda::LaunchAttribute::kClusterDimension) r.cluster = {a.value[0], a.value[1], a.value[2]};
    if (a.id == cuda::LaunchAttribute::kCooperative) r.cooperative = a.value[0] != 0;
  }
  for (size_t i = 0; i < f.info.param_bytes.size(); ++i) {
    const auto* from = static_cast<const std::byte*>(parameters[i]);
    r.params.insert(r.params.end(), from, from + f.info.param_bytes[i]);
  }
  return r;
}

int check_launch(const State& s, const fake::LaunchRecord& r, const CUfunc_st& f) {
  auto volume = [](const std::array<uint32_t, 3>& d) { return uint64_t{d[0]} * d[1] * d[2]; };
  bool clusters = volume(r.cluster) > 1;
  for (int i = 0; i < 3; ++i)
    if (r.cluster[i] == 0 || r.grid[i] % r.cluster[i] != 0) return cuda::kInvalidValue;
  if (volume(r.grid) == 0 || volume(r.block) == 0 || volume(r.block) > f.info.max_threads) return cuda::kInvalidValue;
  if (r.shared_bytes > static_cast<uint32_t>(f.dynamic_shared)) return cuda::kInvalidValue;
  if (clusters && (s.config.capability < 90 || volume(r.cluster) > 8)) return cuda::kInvalidValue;
  return cuda::kSuccess;
}

}  // namespace

extern "C" {

int cuInit(unsigned flags) {
  FAKE_BEGIN(cuInit, Kind::query)
  if (flags != 0) return cuda::kInvalidValue;
  if (s.contexts.empty()) return cuda::kNoDevice;
  s.initialised = true;
  s.process = getpid();
  return cuda::kSuccess;
}

int cuDriverGetVersion(int* version) {
  State& s = fake::state();  // allowed before cuInit and after a fork
  std::lock_guard lock(s.mutex);
  *version = s.config.version;
  return cuda::kSuccess;
}

int cuGetErrorName(int error, const char** text) {
  static const std::map<int, const char*> names{
      {1, "CUDA_ERROR_INVALID_VALUE"},     {2, "CUDA_ERROR_OUT_OF_MEMORY"},   {3, "CUDA_ERROR_NOT_INITIALIZED"},
      {100, "CUDA_ERROR_NO_DEVICE"},       {200, "CUDA_ERROR_INVALID_IMAGE"}, {500, "CUDA_ERROR_NOT_FOUND"},
      {700, "CUDA_ERROR_ILLEGAL_ADDRESS"}, {719, "CUDA_ERROR_LAUNCH_FAILED"}, {720, "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE"}};
  auto found = names.find(error);
  *text = found == names.end() ? nullptr : found->second;
  return found == names.end() ? cuda::kInvalidValue : cuda::kSuccess;
}

int cuGetErrorString(int, const char** text) {
  *text = "as the script of the fake driver says, or because the call breaks a rule";
  return cuda::kSuccess;
}

int cuDeviceGetCount(int* count) {
  FAKE_BEGIN(cuDeviceGetCount, Kind::query)
  *count = s.config.devices;
  return cuda::kSuccess;
}

int cuDeviceGet(int* device, int ordinal) {
  FAKE_BEGIN(cuDeviceGet, Kind::query)
  *device = ordinal;
  return valid(s, ordinal) ? cuda::kSuccess : kInvalidDevice;
}

int cuDeviceGetName(char* name, int bytes, int device) {
  FAKE_BEGIN(cuDeviceGetName, Kind::query)
  if (!valid(s, device)) return kInvalidDevice;
  std::snprintf(name, static_cast<size_t>(bytes), "Fake GPU %d", device);
  return cuda::kSuccess;
}

int cuDeviceGetAttribute(int* value, int attribute, int device) {
  FAKE_BEGIN(cuDeviceGetAttribute, Kind::query)
  if (!valid(s, device)) return kInvalidDevice;
  switch (attribute) {
    case cuda::kSmCount:
      *value = s.config.sms;
      return cuda::kSuccess;
    case cuda::kCapabilityMajor:
      *value = s.config.capability / 10;
      return cuda::kSuccess;
    case cuda::kCapabilityMinor:
      *value = s.config.capability % 10;
      return cuda::kSuccess;
    case cuda::kMaxSharedOptIn:
      *value = s.config.max_shared;
      return cuda::kSuccess;
    default:
      return cuda::kInvalidValue;
  }
}

int cuDevicePrimaryCtxRetain(CUctx_st** context, int device) {
  FAKE_BEGIN(cuDevicePrimaryCtxRetain, Kind::query)
  if (!valid(s, device)) return kInvalidDevice;
  *context = s.contexts[device].get();
  ++(*context)->references;
  return cuda::kSuccess;
}

int cuDevicePrimaryCtxRelease_v2(int device) {
  FAKE_BEGIN(cuDevicePrimaryCtxRelease_v2, Kind::query)
  if (!valid(s, device) || s.contexts[device]->references == 0) return kInvalidDevice;
  --s.contexts[device]->references;
  return cuda::kSuccess;
}

int cuCtxGetCurrent(CUctx_st** context) {
  FAKE_BEGIN(cuCtxGetCurrent, Kind::current)
  *context = fake::current().empty() ? nullptr : fake::current().back();
  return cuda::kSuccess;
}

int cuCtxSetCurrent(CUctx_st* context) {
  FAKE_BEGIN(cuCtxSetCurrent, Kind::current)
  if (!fake::current().empty()) fake::current().pop_back();
  if (context != nullptr) fake::current().push_back(context);
  return cuda::kSuccess;
}

int cuCtxPushCurrent_v2(CUctx_st* context) {
  FAKE_BEGIN(cuCtxPushCurrent_v2, Kind::current)
  fake::current().push_back(context);
  return cuda::kSuccess;
}

int cuCtxPopCurrent_v2(CUctx_st** context) {
  FAKE_BEGIN(cuCtxPopCurrent_v2, Kind::current)
  *context = fake::current().back();
  fake::current().pop_back();
  return cuda::kSuccess;
}

int cuCtxGetDevice(int* device) {
  FAKE_BEGIN(cuCtxGetDevice, Kind::current)
  *device = fake::current().back()->device;
  return cuda::kSuccess;
}

int cuLibraryLoadData(CUlib_st** library, const void* image, int* jit_options, void** jit_values, unsigned num_jit, int*, void**,
                      unsigned) {
  State& s = fake::state();
  std::lock_guard lock(s.mutex);
  int error = s.admit("cuLibraryLoadData", Kind::heavy);
  for (unsigned i = 0; error != cuda::kSuccess && i < num_jit; ++i)
    if (jit_options[i] == cuda::kErrorLog) std::strcpy(static_cast<char*>(jit_values[i]), "log of the fake driver");
  if (error != cuda::kSuccess) return error;
  auto kernels = lathe::testing::read_cubin(image);
  if (!kernels) return cuda::kInvalidImage;
  auto made = std::make_unique<CUlib_st>();
  made->context = fake::current().back();
  for (const auto& [name, info] : *kernels) {
    auto kernel = std::make_unique<CUkern_st>();
    kernel->function.name = name;
    kernel->function.info = info;
    made->kernels[name] = std::move(kernel);
  }
  *library = fake::adopt(s.libraries, std::move(made));
  return cuda::kSuccess;
}

int cuLibraryUnload(CUlib_st* library) {
  FAKE_BEGIN(cuLibraryUnload, Kind::heavy)
  return fake::drop(s.libraries, library) ? cuda::kSuccess : kInvalidHandle;
}

int cuLibraryGetKernel(CUkern_st** kernel, CUlib_st* library, const char* name) {
  FAKE_BEGIN(cuLibraryGetKernel, Kind::heavy)
  auto found = library->kernels.find(name);
  if (found == library->kernels.end()) return kNotFound;
  *kernel = found->second.get();
  return cuda::kSuccess;
}

int cuKernelGetFunction(CUfunc_st** function, CUkern_st* kernel) {
  FAKE_BEGIN(cuKernelGetFunction, Kind::heavy)
  *function = &kernel->function;
  return cuda::kSuccess;
}

int cuFuncGetAttribute(int* value, int attribute, CUfunc_st* function) {
  FAKE_BEGIN(cuFuncGetAttribute, Kind::heavy)
  switch (attribute) {
    case cuda::kMaxThreads:
      *value = static_cast<int>(function->info.max_threads);
      return cuda::kSuccess;
    case cuda::kStaticShared:
      *value = s.config.static_shared;
      return cuda::kSuccess;
    case cuda::kMaxDynamicShared:
      *value = function->dynamic_shared;
      return cuda::kSuccess;
    default:
      return cuda::kInvalidValue;
  }
}

int cuFuncSetAttribute(CUfunc_st* function, int attribute, int value) {
  FAKE_BEGIN(cuFuncSetAttribute, Kind::heavy)
  if (attribute != cuda::kMaxDynamicShared || value < 0 || value + s.config.static_shared > s.config.max_shared)
    return cuda::kInvalidValue;
  function->dynamic_shared = value;
  return cuda::kSuccess;
}

int cuFuncGetParamInfo(CUfunc_st* function, size_t index, size_t* offset, size_t* bytes) {
  FAKE_BEGIN(cuFuncGetParamInfo, Kind::heavy)
  const auto& sizes = function->info.param_bytes;
  if (index >= sizes.size()) return cuda::kInvalidValue;
  *offset = 0;
  for (size_t i = 0; i < index; ++i) *offset += sizes[i];
  *bytes = sizes[index];
  return cuda::kSuccess;
}

int cuFuncLoad(CUfunc_st* function) {
  FAKE_BEGIN(cuFuncLoad, Kind::heavy)
  function->loaded = true;
  return cuda::kSuccess;
}

int cuLaunchKernelEx(const cuda::LaunchConfig* config, CUfunc_st* function, void** parameters, void** extra) {
  FAKE_BEGIN(cuLaunchKernelEx, Kind::launch)
  if (extra != nullptr || !ours(config->stream)) return kInvalidHandle;
  fake::LaunchRecord record = record_of(*config, *function, parameters);
  if (int error = check_launch(s, record, *function)) return error;
  if (config->stream != nullptr && config->stream->capture != nullptr) {
    if (!function->loaded) return kCaptureUnsupported;
    config->stream->capture->nodes.push_back(std::move(record));
    return cuda::kSuccess;
  }
  function->loaded = true;
  return s.run(std::move(record), fake::current().back());
}

int cuStreamCreate(CUstream_st** stream, unsigned) {
  FAKE_BEGIN(cuStreamCreate, Kind::heavy)
  auto made = std::make_unique<CUstream_st>();
  made->context = fake::current().back();
  *stream = fake::adopt(s.streams, std::move(made));
  return cuda::kSuccess;
}

int cuStreamDestroy_v2(CUstream_st* stream) {
  FAKE_BEGIN(cuStreamDestroy_v2, Kind::heavy)
  return fake::drop(s.streams, stream) ? cuda::kSuccess : kInvalidHandle;
}

int cuStreamSynchronize(CUstream_st* stream) {
  FAKE_BEGIN(cuStreamSynchronize, Kind::heavy)
  if (!ours(stream)) return kInvalidHandle;
  s.finish_all();
  return cuda::kSuccess;
}

int cuStreamIsCapturing(CUstream_st* stream, int* status) {
  FAKE_BEGIN(cuStreamIsCapturing, Kind::launch)
  *status = stream != nullptr && stream->capture != nullptr ? 1 : 0;
  return cuda::kSuccess;
}

int cuStreamBeginCapture_v2(CUstream_st* stream, int) {
  FAKE_BEGIN(cuStreamBeginCapture_v2, Kind::launch)
  if (stream == nullptr || stream->capture != nullptr || !ours(stream)) return kCaptureUnsupported;
  stream->capture = std::make_unique<CUgraph_st>();
  stream->capturing_thread = std::this_thread::get_id();
  stream->capture_broken = false;
  return cuda::kSuccess;
}

int cuStreamEndCapture(CUstream_st* stream, CUgraph_st** graph) {
  State& s = fake::state();
  std::lock_guard lock(s.mutex);
  *graph = nullptr;
  int error = s.admit("cuStreamEndCapture", Kind::launch);
  if (stream == nullptr || stream->capture == nullptr) return kCaptureUnsupported;
  std::unique_ptr<CUgraph_st> captured = std::move(stream->capture);  // has ended even where the call fails
  if (error != cuda::kSuccess) return error;
  if (stream->capture_broken) return kCaptureInvalidated;
  *graph = fake::adopt(s.graphs, std::move(captured));
  return cuda::kSuccess;
}

int cuGraphInstantiateWithFlags(CUgraphExec_st** executable, CUgraph_st* graph, unsigned long long) {
  FAKE_BEGIN(cuGraphInstantiateWithFlags, Kind::heavy)
  *executable = fake::adopt(s.executables, std::make_unique<CUgraphExec_st>(CUgraphExec_st{graph->nodes}));
  return cuda::kSuccess;
}

int cuGraphDestroy(CUgraph_st* graph) {
  FAKE_BEGIN(cuGraphDestroy, Kind::heavy)
  return fake::drop(s.graphs, graph) ? cuda::kSuccess : kInvalidHandle;
}

int cuGraphLaunch(CUgraphExec_st* executable, CUstream_st* stream) {
  FAKE_BEGIN(cuGraphLaunch, Kind::launch)
  if (!ours(stream)) return kInvalidHandle;
  for (fake::LaunchRecord node : executable->nodes) {
    node.replayed = true;
    node.stream = stream;
    if (int error = s.run(std::move(node), fake::current().back())) return error;
  }
  return cuda::kSuccess;
}

int cuGraphExecDestroy(CUgraphExec_st* executable) {
  FAKE_BEGIN(cuGraphExecDestroy, Kind::heavy)
  return fake::drop(s.executables, executable) ? cuda::kSuccess : kInvalidHandle;
}

int cuEventCreate(CUevent_st** event, unsigned) {
  FAKE_BEGIN(cuEventCreate, Kind::create)
  auto made = std::make_unique<CUevent_st>();
  made->context = fake::current().back();
  *event = fake::adopt(s.events, std::move(made));
  return cuda::kSuccess;
}

int cuEventDestroy_v2(CUevent_st* event) {
  FAKE_BEGIN(cuEventDestroy_v2, Kind::heavy)
  return fake::drop(s.events, event) ? cuda::kSuccess : kInvalidHandle;
}

int cuEventRecord(CUevent_st* event, CUstream_st* stream) {
  FAKE_BEGIN(cuEventRecord, Kind::launch)
  if (!ours(stream) || event->context != fake::current().back()) return kInvalidHandle;
  event->clock_us = event->context->clock_us;
  event->pending = s.config.event_delay;
  event->passed = false;
  s.queue({.finish = [event, record = ++event->records](State& now) {
    // It may have been destroyed or recorded anew by then.
    for (const auto& known : now.events)
      if (known.get() == event && event->records == record) event->passed = true;
  }});
  return cuda::kSuccess;
}

int cuEventQuery(CUevent_st* event) {
  FAKE_BEGIN(cuEventQuery, Kind::launch)
  if (!event->passed) return cuda::kNotReady;
  if (event->pending > 0) {
    --event->pending;
    return cuda::kNotReady;
  }
  return cuda::kSuccess;
}

int cuEventSynchronize(CUevent_st* event) {
  FAKE_BEGIN(cuEventSynchronize, Kind::heavy)
  event->pending = 0;
  if (!event->passed) s.finish_all();
  return cuda::kSuccess;
}

int cuEventElapsedTime(float* milliseconds, CUevent_st* start, CUevent_st* stop) {
  FAKE_BEGIN(cuEventElapsedTime, Kind::launch)
  if (start->clock_us < 0 || stop->clock_us < 0) return kInvalidHandle;
  if (start->pending > 0 || stop->pending > 0 || !start->passed || !stop->passed) return cuda::kNotReady;
  *milliseconds = static_cast<float>((stop->clock_us - start->clock_us) / 1000);
  return cuda::kSuccess;
}

}  // extern "C"
