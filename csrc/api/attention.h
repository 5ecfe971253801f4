// Attention for callers: prepare a kernel once, plan each batch, run it as often as needed.
//
//   lathe::Engine engine;
//   auto device = lathe::host_device();                                      // or lathe::cuda_device(0)
//   auto attention = lathe::Attention::prepare(engine, device, spec);        // renders, compiles or hits the cache, loads
//   auto plan = attention->plan(batch, num_kv_heads);                        // pure, on the host
//   attention->upload(*plan, workspace, bytes, stream);                      // one copy
//   attention->run(args, *plan, workspace, stream);                          // one launch: capturable in a CUDA graph
//
// Step after step, one captured launch serves every batch within given bounds (docs/planner.md, "Envelope"):
//
//   auto envelope = attention->envelope(bounds);                             // the workspace's layout, once
//   attention->prepare_workspace(*envelope, workspace, bytes, stream);       // once
//   capture: attention->run(args, *envelope, workspace, stream);             // once
//   each step: attention->plan(batch, *envelope, plan);                      // allocates nothing after the first
//              attention->upload(plan, *envelope, *stager, workspace, bytes, stream);  // waits for nothing
//              replay
//
// Every call checks its arguments first; problems are named all at once, before anything is compiled or launched.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "lathe/api/hook_args.h"
#include "lathe/api/kv_scales.h"
#include "lathe/api/plan_stager.h"
#include "lathe/api/prepare_options.h"
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

  /// With kv_indices: leading pages that several requests have in common are read once for all of them, wherever the planner's
  /// costs say that this shortens the launch; results then agree with those without within rounding. Does nothing under
  /// batch_invariant, with split_kv off or fixed(n), or with a window; in an envelope only where bounds.share_prefixes made room.
  bool share_prefixes = true;
  /// Keys that ranges of requests see in front of their own, whatever the mask, each with entries of their own: the levels of a
  /// cascade. The keys above are then what follows them. Not with kv_indices' automatic sharing; in an envelope only where
  /// bounds.share_prefixes made room. Needs split_kv auto, no batch_invariant, no window.
  std::span<const SharedPrefix> prefixes;

  /// Where the spec has a mask of hooks: its params, all of them, and host copies of the tensors that it reads, equal to
  /// what the device will hold when it runs. What is not copied is not known here: its tiles are then looked at by the kernel.
  std::span<const HookParam> hook_params;
  std::span<const HookTensor> hook_tensors;
};

/// Upper bounds of the batches that one envelope serves.
struct AttentionBounds {
  int32_t num_kv_heads = 0;     // of every batch
  int32_t max_batch = 0;        // requests
  int64_t max_qo_tokens = 0;    // summed over the batch
  int64_t max_kv_entries = 0;   // ragged: rows of k; paged: entries of kv_indices, or batch * block_table_stride
  int64_t max_kv_len = 0;       // tokens of one request; needed with split_kv fixed(n), and for hooks' tensors with an axis KVPOS.
                                // Masks of hooks: 0 gives room for 256 runs of keys a row block (docs/tile-skipping.md)
  int32_t window = 0;           // of every batch; W >= 1 when the mask has a window
  bool share_prefixes = false;  // room for plans that share keys between requests
  int64_t max_qo_len = 0;       // rows of one request; 0: max_qo_tokens. Tensors of hooks with an axis QLEN have at least these
  /// Of every batch: the params that a mask of hooks depends on.
  std::vector<HookParam> hook_params = {};
  bool operator==(const AttentionBounds&) const = default;
};

/// What plans and envelopes are bound to.
struct AttentionIdentity {
  std::string kernel;  // key of the machine code, in hex
  std::string spec;    // what the planner and the launch take from the spec, as text
  int32_t num_ctas = 0;
  bool operator==(const AttentionIdentity&) const = default;
};

/// One workspace and one launch for every batch within `bounds`. A plain value; it refers to nothing.
struct AttentionEnvelope {
  AttentionBounds bounds;
  WorkspaceLayout layout;  // the workspace has layout.total() bytes
  AttentionIdentity identity;
};

/// A batch's lengths as the planner takes them.
struct BatchLengths {
  std::vector<int32_t> kv_lens;          // [batch], tokens
  std::vector<int32_t> kv_begin;         // [batch], see abi::AttentionRequest
  std::vector<expr::Value> hook_params;  // of the mask, by slot
  expr::Summary hook_tensors;            // of the mask; refers to the batch's memory
  int64_t kv_entries = 0;                // rows of k (ragged), or entries of kv_indices (paged), that the batch may touch
};

/// A batch's schedule, made for one prepared kernel and head count, and the memory it was made in: planning into the same object
/// again uses that anew.
struct PlannedAttention {
  AttentionPlan plan;
  PlanShape shape;  // what it was planned for
  BatchLengths lengths;
  int32_t batch = 0;
  int64_t qo_tokens = 0;
  /// What a launch of it may touch: the envelope it was planned in or, without one, bounds and layout of its own size.
  AttentionEnvelope envelope;
  bool in_envelope = false;  // planned in a given envelope, whose workspace prepare_workspace() makes ready
};

