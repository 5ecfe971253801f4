#include "lathe/api/merge.h"

#include <algorithm>

#include "lathe/abi/merge.h"
#include "lathe/arch/traits.h"

namespace lathe {
namespace {

constexpr int kThreads = 256;

Status check_contiguous(const char* name, const Tensor& t, int rank, Problems& problems) {
  if (t.data == nullptr) {
    problems.add(name, "is null");
    return {};
  }
  if (reinterpret_cast<uintptr_t>(t.data) % 16 != 0) problems.add(name, "must be 16-byte aligned");
  if (t.rank != rank) {
    problems.add(name, "has rank " + std::to_string(t.rank) + ", must have " + std::to_string(rank));
    return {};
  }
  int64_t step = 1;
  for (int i = rank - 1; i >= 0; --i) {
    if (t.shape[i] != 1 && t.stride[i] != step) {
      problems.add(name, "must be contiguous; stride " + std::to_string(i) + " is " + std::to_string(t.stride[i]) + ", not " +
                             std::to_string(step));
      return {};
    }
    auto next = checked_mul(step, std::max<int64_t>(t.shape[i], 1));
    if (t.shape[i] < 0 || !next) {
      problems.add(name, "dimension " + std::to_string(i) + " is " + std::to_string(t.shape[i]) + ": negative or too large");
      return {};
    }
    step = *next;
  }
  return {};
}

size_t bytes_of(const Tensor& t, size_t element) {
  size_t n = element;
  for (int i = 0; i < t.rank; ++i) n *= static_cast<size_t>(t.shape[i]);
  return n;
}

}  // namespace

Result<KernelRequest> merge_request(const MergeSpec& spec) {
  LATHE_TRY(validate(spec));
  KernelRequest request;
  request.family = "merge";
  request.description = to_string(spec);
  request.canonical = canonical_bytes(spec);
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

Result<Merge> Merge::prepare(Engine& engine, std::shared_ptr<Device> device, MergeSpec spec) {
  if (device == nullptr) return invalid_argument("device", "is null");
  if (spec.arch.empty() || spec.arch == "host") spec.arch = device->info().arch;
  if (spec.arch != device->info().arch) {
    return invalid_argument("arch", "is " + spec.arch + ", but the device is " + device->info().arch);
  }
  Result<KernelRequest> request = merge_request(spec);
  LATHE_TRY(request);
  Result<ArtifactPtr> artifact = engine.build(*request);
  LATHE_TRY(artifact);
  Result<KernelPtr> kernel = device->load(*artifact);
  LATHE_TRY(kernel);
  Merge merge;
  merge.spec_ = std::move(spec);
  merge.device_ = std::move(device);
  merge.kernel_ = *kernel;
  return merge;
}

Status Merge::run(const MergeArgs& args, Stream stream) const {
  Problems problems;
  LATHE_TRY(check_contiguous("o", args.o, 4, problems));
  LATHE_TRY(check_contiguous("lse", args.lse, 3, problems));
  LATHE_TRY(check_contiguous("merged_o", args.merged_o, 3, problems));
  if (args.merged_lse.data != nullptr) LATHE_TRY(check_contiguous("merged_lse", args.merged_lse, 2, problems));
  if (args.sizes == nullptr) problems.add("sizes", "is null; must point to {tokens * heads, num_states} in device memory");
  if (!problems.empty()) return problems.status();

  const auto expect = [&](const char* name, int64_t value, int64_t wanted) {
    if (value != wanted) problems.add(name, "is " + std::to_string(value) + ", must be " + std::to_string(wanted));
  };
  expect("o.shape[3]", args.o.shape[3], spec_.head_dim);
  expect("merged_o.shape[2]", args.merged_o.shape[2], spec_.head_dim);
  for (int i = 0; i < 3; ++i) expect("lse.shape", args.lse.shape[i], args.o.shape[i]);
  for (int i = 0; i < 2; ++i) expect("merged_o.shape", args.merged_o.shape[i], args.o.shape[i + 1]);
  for (int i = 0; i < args.merged_lse.rank; ++i) expect("merged_lse.shape", args.merged_lse.shape[i], args.o.shape[i + 1]);
  const int64_t rows = args.o.shape[1] * args.o.shape[2];
  if (rows > INT32_MAX) problems.add("o", "tokens * heads is " + std::to_string(rows) + ", must be below 2^31");
  if (!problems.empty()) return problems.status();

  const size_t element = 2;
  abi::MergeParams params{};
  params.o = args.o.data;
  params.lse = static_cast<const float*>(args.lse.data);
  params.merged_o = args.merged_o.data;
  params.merged_lse = static_cast<float*>(args.merged_lse.data);
  params.num_rows = args.sizes;
  params.num_states = args.sizes + 1;
  params.state_stride_o = rows * spec_.head_dim * static_cast<int64_t>(element);
  params.state_stride_lse = rows * static_cast<int64_t>(sizeof(float));

  using Use = BufferArg::Use;
  const BufferArg buffers[] = {
      {"o", args.o.data, bytes_of(args.o, element), Use::input},
      {"lse", args.lse.data, bytes_of(args.lse, sizeof(float)), Use::input},
      {"merged_o", args.merged_o.data, bytes_of(args.merged_o, element), Use::output},
      {"merged_lse", args.merged_lse.data, args.merged_lse.data ? bytes_of(args.merged_lse, sizeof(float)) : 0, Use::output},
      {"sizes", args.sizes, 2 * sizeof(int32_t), Use::input},
  };
  Launch launch;
  launch.grid.x = static_cast<uint32_t>(device_->info().num_sms);
  launch.block.x = kThreads;
  launch.params = std::as_bytes(std::span(&params, 1));
  launch.buffers = buffers;
  return device_->launch(*kernel_, launch, stream);
}

}  // namespace lathe
