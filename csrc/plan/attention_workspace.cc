#include "lathe/plan/attention_workspace.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "lathe/plan/attention_image.h"
#include "lathe/plan/attention_split.h"
#include "lathe/plan/attention_work.h"

namespace lathe {
namespace {

constexpr int64_t kInt32Max = std::numeric_limits<int32_t>::max();
constexpr int64_t kPartAlignment = 256;

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
int64_t padded_rows(const AttentionTile& tile, int64_t rows) {
  return round_up<int64_t>(rows, tile.classes[class_of_rows(tile, rows)].q);
}

// Most rows, rounded up to tiles, that `tokens` query tokens can make in requests of whatever lengths: tokens times the worst ratio
// of padded rows to tokens of one request. A request of t tokens pads to at most group * t + q, so behind t = 2q the ratio is below
// group + 1.
int64_t max_padded_rows(const PlanShape& shape, int64_t tokens) {
  const int64_t group = rows_per_token(shape);
  int64_t most = tokens * (group + 1);
  for (int64_t t = 1; t <= 2 * shape.tile.classes[0].q; ++t) {
    most = std::max(most, ceil_div(tokens * padded_rows(shape.tile, t * group), t));
  }
  return most;
}

PlanCounts most_counts(const PlanShape& shape, const PlanBounds& bounds) {
  const int64_t heads = num_item_heads(shape);
  const int64_t tallest = shape.tile.classes[0].q;
  const int64_t rows = bounds.max_qo_tokens * rows_per_token(shape);
  const int64_t requests = std::min<int64_t>(bounds.max_batch, bounds.max_qo_tokens);  // those with a query
  PlanCounts counts;
  counts.requests = bounds.max_batch;
  // No request has more row blocks than the tallest class would make of it: sum of 1 + (rows - 1) / q.
  const int64_t blocks = requests == 0 ? 0 : requests + (rows - requests) / tallest;
  counts.items = blocks * heads;
  const SplitSpec& split = shape.spec.split_kv;
  if (split.mode == SplitMode::fixed) {
    int64_t parts = ceil_div<int64_t>(bounds.max_kv_len, split.tokens);
    if (parts > 1 && blocks > 0) {
      int64_t padded = std::min(blocks * tallest, max_padded_rows(shape, bounds.max_qo_tokens));
      counts.groups = counts.items;
      // A product that overflows is past every limit that workspace_layout checks.
      counts.items = checked_mul(counts.items, parts).value_or(std::numeric_limits<int64_t>::max());
      counts.partial_rows = checked_mul(padded * heads, parts).value_or(std::numeric_limits<int64_t>::max());
    }
  } else if (split.mode == SplitMode::automatic && shape.spec.determinism != Determinism::batch_invariant && blocks > 0) {
    int64_t parts = max_automatic_parts(shape.num_ctas);
    counts.items += parts;
    counts.groups = parts / 2;
    counts.partial_rows = parts * tallest;
  }
  return counts;
}

}  // namespace

Result<WorkspaceLayout> workspace_layout(const PlanCounts& counts, const PlanShape& shape) {
  int64_t image = plan_image_bytes(counts.requests, counts.items, counts.groups, shape.num_ctas);
  if (image < 0)
    return invalid_argument(
        "plan",
        fmt::format("{} requests, {} work items and {} merge groups on {} blocks pass the 2^31 - 1 bytes or {} items of a plan",
                    counts.requests, counts.items, counts.groups, shape.num_ctas, kMaxPlanItems));
  if (counts.partial_rows > kInt32Max)
    return invalid_argument("plan", fmt::format("needs {} rows of partial states; at most 2^31 - 1", counts.partial_rows));
  WorkspaceLayout layout;
  layout.plan = part_bytes(image);
  layout.counters = part_bytes(counts.groups * 4);
  layout.partial_o = part_bytes(counts.partial_rows * shape.spec.head_dim_vo * 4);
  layout.partial_lse = part_bytes(counts.partial_rows * 4);
  return layout;
}

Result<WorkspaceLayout> workspace_bound(const PlanShape& shape, const PlanBounds& bounds) {
  LATHE_TRY(check_shape(shape));
  LATHE_TRY(check_bounds(shape, bounds));
  return workspace_layout(most_counts(shape, bounds), shape);
}

}  // namespace lathe
