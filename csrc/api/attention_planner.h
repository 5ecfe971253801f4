// Planning on the device: the schedule of a batch whose lengths never come to the host.
//
//   auto envelope = attention->envelope(bounds);
//   auto planner = lathe::AttentionPlanner::prepare(engine, *attention, *envelope);
//   attention->prepare_workspace(*envelope, workspace, bytes, stream);   // once
//   planner->plan(lengths, workspace, scratch, stream);                  // one launch
//   attention->run(args, *envelope, workspace, stream);                  // one launch; both can be captured
#pragma once

#include <cstdint>
#include <memory>

#include "lathe/api/attention.h"
#include "lathe/plan/attention_device_plan.h"

namespace lathe {

/// The lengths of a batch in device memory. A batch smaller than num_requests is padded with requests of no query token.
struct DeviceLengths {
  int32_t num_requests = 0;
  const int32_t* qo_indptr = nullptr;      // [num_requests + 1]
  const int32_t* kv_indptr = nullptr;      // [num_requests + 1]; ragged: in tokens; csr: in entries of kv_indices
  const int32_t* last_page_len = nullptr;  // [num_requests]; csr
  const int32_t* seq_lens = nullptr;       // [num_requests]; table
  int32_t block_table_stride = 0;          // table: entries of block_table per request
};

/// A prepared planning kernel for one envelope. Immutable; safe to use from many threads with different workspaces.
class AttentionPlanner {
 public:
  static Result<AttentionPlanner> prepare(Engine& engine, std::shared_ptr<Device> device, const Attention& attention,
                                          const AttentionEnvelope& envelope);
  /// The same for any shape; the plan is for a workspace of workspace_bound(shape, bounds).
  static Result<AttentionPlanner> prepare(Engine& engine, std::shared_ptr<Device> device, const PlanShape& shape,
                                          const AttentionBounds& bounds);

  /// Bytes of scratch memory that plan() needs, whatever the batch.
  size_t scratch_bytes() const;
  /// Writes the plan into `workspace`, which prepare_workspace() made ready; both buffers 256-byte aligned device memory. One
  /// launch of one block, nothing else. The lists are those that Attention::plan makes on the host. Lengths that plan() would
  /// refuse stop the kernel (a device cannot refuse): on a GPU the context is lost, the host executor reports `launch_failed`.
  Status plan(const DeviceLengths& lengths, void* workspace, void* scratch, size_t scratch_bytes, Stream stream) const;

  const Kernel& kernel() const { return *kernel_; }

 private:
  AttentionPlanner() = default;
  std::shared_ptr<Device> device_;
  KernelPtr kernel_;
  AttentionBounds bounds_;
  WorkspaceLayout layout_;
  DevicePlanShape shape_;
};

/// The request of the planning kernel for `arch`: one for all specs.
KernelRequest attention_planner_request(const std::string& arch);

}  // namespace lathe
