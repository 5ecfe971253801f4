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

// Most rows, rounded up to tiles, of any `requests` requests that share `tokens` tokens and have one at least. A request of t
// tokens has at most f(1) + s (t - 1), where f is the step function of padded rows and s its steepest chord from 1; f steps where
// one more token no longer fits a class, and behind the tallest class later steps are flatter.
int64_t max_padded_rows(const PlanShape& shape, int64_t requests, int64_t tokens) {
  const int64_t group = rows_per_token(shape);
  const int64_t first = padded_rows(shape.tile, group);
  int64_t steepest = 0;
  int64_t extra = 0;
  auto chord = [&](int64_t t) {
    if (t < 2) return;
    int64_t rise = padded_rows(shape.tile, t * group) - first;
    steepest = std::max(steepest, ceil_div<int64_t>(rise, t - 1));
  };
  chord(2);
  for (const TileClass& c : shape.tile.classes) chord(c.q / group + 1);
  if (group > shape.tile.classes[0].q) steepest = first;  // f(a + b) <= f(a) + f(b): no chord is steeper than f(1)
  extra = std::max<int64_t>(tokens - requests, 0);
  return requests * first + extra * steepest;
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
      int64_t padded = std::min(blocks * tallest, max_padded_rows(shape, requests, bounds.max_qo_tokens));
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
