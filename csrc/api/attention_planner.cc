#include "lathe/api/attention_planner.h"

#include <string>

#include "build_kernel.h"
#include "lathe/base/bytes.h"

namespace lathe {
namespace {

constexpr uint32_t kThreads = 128;
constexpr uint32_t kSharedBytes = 8 * kThreads / 32;  // a slot for each warp
constexpr size_t kAlignment = 256;

size_t row_blocks_bytes(const DevicePlanShape& shape) {
  return round_up(shape.row_blocks_bytes, kAlignment);
}

void check_pointer(const char* name, const void* address, size_t alignment, Problems& problems) {
  if (address == nullptr) problems.add(name, "is null");
  if (reinterpret_cast<uintptr_t>(address) % alignment != 0) {
    problems.add(name, "must be " + std::to_string(alignment) + "-byte aligned");
  }
}

void check_lengths(const DeviceLengths& lengths, abi::AttentionKeysForm form, const AttentionBounds& bounds, Problems& problems) {
  if (lengths.num_requests < 0 || lengths.num_requests > bounds.max_batch) {
    problems.add("num_requests",
                 "is " + std::to_string(lengths.num_requests) + "; the envelope allows 0.." + std::to_string(bounds.max_batch));
  }
  check_pointer("qo_indptr", lengths.qo_indptr, 4, problems);
  if (form == abi::AttentionKeysForm::table) {
    check_pointer("seq_lens", lengths.seq_lens, 4, problems);
    const int64_t entries = int64_t{lengths.num_requests} * lengths.block_table_stride;
    if (lengths.block_table_stride < 0 || entries > bounds.max_kv_entries) {
      problems.add("block_table_stride", "is " + std::to_string(lengths.block_table_stride) + "; with " +
                                             std::to_string(lengths.num_requests) + " requests it must give 0.." +
                                             std::to_string(bounds.max_kv_entries) + " entries");
    }
  } else {
    check_pointer("kv_indptr", lengths.kv_indptr, 4, problems);
    if (form == abi::AttentionKeysForm::csr) check_pointer("last_page_len", lengths.last_page_len, 4, problems);
  }
}

}  // namespace

KernelRequest attention_planner_request(const std::string& arch) {
  KernelRequest request;
  request.family = "attention_plan";
  request.description = "planning of attention for " + arch;
  request.spec = R"({"op":"attention"})";                                            // any attention spec brings it
  const std::span<const std::byte> name = std::as_bytes(std::span(request.family));  // nothing else is chosen
  request.canonical.assign(name.begin(), name.end());
  request.arch = arch;
  request.entry = "attention_plan_kernel";
  request.block_threads = kThreads;
  request.shared_bytes = kSharedBytes;
  request.data = {{"threads", int64_t{kThreads}}};
  return request;
}

Result<AttentionPlanner> AttentionPlanner::prepare(Engine& engine, std::shared_ptr<Device> device, const PlanShape& shape,
                                                   const AttentionBounds& bounds) {
  if (device == nullptr) return invalid_argument("device", "is null");
  const PlanBounds plan_bounds{bounds.max_batch, bounds.max_qo_tokens, bounds.max_kv_len};
  Result<WorkspaceLayout> layout = workspace_bound(shape, plan_bounds);
  LATHE_TRY(layout);
  Result<DevicePlanShape> plan_shape = device_plan_shape(shape, plan_bounds, bounds.window);
  LATHE_TRY(plan_shape);
  Result<KernelPtr> kernel = build_kernel(engine, *device, attention_planner_request(device->info().arch));
  LATHE_TRY(kernel);
  AttentionPlanner planner;
  planner.device_ = std::move(device);
  planner.kernel_ = *std::move(kernel);
  planner.bounds_ = bounds;
  planner.layout_ = *layout;
  planner.shape_ = *std::move(plan_shape);
  return planner;
}

Result<AttentionPlanner> AttentionPlanner::prepare(Engine& engine, std::shared_ptr<Device> device, const Attention& attention,
                                                   const AttentionEnvelope& envelope) {
  Result<AttentionEnvelope> own = attention.envelope(envelope.bounds);
  LATHE_TRY(own);
  if (own->identity != envelope.identity || own->layout != envelope.layout) {
    return invalid_argument("envelope", "was made by another kernel or for another grid");
  }
  return prepare(engine, std::move(device), attention.plan_shape(envelope.bounds.num_kv_heads), envelope.bounds);
}

size_t AttentionPlanner::scratch_bytes() const {
  const size_t first_blocks = (static_cast<size_t>(bounds_.max_batch) + 1) * sizeof(int);
  return row_blocks_bytes(shape_) + round_up(first_blocks, kAlignment);
}

Status AttentionPlanner::plan(const DeviceLengths& lengths, void* workspace, void* scratch, size_t scratch_bytes,
                              Stream stream) const {
  Problems problems;
  check_lengths(lengths, shape_.params.form, bounds_, problems);
  check_pointer("workspace", workspace, kAlignment, problems);
  check_pointer("scratch", scratch, kAlignment, problems);
  if (scratch_bytes < this->scratch_bytes()) {
    problems.add("scratch_bytes",
                 "is " + std::to_string(scratch_bytes) + ", planning needs " + std::to_string(this->scratch_bytes()));
  }
  if (!problems.empty()) return problems.status();

  abi::AttentionPlanParams params = shape_.params;
  params.qo_indptr = lengths.qo_indptr;
  params.kv_indptr = lengths.kv_indptr;
  params.last_page_len = lengths.last_page_len;
  params.seq_lens = lengths.seq_lens;
  params.block_table_stride = lengths.block_table_stride;
  params.num_requests = lengths.num_requests;
  params.plan = workspace;
  params.row_blocks = scratch;
  params.first_block = reinterpret_cast<int*>(static_cast<std::byte*>(scratch) + row_blocks_bytes(shape_));
  params.header.num_requests = lengths.num_requests;

  using Use = BufferArg::Use;
  const size_t requests = static_cast<size_t>(lengths.num_requests);
  const auto list = [](const char* name, const int32_t* data, size_t count) {
    return BufferArg{name, data, data == nullptr ? 0 : count * sizeof(int32_t), Use::input};
  };
  const BufferArg buffers[] = {
      list("qo_indptr", lengths.qo_indptr, requests + 1),     list("kv_indptr", lengths.kv_indptr, requests + 1),
      list("last_page_len", lengths.last_page_len, requests), list("seq_lens", lengths.seq_lens, requests),
      {"plan", workspace, layout_.plan, Use::output},         {"row_blocks", scratch, this->scratch_bytes(), Use::output},
  };
  Launch launch;
  launch.grid.x = 1;
  launch.block.x = kThreads;
  launch.shared_bytes = kSharedBytes;
  launch.params = std::as_bytes(std::span(&params, 1));
  launch.buffers = buffers;
  return device_->launch(*kernel_, launch, stream);
}

}  // namespace lathe
