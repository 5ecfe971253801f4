#include "lathe/api/attention.h"

#include <algorithm>
#include <cstring>

#include "attention_parts.h"
#include "build_kernel.h"
#include "lathe/arch/traits.h"

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

std::string plan_identity(const Artifact& artifact, const AttentionSpec& spec, int32_t num_ctas) {
  return artifact.key_hex + "/" + std::to_string(num_ctas) + "/" + to_string(spec);
}

}  // namespace

Result<Attention> Attention::prepare(Engine& engine, std::shared_ptr<Device> device, AttentionSpec spec) {
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
  Result<KernelRequest> request = attention_request(spec, *tile);
  LATHE_TRY(request);

  Attention attention;
  Result<KernelPtr> kernel = build_kernel(engine, *device, *request, &attention.origin_);
  LATHE_TRY(kernel);
  const Artifact& artifact = *(*kernel)->artifact();
  attention.num_ctas_ = grid_blocks(device->info(), artifact);
  attention.costs_ = attention_costs(*traits, device->info().num_sms, attention.num_ctas_);
  attention.identity_ = plan_identity(artifact, spec, attention.num_ctas_);
  attention.spec_ = std::move(spec);
  attention.tile_ = *std::move(tile);
  attention.device_ = std::move(device);
  attention.kernel_ = *std::move(kernel);
  return attention;
}

Result<WorkspaceLayout> Attention::workspace_bound(int32_t num_kv_heads, const PlanBounds& bounds) const {
  return lathe::workspace_bound(plan_shape(num_kv_heads), bounds);
}

Result<PlannedAttention> Attention::plan(const AttentionBatch& batch, int32_t num_kv_heads) const {
  if (num_kv_heads < 1) return invalid_argument("num_kv_heads", "is " + std::to_string(num_kv_heads) + ", must be >= 1");
  Result<BatchLengths> lengths = read_batch(spec_, batch);
  LATHE_TRY(lengths);
  const PlanBatch plan_batch{batch.qo_indptr, lengths->kv_lens, lengths->kv_begin, batch.window};
  Result<AttentionPlan> plan = plan_attention(plan_shape(num_kv_heads), plan_batch);
  LATHE_TRY(plan);
  PlannedAttention planned;
  planned.plan = *std::move(plan);
  planned.num_kv_heads = num_kv_heads;
  planned.batch = static_cast<int32_t>(batch.qo_indptr.size() - 1);
  planned.window = batch.window;
  planned.qo_tokens = batch.qo_indptr.back();
  planned.kv_entries = lengths->kv_entries;
  planned.identity = identity_;
  return planned;
}

Status Attention::upload(const PlannedAttention& plan, void* workspace, size_t workspace_bytes, Stream stream) const {
  const WorkspaceLayout& layout = plan.plan.workspace;
  if (workspace == nullptr) return invalid_argument("workspace", "is null");
  if (reinterpret_cast<uintptr_t>(workspace) % 256 != 0) return invalid_argument("workspace", "must be 256-byte aligned");
  if (workspace_bytes < layout.total()) {
    return invalid_argument("workspace_bytes",
                            "is " + std::to_string(workspace_bytes) + ", the plan needs " + std::to_string(layout.total()),
                            "workspace_bound() gives a size that serves every batch within bounds");
  }
  LATHE_TRY(device_->copy_in(workspace, plan.plan.image.data(), plan.plan.image_bytes, stream));
  if (layout.counters == 0) return {};
  return device_->fill(static_cast<std::byte*>(workspace) + layout.plan, 0, layout.counters, stream);
}

Status Attention::run(const AttentionArgs& args, const PlannedAttention& plan, void* workspace, Stream stream) const {
  if (plan.identity != identity_) {
    return invalid_argument("plan", "was made for another kernel or grid (" + plan.identity + "), this one is " + identity_);
  }
  Result<LaunchArgs> checked = read_args(spec_, args, plan, workspace);
  LATHE_TRY(checked);
  Launch launch;
  launch.grid.x = static_cast<uint32_t>(num_ctas_);
  launch.block.x = static_cast<uint32_t>(tile_.threads());
  launch.shared_bytes = static_cast<uint32_t>(tile_.shared_bytes);
  launch.params = std::as_bytes(std::span(&checked->params, 1));
  launch.buffers = checked->buffers;
  return device_->launch(*kernel_, launch, stream);
}

}  // namespace lathe
