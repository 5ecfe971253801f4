// Errors, devices, memory, and the structures that calls share.
#include <algorithm>

#include "handles.h"
#include "lathe/base/version.h"

namespace lathe::capi {
namespace {

std::string& last_error() {
  thread_local std::string text;
  return text;
}

}  // namespace

int report(const Status& status) {
  try {
    last_error() = status.to_string();
  } catch (const std::exception&) {  // no memory for the text
    last_error().clear();
  }
  return static_cast<int>(status.code());
}

Status check_pointers(std::initializer_list<std::pair<const char*, const void*>> pointers) {
  Problems problems;
  for (const auto& [name, pointer] : pointers)
    if (pointer == nullptr) problems.add(name, "is null");
  return problems.empty() ? Status() : problems.status();
}

Status read_flag(const char* name, int32_t given, bool& out) {
  if (given != 0 && given != 1) return invalid_argument(name, "is " + std::to_string(given) + "; allowed: 0, 1");
  out = given == 1;
  return {};
}
Status read_options(const lathe_prepare_options* given, PrepareOptions& out) {
  lathe_prepare_options read;
  LATHE_TRY(read_struct("options", given, read));
  return read_flag("options.unsafe_cuda", read.unsafe_cuda, out.unsafe_cuda);
}

Tensor tensor_of(const lathe_tensor& t) {
  Tensor out;
  out.data = t.data;
  out.rank = t.rank;
  for (size_t i = 0; i < out.shape.size(); ++i) out.shape[i] = t.shape[i], out.stride[i] = t.stride[i];
  return out;
}

KvScales scales_of(const lathe_kv_scales& scales) {
  return {scales.scale == 0 ? 1 : scales.scale, tensor_of(scales.token_scale), tensor_of(scales.channel_scale),
          tensor_of(scales.zero)};
}

Status read_hooks(const lathe_hook_param* params, size_t num_params, const lathe_hook_tensor* tensors, size_t num_tensors,
                  Hooks& out) {
  if (num_params > 0 && params == nullptr) return invalid_argument("hook_params", "is null");
  if (num_tensors > 0 && tensors == nullptr) return invalid_argument("hook_tensors", "is null");
  for (size_t i = 0; i < num_params; ++i) {
    if (params[i].name == nullptr) return invalid_argument("hook_params[" + std::to_string(i) + "].name", "is null");
    out.params.push_back({params[i].name, params[i].value});
  }
  for (size_t i = 0; i < num_tensors; ++i) {
    if (tensors[i].name == nullptr) return invalid_argument("hook_tensors[" + std::to_string(i) + "].name", "is null");
    out.tensors.push_back({tensors[i].name, tensor_of(tensors[i].tensor)});
  }
  return {};
}

}  // namespace lathe::capi

using namespace lathe;
using namespace lathe::capi;

static_assert(LATHE_INTERNAL == static_cast<int>(Code::internal) && LATHE_DEVICE_LOST == static_cast<int>(Code::device_lost) &&
                  LATHE_COMPILE_FAILED == static_cast<int>(Code::compile_failed),
              "the codes of C are those of C++");

extern "C" {

const char* lathe_last_error(void) {
  return last_error().c_str();
}
const char* lathe_version(void) {
  static const std::string text(version());
  return text.c_str();
}

int lathe_engine_open(lathe_engine** out) {
  const lathe_engine_options options{.struct_size = sizeof(options), .unsafe_cuda = 0};
  return lathe_engine_open_with(&options, out);
}
int lathe_engine_open_with(const lathe_engine_options* options, lathe_engine** out) {
  return guarded([&]() -> Status {
    LATHE_TRY(check_pointers({{"out", out}}));
    lathe_engine_options read;
    LATHE_TRY(read_struct("options", options, read));
    EngineOptions engine_options;
    LATHE_TRY(read_flag("options.unsafe_cuda", read.unsafe_cuda, engine_options.unsafe_cuda));
    *out = new lathe_engine{std::make_shared<Engine>(std::move(engine_options))};
    return {};
  });
}
void lathe_engine_close(lathe_engine* engine) {
  delete engine;
}

int lathe_host_device(lathe_device** out) {
  return guarded([&]() -> Status {
    LATHE_TRY(check_pointers({{"out", out}}));
    *out = new lathe_device{host_device()};
    return {};
  });
}
int lathe_cuda_device(int ordinal, lathe_device** out) {
  return guarded([&]() -> Status {
    LATHE_TRY(check_pointers({{"out", out}}));
    Result<std::shared_ptr<Device>> device = cuda_device(ordinal);
    LATHE_TRY(device);
    *out = new lathe_device{*std::move(device)};
    return {};
  });
}
const char* lathe_device_arch(const lathe_device* device) {
  return device == nullptr ? "" : device->device->info().arch.c_str();
}
void lathe_device_close(lathe_device* device) {
  delete device;
}

int lathe_allocate(lathe_device* device, size_t bytes, lathe_memory** out) {
  return guarded([&]() -> Status {
    LATHE_TRY(check_pointers({{"device", device}, {"out", out}}));
    Result<std::shared_ptr<std::byte>> memory = device->device->allocate(bytes);
    LATHE_TRY(memory);
    *out = new lathe_memory{device->device, *std::move(memory)};
    return {};
  });
}
void* lathe_memory_address(const lathe_memory* memory) {
  return memory == nullptr ? nullptr : memory->memory.get();
}
void lathe_free(lathe_memory* memory) {
  delete memory;
}
int lathe_copy_in(lathe_device* device, void* to, const void* host, size_t bytes, lathe_stream stream) {
  return guarded([&]() -> Status {
    LATHE_TRY(check_pointers({{"device", device}, {"to", to}, {"host", host}}));
    return device->device->copy_in(to, host, bytes, stream);
  });
}
int lathe_copy_out(lathe_device* device, void* host, const void* from, size_t bytes, lathe_stream stream) {
  return guarded([&]() -> Status {
    LATHE_TRY(check_pointers({{"device", device}, {"host", host}, {"from", from}}));
    return device->device->copy_out(host, from, bytes, stream);
  });
}
int lathe_synchronize(lathe_device* device, lathe_stream stream) {
  return guarded([&]() -> Status {
    LATHE_TRY(check_pointers({{"device", device}}));
    return device->device->synchronize(stream);
  });
}

lathe_tensor lathe_contiguous(void* data, int32_t rank, const int64_t* shape) {
  lathe_tensor out{};
  out.data = data;
  out.rank = rank;
  int64_t step = 1;
  for (int32_t i = std::min(rank, 5) - 1; i >= 0; --i) {
    out.shape[i] = shape[i];
    out.stride[i] = step;
    step *= shape[i];
  }
  return out;
}

}  // extern "C"
