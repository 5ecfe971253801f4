// From a batch to the output tiles it consists of: the planner's first step. Internal to csrc/plan.
#pragma once

#include <cstdint>
#include <vector>

#include "lathe/base/status.h"
#include "lathe/plan/attention_cost.h"
#include "lathe/plan/attention_plan.h"

namespace lathe {

/// A tile of packed rows of one request, and the keys that any of its rows can see. It stands for one output tile per head.
struct RowBlock {
  int32_t request = 0;
  int32_t tile_class = 0;
  int32_t row_begin = 0;
  int32_t kv_begin = 0, kv_end = 0;  // both 0 when no row sees a key
  int64_t key_cost = 0;              // of one key

  int64_t keys() const { return int64_t{kv_end} - kv_begin; }
};

/// Cost of the block for one head when it is not split.
inline int64_t whole_cost(const AttentionCosts& costs, const RowBlock& block) {
  return costs.item + block.keys() * block.key_cost;
}

/// Heads that items iterate over: kv heads when packed, else qo heads.
inline int64_t num_item_heads(const PlanShape& shape) {
  return int64_t{shape.num_kv_heads} * (shape.tile.packed ? 1 : shape.spec.group_size);
}
/// Packed rows that one query token makes.
inline int32_t rows_per_token(const PlanShape& shape) {
  return shape.tile.packed ? shape.spec.group_size : 1;
}

/// The class of a request with `rows` packed rows (> 0): the fewest row blocks, because each reads the keys again; among equals the
/// shortest, because it wastes the fewest rows.
int32_t class_of_rows(const AttentionTile& tile, int64_t rows);

/// The shape's own problems (no heads, no blocks, no classes); OK when it can be planned for.
Status check_shape(const PlanShape& shape);
/// Every problem of `batch` for a shape that is valid.
Status check_batch(const PlanShape& shape, const PlanBatch& batch);

/// The row blocks of a checked batch, by request and row. Refuses more of them (times heads) than a plan can list, and more work
/// than 64-bit costs can hold.
Result<std::vector<RowBlock>> row_blocks(const PlanShape& shape, const PlanBatch& batch);

}  // namespace lathe
