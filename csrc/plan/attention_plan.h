// The planner of attention: from lengths to work lists. A pure function of integers; no CUDA header, no allocation besides its
// result.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lathe/base/bytes.h"
#include "lathe/base/status.h"
#include "lathe/plan/attention_tile.h"
#include "lathe/spec/attention_spec.h"

namespace lathe {

/// What is fixed for a prepared kernel.
struct PlanShape {
  AttentionSpec spec;
  AttentionTile tile;
  int32_t num_kv_heads = 0;
  int32_t num_ctas = 0;  // blocks of the persistent grid
};

/// The batch at hand. All spans are host memory and only read during the call.
struct PlanBatch {
  std::span<const int32_t> qo_indptr;  // [batch + 1], from 0, not falling
  std::span<const int32_t> kv_lens;    // [batch], tokens, >= 0
  std::span<const int32_t> kv_begin;   // [batch], see abi::AttentionRequest::kv_begin
  int32_t window = 0;                  // >= 1 when the mask has a window
};

/// Upper bounds of the batches that one workspace must serve.
struct PlanBounds {
  int32_t max_batch = 0;
  int64_t max_qo_tokens = 0;  // summed over the batch
  int64_t max_kv_len = 0;     // of one request; only split_kv fixed(n) depends on it
};

/// Bytes of each part of the workspace, in this order, each aligned to 256.
struct WorkspaceLayout {
  size_t plan = 0, counters = 0, partial_o = 0, partial_lse = 0;
  size_t total() const { return plan + counters + partial_o + partial_lse; }
};

struct AttentionPlan {
  Bytes image;                // AttentionPlanHeader and its lists, ready to be copied to device memory
  WorkspaceLayout workspace;  // exactly what this plan uses
  int32_t num_items = 0, num_groups = 0;
  int64_t partial_rows = 0;
  std::vector<int64_t> cta_load;   // cost units (attention_cost.h) per block, for pictures and tests
  std::vector<int64_t> item_cost;  // of each item, in the order of the image
  int64_t total_load = 0;
};

/// Work lists of `batch`: every (packed row, visible key) of every request and head covered exactly once; a row with no visible key
/// is covered by an item with an empty range. Per request the tile class depends on its own lengths alone. Splits follow
/// spec.split_kv: `off` never; `fixed(n)` at absolute multiples of n; `automatic` where it shortens the longest block. Under
/// batch_invariant, automatic means off. Refuses lengths that are negative, qo_indptr that falls, products past 2^31 - 1, naming
/// request and value. `shape.spec` has passed validate() and `shape.tile` is what resolve_tile made of it. Thread-safe; the result
/// depends on the arguments alone.
Result<AttentionPlan> plan_attention(const PlanShape& shape, const PlanBatch& batch);

/// A workspace that serves every batch within `bounds` whatever its lengths. With automatic splitting the partial states take two
/// tiles for each block of the grid, with fixed(n) what max_kv_len can make of every tile, else none.
Result<WorkspaceLayout> workspace_bound(const PlanShape& shape, const PlanBounds& bounds);

/// The schedule as a picture in text: load per block as bars, splits, the longest block over the mean. No line is wider than
/// `columns` (at least 40).
std::string draw(const AttentionPlan& plan, int columns = 72);

}  // namespace lathe
