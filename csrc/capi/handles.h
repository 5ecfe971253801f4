// What the handles of lathe.h hold, and how calls leave C++.
#pragma once

#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "lathe/api/append.h"
#include "lathe/api/attention.h"
#include "lathe/api/merge.h"
#include "lathe/api/plan_stager.h"
#include "lathe/capi/lathe.h"

struct lathe_engine {
  std::shared_ptr<lathe::Engine> engine;
};
struct lathe_device {
  std::shared_ptr<lathe::Device> device;
};
struct lathe_memory {
  std::shared_ptr<lathe::Device> device;
  std::shared_ptr<std::byte> memory;
};
struct lathe_attention {
  std::shared_ptr<lathe::Engine> engine;
  std::shared_ptr<lathe::Device> device;
  lathe::Attention attention;
};
struct lathe_plan {
  lathe::PlannedAttention planned;
};
struct lathe_envelope {
  lathe::Attention attention;
  lathe::AttentionEnvelope envelope;
  std::unique_ptr<lathe::PlanStager> stager;
  mutable std::mutex planning;  // of the plan, whose memory serves every step
  mutable lathe::PlannedAttention planned;
};
struct lathe_merge {
  std::shared_ptr<lathe::Engine> engine;
  lathe::Merge merge;
};
struct lathe_append {
  std::shared_ptr<lathe::Engine> engine;
  lathe::Append append;
};

namespace lathe::capi {

/// Remembers a failure for lathe_last_error().
int report(const Status& status);

/// Calls `f`, which gives a Status; nothing is thrown into C.
template <class F>
int guarded(F&& f) noexcept {
  try {
    const Status status = f();
    return status.ok() ? LATHE_OK : report(status);
  } catch (const std::exception& error) {
    return report(Status(Code::internal, error.what()));
  }
}

/// A problem for each pointer that is null, by name.
Status check_pointers(std::initializer_list<std::pair<const char*, const void*>> pointers);

/// `given`, whose size its caller says, as this version knows it: what the caller does not know is zero. Refuses sizes that no
/// version had, and members that this one does not know.
template <class T>
Status read_struct(const char* name, const T* given, T& out) {
  if (given == nullptr) return invalid_argument(name, "is null");
  const size_t size = given->struct_size;
  const auto refuse = [&](const char* allowed) {
    return invalid_argument(std::string(name) + ".struct_size", "is " + std::to_string(size) + "; allowed: " + allowed);
  };
  if (size < sizeof(size_t) || size > 16 * sizeof(T)) return refuse("the sizeof of the structure");
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  for (size_t i = sizeof(T); i < size; ++i)
    if (bytes[i] != 0) return refuse("that of this version, whose structure ends before a member that is set");
  std::memset(&out, 0, sizeof(T));
  std::memcpy(&out, given, std::min(size, sizeof(T)));
  return {};
}

/// A member that is 0 or 1.
Status read_flag(const char* name, int32_t given, bool& out);
Status read_options(const lathe_prepare_options* given, PrepareOptions& out);

Tensor tensor_of(const lathe_tensor& t);
KvScales scales_of(const lathe_kv_scales& scales);

/// Params and tensors of hooks, with the memory that spans of them refer to.
struct Hooks {
  std::vector<HookParam> params;
  std::vector<HookTensor> tensors;
};
Status read_hooks(const lathe_hook_param* params, size_t num_params, const lathe_hook_tensor* tensors, size_t num_tensors,
                  Hooks& out);

}  // namespace lathe::capi
