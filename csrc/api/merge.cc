#include "lathe/api/merge.h"

#include <algorithm>
#include <array>

#include "build_kernel.h"
#include "hook_source.h"
#include "hook_values.h"
#include "lathe/abi/merge.h"
#include "lathe/base/bytes.h"
#include "lathe/base/nvtx.h"
#include "tensor_checks.h"

namespace lathe {
namespace {

constexpr int kThreads = 256;

}  // namespace

Result<KernelRequest> merge_request(const MergeSpec& spec, PrepareOptions options) {
  LATHE_TRY(validate(spec));
  KernelRequest request;
  MergeSpec code = spec;
  if (spec.hooks.canonical().empty()) code.hooks = {};  // which may be there and change nothing
  LATHE_TRY(print_hooks(spec.hooks, options, "kernels/merge/hooks.cuh", request));
  request.family = "merge";
  request.description = to_string(spec);
  if (!request.unsafe_cuda) request.spec = to_json(spec);  // `lathe warm` takes none of these
  request.canonical = canonical_bytes(code);
  request.arch = spec.arch;
  request.entry = "merge_kernel";
  request.block_threads = kThreads;
  request.data = {
      {"element", TemplateValue::identifier(name_of(spec.dtype))},
      {"head_dim", int64_t{spec.head_dim}},
      {"lse_log2", spec.lse == LseOut::log2},
      {"threads", int64_t{kThreads}},
  };
  return request;
}

Result<Merge> Merge::prepare(Engine& engine, std::shared_ptr<Device> device, MergeSpec spec, PrepareOptions options) {
  if (device == nullptr) return invalid_argument("device", "is null");
  if (spec.arch.empty() || spec.arch == "host") spec.arch = device->info().arch;
  if (spec.arch != device->info().arch) {
    return invalid_argument("arch", "is " + spec.arch + ", but the device is " + device->info().arch);
  }
  Result<KernelRequest> request = merge_request(spec, options);
  LATHE_TRY(request);
  Result<KernelPtr> kernel = build_kernel(engine, *device, *request);
  LATHE_TRY(kernel);
  Merge merge;
  merge.spec_ = std::move(spec);
  merge.device_ = std::move(device);
  merge.kernel_ = *kernel;
  return merge;
}

Status Merge::run(const MergeArgs& args, Stream stream) const {
  Problems problems;
  const int64_t states = args.o.rank == 4 ? args.o.shape[0] : 0;
  const int64_t tokens = args.o.rank == 4 ? args.o.shape[1] : 0;
  const int64_t heads = args.o.rank == 4 ? args.o.shape[2] : 0;
  check_tensor(args.o, {"o", 2, {kAnySize, kAnySize, kAnySize, spec_.head_dim}, true}, problems);
  check_tensor(args.lse, {"lse", 4, {states, tokens, heads}, true}, problems);
  check_tensor(args.merged_o, {"merged_o", 2, {tokens, heads, spec_.head_dim}, true}, problems);
  if (args.merged_lse.rank != 0) check_tensor(args.merged_lse, {"merged_lse", 4, {tokens, heads}, true}, problems);
  if (args.sizes == nullptr) problems.add("sizes", "is null; must point to {tokens * heads, num_states} in device memory");
  const auto rows = checked_mul(tokens, heads);
  if (!rows || *rows > INT32_MAX) problems.add("o", "tokens * heads is past 2^31 - 1");
  abi::MergeParams params{};
  std::array<BufferArg, abi::kMaxHookTensors> hook_buffers;
  size_t num_hook_buffers = 0;
  HookExtents extents;
  extents.qo_heads = heads, extents.tokens = tokens, extents.head_dim = spec_.head_dim;
  read_hook_args(spec_.hooks, args.hook_params, args.hook_tensors, extents, params.hooks, hook_buffers, num_hook_buffers, problems);
  if (!problems.empty()) return problems.status();

  const NvtxRange range([&] { return "lathe run [" + to_string(spec_) + "] rows " + std::to_string(*rows); });
  params.o = args.o.data;
  params.lse = static_cast<const float*>(args.lse.data);
  params.merged_o = args.merged_o.data;
  params.merged_lse = static_cast<float*>(args.merged_lse.data);
  params.num_rows = args.sizes;
  params.num_states = args.sizes + 1;
  params.state_stride_o = *rows * spec_.head_dim * 2;
  params.state_stride_lse = *rows * 4;
  params.num_heads = static_cast<int>(std::max<int64_t>(heads, 1));  // the kernel divides by it

  using Use = BufferArg::Use;
  std::array<BufferArg, 5 + abi::kMaxHookTensors> buffers{{
      {"o", args.o.data, extent_bytes(args.o, 2), Use::input},
      {"lse", args.lse.data, extent_bytes(args.lse, 4), Use::input},
      {"merged_o", args.merged_o.data, extent_bytes(args.merged_o, 2), Use::output},
      {"merged_lse", args.merged_lse.data, extent_bytes(args.merged_lse, 4), Use::output},
      {"sizes", args.sizes, 2 * sizeof(int32_t), Use::input},
  }};
  std::copy_n(hook_buffers.begin(), num_hook_buffers, buffers.begin() + 5);
  Launch launch;
  launch.grid.x = static_cast<uint32_t>(device_->info().num_sms);
  launch.block.x = kThreads;
  launch.params = std::as_bytes(std::span(&params, 1));
  launch.buffers = std::span(buffers).first(5 + num_hook_buffers);
  return device_->launch(*kernel_, launch, stream);
}

}  // namespace lathe
