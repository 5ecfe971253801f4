// From what a batch shares to its linked tiles (abi::AttentionLinkedTile). Internal to csrc/plan.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "lathe/abi/attention_schedule.h"
#include "lathe/plan/attention_plan.h"
#include "lathe/plan/attention_work.h"

namespace lathe {

/// The tile class of shared tiles that hold `rows` packed rows in all.
inline int shared_tile_class(const abi::AttentionScheduleShape& schedule, int64_t rows) {
  return abi::tile_class_of(schedule, static_cast<int>(std::min<int64_t>(rows, schedule.rows[0])));
}

/// Packs leaves into shared tiles of `tile_rows` rows, one after another, none across two.
class SharedTilePacking {
 public:
  explicit SharedTilePacking(int tile_rows) : tile_rows_(tile_rows) {}
  /// Returns the first row of a leaf of `rows` rows (at most tile_rows) in its tile; 0 begins a tile.
  int add(int rows) {
    if (tiles_ == 0 || used_ + rows > tile_rows_) ++tiles_, used_ = 0;
    const int at = used_;
    used_ += rows;
    return at;
  }
  int64_t tiles() const { return tiles_; }

 private:
  int tile_rows_, used_ = 0;
  int64_t tiles_ = 0;
};

/// What a batch shares by its own word: checked prefixes, in their order.
void take_prefixes(const PlanBatch& batch, Sharing& out);

/// What `sharing` makes of the row blocks that `batch` has without it. Refuses work whose cost passes what one plan can balance.
Status link_tiles(const PlanBatch& batch, const abi::AttentionScheduleShape& schedule,
                  std::span<const abi::AttentionRowBlock> blocks, const Sharing& sharing, LinkedTiles& out, RowWork& work);

}  // namespace lathe
