
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "lathe/plan/attention_image.h"
#include "lathe/plan/attention_work.h"

namespace lathe {
namespace {

constexpr int64_t kPartAlignment = 256;

// Room for runs of keys: one for each tile of the longest request, so that no two need be joined, up to 2048 (of 128 Ki keys in
// tiles of 64; 32 KiB). Row blocks use it together: where lengths are not known or greater, a batch has as many runs as it makes
// until all room is taken.
constexpr int64_t kMostRunsPerBlock = 2048, kRunsPerBlock = 256;

int64_t runs_of_block(const PlanShape& shape, int64_t max_kv_len) {
  if (max_kv_len == 0) return kRunsPerBlock;
  const auto shortest = std::ranges::min_element(shape.tile.classes, {}, &TileClass::kv);
  return std::min(ceil_div<int64_t>(max_kv_len, shortest->kv), kMostRunsPerBlock);
}

size_t part_bytes(int64_t bytes) {
  return static_cast<size_t>(round_up(bytes, kPartAlignment));
}

Status check_bounds(const PlanShape& shape, const PlanBounds& bounds) {
  Problems problems;
  if (bounds.max_batch < 0) problems.add("max_batch", fmt::format("is {}; must not be negative", bounds.max_batch));
  int64_t qo_heads = int64_t{shape.num_kv_heads} * shape.spec.group_size;
  if (bounds.max_qo_tokens < 0 || bounds.max_qo_tokens > kInt32Max / qo_heads)
    problems.add("max_qo_tokens",
                 fmt::format("is {}; with {} heads it must be 0..{}", bounds.max_qo_tokens, qo_heads, kInt32Max / qo_heads));
  if (bounds.max_kv_len < 0 || bounds.max_kv_len > kInt32Max)
    problems.add("max_kv_len", fmt::format("is {}; must be 0..{}", bounds.max_kv_len, kInt32Max));
  return problems.status();
}

// Rows of one request, rounded up to its tiles.
int64_t padded_rows(const abi::AttentionScheduleShape& shape, int64_t rows) {
  return round_up<int64_t>(rows, shape.rows[abi::tile_class_of(shape, static_cast<int>(rows))]);
}

// Most rows, rounded up to tiles, that `tokens` query tokens can make in requests of whatever lengths: tokens times the worst ratio
// of padded rows to tokens of one request. A request of t tokens pads to at most group * t + q, so behind t = 2q the ratio is below
// group + 1.
int64_t max_padded_rows(const abi::AttentionScheduleShape& shape, int64_t tokens) {
  const int64_t group = shape.rows_per_token;
  int64_t most = tokens * (group + 1);
  for (int64_t t = 1; t <= 2 * shape.rows[0]; ++t) {
    most = std::max(most, ceil_div(tokens * padded_rows(shape, t * group), t));
  }
  return most;
}

// What the batches within `bounds` can make of one replica at most; a product that overflows is past every limit that is checked.
MostWork most_within(const PlanShape& shape, const PlanBounds& bounds) {
  constexpr int64_t kTooMany = std::numeric_limits<int64_t>::max() / 4;
  const Replicas replicas = replicas_of(shape);
  const int64_t tallest = shape.tile.classes[0].q;
  const int64_t rows = bounds.max_qo_tokens * rows_per_token(shape);
  const int64_t requests = std::min<int64_t>(bounds.max_batch, bounds.max_qo_tokens);  // those with a query
  // No request has more row blocks than the tallest class would make of it: sum of 1 + (rows - 1) / q.
  const int64_t row_tiles = requests == 0 ? 0 : requests + (rows - requests) / tallest;
  const int64_t blocks = row_tiles * heads_apart(shape);
  MostWork most{{bounds.max_batch, replicas.lists, 0, blocks}, blocks, 0};
  PlanCounts& counts = most.counts;
  const SplitSpec& split = shape.spec.split_kv;
  if (split.mode == SplitMode::fixed) {
    const int64_t parts = ceil_div<int64_t>(bounds.max_kv_len, split.tokens);
    if (parts > 1 && blocks > 0) {
      const int64_t padded =
          std::min(row_tiles * tallest, max_padded_rows(schedule_shape(shape, replicas, 1), bounds.max_qo_tokens));
      counts.groups = row_tiles * replicas.heads;
      counts.items = checked_mul(counts.groups, parts).value_or(kTooMany);
      most.partial_rows = checked_mul(padded * replicas.heads, parts).value_or(kTooMany);
    }
  } else if (cuts_freely(shape.spec) && blocks > 0) {
    counts.groups = replicas.lists;
    most.partial_rows = 2 * int64_t{replicas.lists} * tallest;
    if (bounds.shared_keys && !shape.spec.windowed()) {
      // Every row block is a leaf that has all its levels, and no two share a tile. Their states must do with the rows above: what
      // does not fit is not shared.
      counts.linked = (1 + kMaxSharedLevels) * blocks;
      counts.links = 2 * kMaxSharedLevels * blocks;
      counts.shared_rows = kMaxSharedLevels * rows;
      counts.requests += kMaxSharedLevels * blocks;
      counts.groups += counts.linked * replicas.heads;
      counts.items = counts.linked * replicas.heads;
    }
  }
  if (skips_tiles(shape.spec)) {
    counts.masked_blocks = blocks;
    counts.runs = blocks * runs_of_block(shape, bounds.max_kv_len);
    counts.heads_apart = heads_apart(shape);
  }
  counts.items += kItemsPerList * replicas.lists;
  return most;
}

}  // namespace

Result<WorkspaceLayout> workspace_layout(const WorkspaceNeeds& needs, const PlanShape& shape) {
  if (needs.partial_rows > kInt32Max)
    return invalid_argument("split_kv", fmt::format("needs {} rows of partial states; at most 2^31 - 1", needs.partial_rows));
  WorkspaceLayout layout;
  layout.plan = part_bytes(needs.plan_bytes);
  layout.counters = part_bytes(needs.groups * 4);
  layout.partial_o = part_bytes(needs.partial_rows * shape.spec.head_dim_vo * 4);
  layout.partial_lse = part_bytes(needs.partial_rows * 4);
  return layout;
}

Result<MostWork> most_work(const PlanShape& shape, const PlanBounds& bounds) {
  LATHE_TRY(check_shape(shape));
  LATHE_TRY(check_bounds(shape, bounds));
  const MostWork most = most_within(shape, bounds);
  if (plan_offsets(most.counts).bytes >= 0) return most;
  return invalid_argument("bounds",
                          fmt::format("allow {} requests, {} work items and {} merge groups; they pass the 2^31 - 1 bytes "
                                      "or {} items of a plan",
                                      most.counts.requests, most.counts.items, most.counts.groups, kMaxPlanItems));
}

int64_t room_for_runs(const PlanShape& shape, const PlanBatch& batch, size_t plan_bytes) {
  PlanBounds bounds{static_cast<int32_t>(batch.kv_lens.size()), batch.qo_indptr.back()};
  if (!batch.kv_lens.empty()) bounds.max_kv_len = *std::ranges::max_element(batch.kv_lens);
  MostWork most = most_within(shape, bounds);
  most.counts.runs = 0;
  const int64_t rest = plan_offsets(most.counts).bytes;
  const auto room = static_cast<int64_t>(plan_bytes) - rest;
  return rest < 0 ? 0 : room / static_cast<int64_t>(sizeof(abi::AttentionKeyRun));
}

Status reserve_plan(const PlanShape& shape, const PlanBounds& bounds, const WorkspaceLayout& layout, AttentionPlan& plan) {
  Result<MostWork> most = most_work(shape, bounds);
  LATHE_TRY(most);
  if (plan.image.size() < layout.plan) plan.image.resize(layout.plan);
  plan.row_blocks.reserve(static_cast<size_t>(most->blocks));
  plan.key_runs.first_blocks.reserve(skips_tiles(shape.spec) ? static_cast<size_t>(bounds.max_batch * heads_apart(shape)) : 0);
  plan.key_runs.run_indptr.reserve(skips_tiles(shape.spec) ? static_cast<size_t>(most->blocks) + 1 : 0);
  plan.key_runs.runs.reserve(static_cast<size_t>(most->counts.runs));
  if (most->counts.linked == 0) return {};
  plan.search.reserve(static_cast<size_t>(bounds.max_batch));
  plan.sharing.reserve(static_cast<size_t>(bounds.max_batch));
  plan.linked.reserve(static_cast<size_t>(bounds.max_batch), most->counts);
  return {};
}

Result<WorkspaceLayout> workspace_bound(const PlanShape& shape, const PlanBounds& bounds) {
  Result<MostWork> most = most_work(shape, bounds);
  LATHE_TRY(most);
  const int64_t replicas = replicas_of(shape).count;
  return workspace_layout({plan_offsets(most->counts).bytes, most->counts.groups * replicas,
                           checked_mul(most->partial_rows, replicas).value_or(kInt32Max + 1)},
                          shape);
}

}  // namespace lathe
