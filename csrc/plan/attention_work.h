// From a batch to the row blocks it consists of: the planner's first step. Internal to csrc/plan.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "lathe/base/status.h"
#include "lathe/plan/attention_image.h"
#include "lathe/plan/attention_plan.h"

namespace lathe {

/// Most tokens, pages and partial rows: items hold them in 32 bits.
inline constexpr int64_t kInt32Max = std::numeric_limits<int32_t>::max();

/// Heads that items iterate over: kv heads when packed, else qo heads.
inline int64_t num_item_heads(const PlanShape& shape) {
  return int64_t{shape.num_kv_heads} * (shape.tile.packed ? 1 : shape.spec.group_size);
}
/// Packed rows that one query token makes.
inline int32_t rows_per_token(const PlanShape& shape) {
  return shape.tile.packed ? shape.spec.group_size : 1;
}

/// Heads that have row blocks of their own: all that items iterate over where the mask of hooks differs by head, so that none loads
/// what only others see; else one set serves all.
inline int64_t heads_apart(const PlanShape& shape) {
  return shape.spec.hooks.mask_differs_by_head() ? num_item_heads(shape) : 1;
}

/// True when the schedule may cut tiles wherever that shortens the longest block.
inline bool cuts_freely(const AttentionSpec& spec) {
  return spec.split_kv.mode == SplitMode::automatic && spec.determinism != Determinism::batch_invariant;
}

/// True when a key means the same to every row that sees it, whatever request reads it: no hook asks for places.
inline bool keys_are_alike(const AttentionSpec& spec) {
  const AttentionHooks& hooks = spec.hooks;
  return !hooks.shape_scores() && !hooks.has(expr::Hook::query) && !hooks.has(expr::Hook::key) && !hooks.has(expr::Hook::value);
}

/// True when the schedule may look for keys that requests share.
inline bool may_share(const AttentionSpec& spec) {
  return cuts_freely(spec) && keys_are_alike(spec) && !spec.windowed() && spec.layout.kind == LayoutKind::paged;
}

/// The shape's own problems (no heads, no blocks, no classes); OK when it can be planned for.
Status check_shape(const PlanShape& shape);
/// Every problem of `batch` for a shape that is valid.
Status check_batch(const PlanShape& shape, const PlanBatch& batch);

/// Every problem of batch.prefixes, of a batch that has passed check_batch otherwise.
Status check_prefixes(const PlanShape& shape, const PlanBatch& batch);
/// Every request whose page table passes batch.page_ids.
Status check_page_ids(const PlanBatch& batch, int32_t page_size);

/// Items of a list beyond one for each row block.
constexpr int64_t kItemsPerList = 4;

/// How the heads and blocks fall into replicas that are scheduled alike: as many as divide both, or one where heads differ.
struct Replicas {
  int32_t count = 1;
  int32_t heads = 0;  // of one replica
  int32_t lists = 0;  // of one replica
};
Replicas replicas_of(const PlanShape& shape);

abi::AttentionScheduleShape schedule_shape(const PlanShape& shape, const Replicas& replicas, int32_t window);

/// The row blocks of a batch whose spans fit each other, by request and row. Refuses what check_batch does, and more than a plan
/// can list.
Status row_blocks(const PlanShape& shape, const PlanBatch& batch, const abi::AttentionScheduleShape& schedule,
                  std::vector<abi::AttentionRowBlock>& blocks);
/// Replaces the keys of `blocks` by the line of those that the mask of hooks shows to their rows, with at most `max_runs` runs (no
/// fewer than blocks) in all: where there are more, those of later blocks are joined. Refuses more runs than a plan can list.
Status mask_blocks(const PlanShape& shape, const PlanBatch& batch, const abi::AttentionScheduleShape& schedule, int64_t max_runs,
                   std::vector<abi::AttentionRowBlock>& blocks, KeyRuns& key_runs);

/// Sums of row blocks. `items` is the most items that their schedule can list, `groups` and `partial_rows` the most split tiles and
/// rows of partial states, each of one replica.
struct RowWork {
  abi::AttentionScheduleWork sums{};
  int64_t items = 0, groups = 0, partial_rows = 0;
};
/// Refuses more than a plan can list, and more work than 64-bit costs can hold.
Status sum_blocks(const abi::AttentionScheduleShape& schedule, const std::vector<abi::AttentionRowBlock>& blocks, RowWork& work);

/// What the batches within `bounds` can make of one replica at most.
struct MostWork {
  PlanCounts counts;
  int64_t blocks = 0, partial_rows = 0;
};
Result<MostWork> most_work(const PlanShape& shape, const PlanBounds& bounds);
/// Runs of keys that a plan of `batch` has room for in `plan_bytes`, beside everything else that it may list. Where these bytes
/// serve bounds that the batch is within, no fewer than most_work() counts for the bounds.
int64_t room_for_runs(const PlanShape& shape, const PlanBatch& batch, size_t plan_bytes);

/// What a plan needs of a workspace.
struct WorkspaceNeeds {
  int64_t plan_bytes = 0, groups = 0, partial_rows = 0;  // all replicas
};
/// The layout that holds these; refused when the partial rows pass 2^31 - 1.
Result<WorkspaceLayout> workspace_layout(const WorkspaceNeeds& needs, const PlanShape& shape);

}  // namespace lathe
