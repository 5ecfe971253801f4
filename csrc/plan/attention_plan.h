// The planner of attention: from lengths to work lists. A pure function of integers; no CUDA header.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lathe/abi/attention.h"
#include "lathe/abi/attention_schedule.h"
#include "lathe/base/bytes.h"
#include "lathe/base/status.h"
#include "lathe/plan/attention_cost.h"
#include "lathe/plan/attention_mask.h"
#include "lathe/plan/attention_sharing.h"
#include "lathe/plan/attention_tile.h"
#include "lathe/spec/attention_spec.h"

namespace lathe {

/// What is fixed for a prepared kernel.
struct PlanShape {
  AttentionSpec spec;
  AttentionTile tile;
  int32_t num_kv_heads = 0;
  int32_t num_ctas = 0;  // blocks of the persistent grid
  AttentionCosts costs = {};
};

/// Keys that requests [first_request, first_request + num_requests) see in front of their own, whatever the mask.
struct SharedPrefix {
  int32_t first_request = 0, num_requests = 0;
  int32_t kv_begin = 0, kv_len = 0;  // where they lie, as PlanBatch's
};

/// The batch at hand. All spans are host memory and only read during the call.
struct PlanBatch {
  std::span<const int32_t> qo_indptr;  // [batch + 1], from 0, not falling
  std::span<const int32_t> kv_lens;    // [batch], tokens, >= 0
  std::span<const int32_t> kv_begin;   // [batch], see abi::AttentionRequest::kv_begin
  int32_t window = 0;                  // >= 1 when the mask has a window

  // Only where tiles may be cut anywhere: split_kv automatic and not batch_invariant.
  /// Keys besides kv_lens, read once for all requests that see them. A request can have several, up to kMaxSharedLevels.
  std::span<const SharedPrefix> prefixes = {};
  /// Paged, without a window: the page tables, entry kv_begin[b] + i for page i of request b. Where given, leading pages that
  /// requests have in common are read once for all of them, wherever that shortens the longest block. Not with `prefixes`.
  std::span<const int32_t> page_ids = {};
  /// What a mask of hooks depends on; read only where the spec has one.
  MaskValues mask = {};
};

/// Upper bounds of the batches that one workspace must serve.
struct PlanBounds {
  int32_t max_batch = 0;
  int64_t max_qo_tokens = 0;  // summed over the batch
  int64_t max_kv_len = 0;     // of one request, 0: not known; split_kv fixed(n) and masks of hooks depend on it
  bool shared_keys = false;   // room for the lists of batches that share keys
};

/// Bytes of each part of the workspace, in this order, each a multiple of 256.
struct WorkspaceLayout {
  size_t plan = 0, counters = 0, partial_o = 0, partial_lse = 0;
  size_t total() const { return plan + counters + partial_o + partial_lse; }
  bool operator==(const WorkspaceLayout&) const = default;
};

/// A plan, and the memory it was made in: planning the next batch into the same object allocates only when that batch needs more
/// room than any before.
struct AttentionPlan {
  Bytes image;                  // the first image_bytes are AttentionPlanHeader and its lists, ready to be copied to device memory
  size_t image_bytes = 0;       // 0 until a batch was planned
  WorkspaceLayout workspace;    // what this plan uses or, when it was given, the layout it was made for
  int32_t num_items = 0;        // work items, all replicas
  int32_t num_split_tiles = 0;  // output tiles that were cut, all replicas
  int64_t partial_rows = 0;
  int32_t num_shared_tiles = 0;  // output tiles of keys that requests share, all replicas
  KeyRuns key_runs;              // of a mask of hooks

  std::vector<abi::AttentionRowBlock> row_blocks;  // of the batch as if nothing were shared
  PrefixSearch search;
  Sharing sharing;
  LinkedTiles linked;

  BytesView bytes() const { return BytesView(image).first(image_bytes); }
};

/// Work lists of `batch`: every (packed row, visible key) of every request and head covered exactly once; a row with no visible key
/// is covered by an item with an empty range. With a mask of hooks, key tiles that no row of an item sees are in no item, and cost
/// nothing (abi::AttentionKeyRun); hooks that shape scores keep requests from sharing keys. Per request the tile class depends on
/// its own lengths alone. Splits follow spec.split_kv: `off` never; `fixed(n)` at absolute multiples of n; `automatic` where it
/// shortens the longest block, so that at most two parts come on one block. Under batch_invariant, automatic means off. Where
/// requests share keys (PlanBatch::prefixes, page_ids), the keys are read once for each tile of their rows, and the states are
/// merged (abi::AttentionLinkedTile); what page_ids give is used only when it fits `layout` and makes the longest block shorter.
/// With `layout` the plan's lists and partial states must fit its parts (see workspace_bound); without it the plan gets a layout of
/// its own size. Refuses lengths that are negative, qo_indptr that falls, products past 2^31 - 1 and more work than `layout` holds,
/// naming request and value or what is needed; `plan` then holds no plan. `shape.spec` has passed validate() and `shape.tile` is
/// what resolve_tile made of it. Thread-safe for different plans; the result depends on the arguments alone.
Status plan_attention(const PlanShape& shape, const PlanBatch& batch, const WorkspaceLayout* layout, AttentionPlan& plan);

/// The same, into a new plan with a layout of its own.
Result<AttentionPlan> plan_attention(const PlanShape& shape, const PlanBatch& batch);

/// Makes room in `plan` for every batch within `bounds`, whose layout is `layout`: planning one allocates nothing then.
Status reserve_plan(const PlanShape& shape, const PlanBounds& bounds, const WorkspaceLayout& layout, AttentionPlan& plan);

/// A workspace that serves every batch within `bounds` whatever its lengths. With automatic splitting the partial states take two
/// tiles for each block of the grid, with fixed(n) what max_kv_len can make of every tile, else none.
Result<WorkspaceLayout> workspace_bound(const PlanShape& shape, const PlanBounds& bounds);

/// Cost of the plan's work, by the costs it was made with.
struct PlanLoad {
  std::vector<int64_t> cta;  // per block of the grid
  int64_t total = 0, longest = 0;
  double imbalance() const {
    return total == 0 ? 1.0 : static_cast<double>(longest) * static_cast<double>(cta.size()) / static_cast<double>(total);
  }
};
PlanLoad load_of(const PlanShape& shape, const AttentionPlan& plan);

/// Cost of an item's work for all its heads.
int64_t item_cost(const PlanShape& shape, const abi::AttentionWorkItem& item);

/// The schedule as a picture in text: load per block as bars, splits, the longest block over the mean. No line is wider than
/// `columns` (at least 40).
std::string draw(const PlanShape& shape, const AttentionPlan& plan, int columns = 72);

}  // namespace lathe
