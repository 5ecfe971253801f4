// Attention for callers: prepare a kernel once, plan each batch, run it as often as needed.
//
//   lathe::Engine engine;
//   auto device = lathe::host_device();                                      // or lathe::cuda_device(0)
//   auto attention = lathe::Attention::prepare(engine, device, spec);        // renders, compiles or hits the cache, loads
//   auto plan = attention->plan(batch, num_kv_heads);                        // pure, on the host
//   attention->upload(*plan, workspace, bytes, stream);                      // one copy
//   attention->run(args, *plan, workspace, stream);                          // one launch: capturable in a CUDA graph
//
// Every call checks its arguments first; problems are named all at once, before anything is compiled or launched.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "lathe/api/tensor.h"
#include "lathe/base/status.h"
#include "lathe/jit/engine.h"
#include "lathe/plan/attention_plan.h"
#include "lathe/plan/attention_tile.h"
#include "lathe/runtime/device.h"
#include "lathe/spec/attention_spec.h"

namespace lathe {

/// Lengths and, for paged layouts, the page bookkeeping of a batch. Host memory, read during plan() only.
struct AttentionBatch {
  std::span<const int32_t> qo_indptr;  // [batch + 1]: rows of request b are [qo_indptr[b], qo_indptr[b + 1]) of q, o and lse

  // ragged
  std::span<const int32_t> kv_indptr;  // [batch + 1], in tokens; csr: in entries of kv_indices
  // paged, csr (with kv_indptr)
  std::span<const int32_t> last_page_len;  // [batch], tokens in the last page, 1..page_size; ignored for requests without pages
  // paged, table
  std::span<const int32_t> seq_lens;  // [batch], tokens
  int32_t block_table_stride = 0;     // entries of block_table per request

  int32_t window = 0;  // W >= 1 when the mask has a window
  /// Optional copy of the page ids on the host: each id used is then checked against num_pages, naming the request.
  std::span<const int32_t> kv_indices;
  int64_t num_pages = 0;  // needed with kv_indices
};

/// A batch's schedule, made for one prepared kernel and head count.
struct PlannedAttention {
  AttentionPlan plan;
  int32_t num_kv_heads = 0, batch = 0, window = 0;
  int64_t qo_tokens = 0;
  int64_t kv_entries = 0;  // rows of k (ragged) or entries of kv_indices (paged) that the batch may touch
  std::string identity;    // of the kernel and grid it was made for; run() refuses another's
};

/// Tensors of one run, in device memory of the kernel's device.
struct AttentionArgs {
  Tensor q;    // [tokens, num_qo_heads, head_dim_qk]
  Tensor k;    // ragged [tokens, num_kv_heads, head_dim_qk]; paged NHD [pages, page_size, num_kv_heads, head_dim_qk], HND with the
               // middle two swapped; joint: [pages, 2, ...] holding K and V, and v is left empty (head dims equal)
  Tensor v;    // as k, with head_dim_vo
  Tensor o;    // [tokens, num_qo_heads, head_dim_vo]
  Tensor lse;  // f32 [tokens, num_qo_heads], heads contiguous; empty unless the spec asks for it
  const int32_t* kv_indices = nullptr;  // device: csr indices, or block_table [batch, block_table_stride]; null when ragged
  int64_t num_kv_indices = 0;           // its entries
  float sm_scale = 0;                   // 0: 1 / sqrt(head_dim_qk); else > 0
  float soft_cap = 0;                   // > 0 when the spec has soft_cap
};

/// A prepared kernel. Immutable; safe to use from many threads with different plans and workspaces.
class Attention {
 public:
  /// spec.arch "host" or empty means: the device's own.
  static Result<Attention> prepare(Engine& engine, std::shared_ptr<Device> device, AttentionSpec spec);

  const AttentionSpec& spec() const { return spec_; }
  const AttentionTile& tile() const { return tile_; }
  const Kernel& kernel() const { return *kernel_; }
  Origin origin() const { return origin_; }
  int32_t num_ctas() const { return num_ctas_; }

  /// What the planner takes as given: this kernel, its grid, the costs on its device.
  PlanShape plan_shape(int32_t num_kv_heads) const { return {spec_, tile_, num_kv_heads, num_ctas_, costs_}; }

  Result<WorkspaceLayout> workspace_bound(int32_t num_kv_heads, const PlanBounds& bounds) const;
  Result<PlannedAttention> plan(const AttentionBatch& batch, int32_t num_kv_heads) const;
  /// Copies the plan into `workspace` (256-byte aligned device memory) and zeroes its counters; asynchronous on `stream`.
  /// Refused when `workspace_bytes` is less than plan.workspace.total(): both figures are named.
  Status upload(const PlannedAttention& plan, void* workspace, size_t workspace_bytes, Stream stream) const;
  /// One launch. `workspace` must hold the uploaded plan.
  Status run(const AttentionArgs& args, const PlannedAttention& plan, void* workspace, Stream stream) const;

 private:
  Attention() = default;
  AttentionSpec spec_;
  AttentionTile tile_;
  std::shared_ptr<Device> device_;
  KernelPtr kernel_;
  Origin origin_ = Origin::compiled;
  int32_t num_ctas_ = 0;
  AttentionCosts costs_;
  std::string identity_;
};

/// The kernel request an attention spec stands for (also used by compile-only tools): spec + resolved tile -> template values.
Result<KernelRequest> attention_request(const AttentionSpec& spec, const AttentionTile& tile);

}  // namespace lathe
