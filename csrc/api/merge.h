// Merging of partial attention states: the second kernel family, on the same path as the first (csrc/spec/merge_spec.h).
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "lathe/api/hook_args.h"
#include "lathe/api/prepare_options.h"
#include "lathe/api/tensor.h"
#include "lathe/base/status.h"
#include "lathe/jit/engine.h"
#include "lathe/runtime/device.h"
#include "lathe/spec/merge_spec.h"

namespace lathe {

struct MergeArgs {
  Tensor o;                        // [num_states, tokens, heads, head_dim], contiguous
  Tensor lse;                      // f32 [num_states, tokens, heads], contiguous
  Tensor merged_o;                 // [tokens, heads, head_dim], contiguous
  Tensor merged_lse;               // f32 [tokens, heads], contiguous; may be empty
  const int32_t* sizes = nullptr;  // device: {tokens * heads, num_states}
  /// Each param and tensor that the spec's hooks use; an axis TOK holds `tokens`, HQ `heads`, D `head_dim`.
  std::span<const HookParam> hook_params = {};
  std::span<const HookTensor> hook_tensors = {};
};

/// A prepared merge kernel. Immutable; thread-safe.
class Merge {
 public:
  static Result<Merge> prepare(Engine& engine, std::shared_ptr<Device> device, MergeSpec spec, PrepareOptions options = {});
  const MergeSpec& spec() const { return spec_; }
  const Kernel& kernel() const { return *kernel_; }
  Status run(const MergeArgs& args, Stream stream) const;

 private:
  Merge() = default;
  MergeSpec spec_;
  std::shared_ptr<Device> device_;
  KernelPtr kernel_;
};

/// The kernel request a merge spec stands for. Refuses hooks with unsafe_cuda unless `options` ask for it.
Result<KernelRequest> merge_request(const MergeSpec& spec, PrepareOptions options = {});

}  // namespace lathe
