#include "lathe/plan/attention_device_plan.h"

#include <algorithm>
#include <limits>

#include "lathe/plan/attention_work.h"

namespace lathe {

Result<DevicePlanShape> device_plan_shape(const PlanShape& shape, const PlanBounds& bounds, int32_t window) {
  if (skips_tiles(shape.spec)) return invalid_argument("hooks", "has a mask, whose tiles are found on the host: plan there");
  Result<MostWork> most = most_work(shape, bounds);
  LATHE_TRY(most);
  const Replicas replicas = replicas_of(shape);
  DevicePlanShape out;
  abi::AttentionPlanParams& p = out.params;
  const LayoutSpec& layout = shape.spec.layout;
  p.form = layout.kind == LayoutKind::ragged ? abi::AttentionKeysForm::ragged
           : layout.index == PageIndex::csr  ? abi::AttentionKeysForm::csr
                                             : abi::AttentionKeysForm::table;
  p.page_size = layout.kind == LayoutKind::ragged ? 1 : layout.page_size;
  p.max_row_blocks = static_cast<int>(most->blocks);
  p.max_items = static_cast<int>(most->counts.items);
  p.max_partial_rows = static_cast<int>(std::min<int64_t>(most->partial_rows, std::numeric_limits<int32_t>::max()));
  p.schedule = schedule_shape(shape, replicas, window);
  // The sums over all row blocks, and a few lists of the largest, stay within 64 bits.
  p.max_tile_cost = std::numeric_limits<int64_t>::max() / 16 / replicas.heads / std::max<int64_t>(most->blocks, replicas.lists);
  p.header = plan_offsets(most->counts);
  p.header.num_lists = replicas.lists;
  p.header.num_replicas = replicas.count;
  p.header.replica_heads = replicas.heads;
  out.row_blocks_bytes = static_cast<size_t>(most->blocks) * sizeof(abi::AttentionRowBlock);
  return out;
}

}  // namespace lathe