/// Tensors of one run, in device memory of the kernel's device.
struct AttentionArgs {
  Tensor q;  // [tokens, num_qo_heads, head_dim_qk]
  /// Elements of kfmt; ragged [tokens, num_kv_heads, head_dim_qk]; paged NHD [pages, page_size, num_kv_heads, head_dim_qk], HND
  /// with the middle two swapped; joint: [pages, 2, ...] holding K and V, and v is left empty (head dims equal).
  Tensor k;
  Tensor v;                             // as k, with vfmt and head_dim_vo
  Tensor o;                             // [tokens, num_qo_heads, head_dim_vo]
  Tensor lse;                           // f32 [tokens, num_qo_heads], heads contiguous; empty unless the spec asks for it
  const int32_t* kv_indices = nullptr;  // device: csr indices, or block_table [batch, block_table_stride]; null when ragged
  int64_t num_kv_indices = 0;           // its entries
  float sm_scale = 0;                   // 0: 1 / sqrt(head_dim_qk); else > 0
  float soft_cap = 0;                   // > 0 when the spec has soft_cap
  KvScales k_scales, v_scales;          // of keys and values that are codes of 8 bits
  /// Each param and tensor that the spec's hooks use, in device memory of the kernel's device. Params of a mask as in the plan.
  std::span<const HookParam> hook_params = {};
  std::span<const HookTensor> hook_tensors = {};
};

/// A prepared kernel. Immutable; safe to use from many threads with different plans and workspaces.
class Attention {
 public:
  /// spec.arch "host" or empty means: the device's own.
  static Result<Attention> prepare(Engine& engine, std::shared_ptr<Device> device, AttentionSpec spec, PrepareOptions options = {});

  const AttentionSpec& spec() const { return shape_.spec; }
  const AttentionTile& tile() const { return shape_.tile; }
  const Kernel& kernel() const { return *kernel_; }
  Origin origin() const { return origin_; }
  int32_t num_ctas() const { return shape_.num_ctas; }

  /// What the planner takes as given: this kernel, its grid, the costs on its device.
  PlanShape plan_shape(int32_t num_kv_heads) const;

  Result<WorkspaceLayout> workspace_bound(int32_t num_kv_heads, const PlanBounds& bounds) const;
  /// The schedule of one batch, with a workspace layout of its own.
  Result<PlannedAttention> plan(const AttentionBatch& batch, int32_t num_kv_heads) const;

  /// The envelope of `bounds`: its layout serves every batch within them. Refuses bounds that are negative or pass the planner's
  /// limits, and a window where the mask has none or none where it has one.
  Result<AttentionEnvelope> envelope(const AttentionBounds& bounds) const;
  /// The schedule of one batch within `envelope`, into `out`. Allocates nothing when `out` was planned in this envelope before,
  /// unless the spec has a mask of hooks.
  /// What exceeds the envelope is refused with the figure needed and the figure allowed; `out` then holds no plan, and upload() and
  /// run() refuse it.
  Status plan(const AttentionBatch& batch, const AttentionEnvelope& envelope, PlannedAttention& out) const;

  /// Makes `workspace` (256-byte aligned device memory of at least envelope.layout.total() bytes) ready for plans of `envelope`:
  /// zeroes its merge counters, asynchronously on `stream`. Once; every launch leaves them zero. Again only after a launch that
  /// failed.
  Status prepare_workspace(const AttentionEnvelope& envelope, void* workspace, size_t workspace_bytes, Stream stream) const;
  /// Copies the plan into `workspace` (256-byte aligned device memory); asynchronous on `stream`, but the host's memory is read
  /// before this returns, for which it may wait. A plan without an envelope has its merge counters zeroed too. Refused when
  /// `workspace_bytes` is less than plan.plan.workspace.total(): both figures are named.
  Status upload(const PlannedAttention& plan, void* workspace, size_t workspace_bytes, Stream stream) const;
  /// The same for a plan of `envelope`, whose workspace this is, through `stager`: one copy, without ever waiting. `plan` may be
  /// planned anew when this returns. Refuses a plan of another envelope, naming what disagrees, and a stream that is being
  /// captured.
  Status upload(const PlannedAttention& plan, const AttentionEnvelope& envelope, PlanStager& stager, void* workspace,
                size_t workspace_bytes, Stream stream) const;

  /// One launch. `workspace` must hold the uploaded plan.
  Status run(const AttentionArgs& args, const PlannedAttention& plan, void* workspace, Stream stream) const;
  /// The launch that serves every plan of `envelope`, and equals run() with any of them: `workspace` must hold an uploaded one when
  /// it executes. The tensors must hold what the bounds allow, however small the batch.
  Status run(const AttentionArgs& args, const AttentionEnvelope& envelope, void* workspace, Stream stream) const;

 private:
  Attention() = default;
  Status check_identity(const char* what, const AttentionIdentity& identity) const;
  Status check_plan(const PlannedAttention& plan) const;

  PlanShape shape_;  // without heads
  std::shared_ptr<Device> device_;
  KernelPtr kernel_;
  Origin origin_ = Origin::compiled;
  AttentionIdentity identity_;
};

/// The kernel request an attention spec stands for (also used by compile-only tools): spec + resolved tile -> template values.
/// Refuses hooks with unsafe_cuda unless `options` ask for it.
Result<KernelRequest> attention_request(const AttentionSpec& spec, const AttentionTile& tile, PrepareOptions options = {});

}  // namespace lathe
