#include "lathe/api/attention.h"

#include <algorithm>
#include <cstring>

#include "attention_parts.h"
#include "build_kernel.h"
#include "device_costs.h"
#include "lathe/arch/traits.h"
#include "lathe/base/nvtx.h"

namespace lathe {
namespace {

// Blocks of the persistent grid: as many as the device holds at once, at most two per multiprocessor.
int32_t grid_blocks(const DeviceInfo& device, const Artifact& artifact) {
  if (artifact.registers == 0) return device.num_sms;  // the host
  constexpr int kRegistersPerSm = 65536;
  constexpr int kReservedSharedBytes = 1024;  // per block, by the system (CUDA programming guide, "Shared memory")
  const int by_registers = kRegistersPerSm / (artifact.registers * static_cast<int>(artifact.block_threads));
  const int by_shared =
      (device.max_shared_bytes + kReservedSharedBytes) / (static_cast<int>(artifact.shared_bytes) + kReservedSharedBytes);
  return device.num_sms * std::clamp(std::min(by_registers, by_shared), 1, 2);
}

std::string plan_text(const AttentionIdentity& identity, const AttentionBatch& batch) {
  const std::string tokens = batch.qo_indptr.empty() ? "0" : std::to_string(batch.qo_indptr.back());
  return "lathe plan [" + identity.spec + "] requests " + std::to_string(std::max<size_t>(batch.qo_indptr.size(), 1) - 1) +
         ", tokens " + tokens;
}

PlanBatch plan_batch(const AttentionBatch& batch, const BatchLengths& lengths, bool may_share) {
  PlanBatch out{batch.qo_indptr, lengths.kv_lens, lengths.kv_begin, batch.window, batch.prefixes};
  if (may_share && batch.share_prefixes && batch.prefixes.empty()) out.page_ids = batch.kv_indices;
  out.mask = {lengths.hook_params, &lengths.hook_tensors};
  return out;
}

Status check_workspace(const WorkspaceLayout& layout, const void* workspace, size_t workspace_bytes) {
  if (workspace == nullptr) return invalid_argument("workspace", "is null");
  if (reinterpret_cast<uintptr_t>(workspace) % 256 != 0) return invalid_argument("workspace", "must be 256-byte aligned");
  if (workspace_bytes >= layout.total()) return {};
  return invalid_argument("workspace_bytes",
                          "is " + std::to_string(workspace_bytes) + ", the plan needs " + std::to_string(layout.total()),
                          "envelope() gives a size that serves every batch within bounds");
}

}  // namespace

Result<Attention> Attention::prepare(Engine& engine, std::shared_ptr<Device> device, AttentionSpec spec, PrepareOptions options) {
  if (device == nullptr) return invalid_argument("device", "is null");
  const std::string& device_arch = device->info().arch;
  if (spec.arch.empty() || spec.arch == "host") spec.arch = device_arch;
  LATHE_TRY(validate(spec));
  // The host executor runs the configuration of any arch: what is compiled then is the host form of that arch's tile.
  if (spec.arch != device_arch && device_arch != "host") {
    return invalid_argument("arch", "is " + spec.arch + ", but the device is " + device_arch);
  }
  Result<ArchTraits> traits = arch_traits(spec.arch);
  LATHE_TRY(traits);
  Result<AttentionTile> tile = resolve_tile(spec, *traits);
  LATHE_TRY(tile);
  spec.arch = device_arch;
  Result<KernelRequest> request = attention_request(spec, *tile, options);
  LATHE_TRY(request);

  Attention attention;
  Result<KernelPtr> kernel = build_kernel(engine, *device, *request, &attention.origin_);
  LATHE_TRY(kernel);
  const Artifact& artifact = *(*kernel)->artifact();
  const int32_t num_ctas = grid_blocks(device->info(), artifact);
  attention.identity_ = {artifact.key_hex, to_string(spec), num_ctas};
  attention.shape_ = {std::move(spec), *std::move(tile), 0, num_ctas, device_costs(device->info(), *traits, num_ctas)};
  attention.device_ = std::move(device);
  attention.kernel_ = *std::move(kernel);
  return attention;
}

Result<WorkspaceLayout> Attention::workspace_bound(int32_t num_kv_heads, const PlanBounds& bounds) const {
  return lathe::workspace_bound(plan_shape(num_kv_heads), bounds);
}

PlanShape Attention::plan_shape(int32_t num_kv_heads) const {
  PlanShape shape = shape_;
  shape.num_kv_heads = num_kv_heads;
  return shape;
}

Result<PlannedAttention> Attention::plan(const AttentionBatch& batch, int32_t num_kv_heads) const {
  const NvtxRange range([&] { return plan_text(identity_, batch); });
  if (num_kv_heads < 1) return invalid_argument("num_kv_heads", "is " + std::to_string(num_kv_heads) + ", must be >= 1");
  PlannedAttention out;
  LATHE_TRY(read_batch(spec(), batch, num_kv_heads, out.lengths));
  out.shape = plan_shape(num_kv_heads);
  LATHE_TRY(plan_attention(out.shape, plan_batch(batch, out.lengths, true), nullptr, out.plan));
  out.batch = static_cast<int32_t>(batch.qo_indptr.size() - 1);
  out.qo_tokens = batch.qo_indptr.back();
  out.envelope.bounds = {num_kv_heads, out.batch, out.qo_tokens, out.lengths.kv_entries, 0, batch.window};
  if (!spec().hooks.empty()) bound_hooks(spec(), batch, out.lengths, out.envelope.bounds);
  out.envelope.layout = out.plan.workspace;
  out.envelope.identity = identity_;
  return out;
}

Status Attention::plan(const AttentionBatch& batch, const AttentionEnvelope& envelope, PlannedAttention& out) const {
  const NvtxRange range([&] { return plan_text(identity_, batch); });
  out.plan.image_bytes = 0;  // no plan until the end
  LATHE_TRY(check_identity("envelope", envelope.identity));
  out.shape = shape_;
  out.shape.num_kv_heads = envelope.bounds.num_kv_heads;
  out.envelope = envelope;
  out.in_envelope = true;
  const AttentionBounds& bounds = envelope.bounds;
  out.lengths.kv_lens.reserve(static_cast<size_t>(bounds.max_batch));
  out.lengths.kv_begin.reserve(static_cast<size_t>(bounds.max_batch));
  LATHE_TRY(reserve_plan(out.shape, plan_bounds(bounds), envelope.layout, out.plan));
  LATHE_TRY(read_batch(spec(), batch, bounds.num_kv_heads, out.lengths));
  LATHE_TRY(check_bounds(spec(), bounds, batch, out.lengths));
  out.batch = static_cast<int32_t>(batch.qo_indptr.size() - 1);
  out.qo_tokens = batch.qo_indptr.back();
  return plan_attention(out.shape, plan_batch(batch, out.lengths, bounds.share_prefixes), &envelope.layout, out.plan);
}

Status Attention::check_identity(const char* what, const AttentionIdentity& identity) const {
  if (identity == identity_) return {};
  if (identity.spec != identity_.spec) {
    return invalid_argument(what, "was made for another kernel (" + identity.spec + "); this one is " + identity_.spec);
  }
  if (identity.num_ctas != identity_.num_ctas) {
    return invalid_argument(what, "was made for a grid of " + std::to_string(identity.num_ctas) + " blocks; this one has " +
                                      std::to_string(identity_.num_ctas));
  }
  return invalid_argument(
      what, "was made for another kernel of the same spec (" + identity.kernel + "); this one is " + identity_.kernel);
}

Status Attention::check_plan(const PlannedAttention& plan) const {
  if (plan.plan.image_bytes == 0) return invalid_argument("plan", "is empty: nothing was planned, or the batch was refused");
  return check_identity("plan", plan.envelope.identity);
}

Status Attention::prepare_workspace(const AttentionEnvelope& envelope, void* workspace, size_t workspace_bytes,
                                    Stream stream) const {
  LATHE_TRY(check_identity("envelope", envelope.identity));
  LATHE_TRY(check_workspace(envelope.layout, workspace, workspace_bytes));
  if (envelope.layout.counters == 0) return {};
  return device_->fill(static_cast<std::byte*>(workspace) + envelope.layout.plan, 0, envelope.layout.counters, stream);
}

Status Attention::upload(const PlannedAttention& plan, void* workspace, size_t workspace_bytes, Stream stream) const {
  const WorkspaceLayout& layout = plan.plan.workspace;
  LATHE_TRY(check_plan(plan));
  LATHE_TRY(check_workspace(layout, workspace, workspace_bytes));
  LATHE_TRY(device_->copy_in(workspace, plan.plan.image.data(), plan.plan.image_bytes, stream));
  if (plan.in_envelope || layout.counters == 0) return {};
  return device_->fill(static_cast<std::byte*>(workspace) + layout.plan, 0, layout.counters, stream);
}

Status Attention::upload(const PlannedAttention& plan, const AttentionEnvelope& envelope, PlanStager& stager, void* workspace,
                         size_t workspace_bytes, Stream stream) const {
  LATHE_TRY(check_plan(plan));
  LATHE_TRY(check_identity("envelope", envelope.identity));
  LATHE_TRY(check_same(plan.envelope, envelope));
  if (stager.device() != device_) return invalid_argument("stager", "was made for another device");
  LATHE_TRY(check_workspace(envelope.layout, workspace, workspace_bytes));
  return stager.stage(plan.plan.bytes(), workspace, stream);
}

Status Attention::run(const AttentionArgs& args, const PlannedAttention& plan, void* workspace, Stream stream) const {
  LATHE_TRY(check_plan(plan));
  return run(args, plan.envelope, workspace, stream);
}

Status Attention::run(const AttentionArgs& args, const AttentionEnvelope& envelope, void* workspace, Stream stream) const {
  LATHE_TRY(check_identity("envelope", envelope.identity));
  LaunchArgs checked;
  LATHE_TRY(read_args(spec(), args, envelope, workspace, checked));
  const NvtxRange range([&] {
    return "lathe run [" + identity_.spec + "] tokens " + std::to_string(args.q.shape[0]) + ", heads " +
           std::to_string(args.q.shape[1]);
  });
  Launch launch;
  launch.grid.x = static_cast<uint32_t>(num_ctas());
  launch.block.x = static_cast<uint32_t>(tile().threads());
  launch.shared_bytes = static_cast<uint32_t>(tile().shared_bytes);
  launch.params = std::as_bytes(std::span(&checked.params, 1));
  launch.buffers = std::span(checked.buffers).first(checked.num_buffers);
  return device_->launch(*kernel_, launch, stream);
}

}  // namespace lathe
