// Where output tiles are cut along the keys, and which block gets which part. Internal to csrc/plan.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "lathe/base/bytes.h"
#include "lathe/plan/attention_work.h"
#include "lathe/plan/balance.h"

namespace lathe {

/// Cuts of one row block, at origin + i * chunk (chunk 0: none), for its first `heads` heads; the others stay whole.
struct Cuts {
  int32_t origin = 0;
  int32_t chunk = 0;
  int32_t heads = 0;
};

/// A part of a row block: its keys.
struct Part {
  int32_t kv_begin = 0, kv_end = 0;
};

/// How many parts `cuts` make of `block` for a head that is cut; at least 1, also when the block has no key.
inline int32_t num_parts(const RowBlock& block, const Cuts& cuts) {
  if (cuts.chunk == 0 || block.keys() == 0) return 1;
  int64_t first = (int64_t{block.kv_begin} - cuts.origin) / cuts.chunk;
  int64_t end = ceil_div<int64_t>(int64_t{block.kv_end} - cuts.origin, cuts.chunk);
  return static_cast<int32_t>(end - first);
}

/// Heads of `block` that have more than one part.
inline int32_t split_heads(const RowBlock& block, const Cuts& cuts) {
  return num_parts(block, cuts) > 1 ? cuts.heads : 0;
}

/// Part `index` of them.
inline Part part_of(const RowBlock& block, const Cuts& cuts, int32_t index) {
  if (num_parts(block, cuts) == 1) return {block.kv_begin, block.kv_end};
  int64_t first = (int64_t{block.kv_begin} - cuts.origin) / cuts.chunk;
  int64_t begin = cuts.origin + (first + index) * cuts.chunk;
  return {static_cast<int32_t>(std::max<int64_t>(begin, block.kv_begin)),
          static_cast<int32_t>(std::min<int64_t>(begin + cuts.chunk, block.kv_end))};
}

/// Parts that one plan may have when splitting is automatic: two for each block of the grid, whatever the batch.
constexpr int64_t max_automatic_parts(int32_t num_ctas) {
  return 2 * int64_t{num_ctas};
}

/// What a run of jobs in Schedule::balance stands for: part `part` of row block `block` for heads from head_begin on. For a whole
/// tile `part` is kWhole.
struct PartRef {
  int32_t block = 0, part = 0, head_begin = 0;
};
constexpr int32_t kWhole = -1;

struct Schedule {
  std::vector<Cuts> cuts;     // per row block
  std::vector<PartRef> refs;  // per run of `balance`
  std::vector<JobRun> runs;
  Balance balance;
};

/// Chooses cuts by spec.split_kv and assigns all parts. Cuts of a row block depend on its own keys and, when automatic, on the
/// batch as a multiset of lengths, never on its order.
/// Refuses more parts, or more rows of partial states, than a plan can list.
Result<Schedule> make_schedule(const PlanShape& shape, std::span<const RowBlock> blocks);

}  // namespace lathe
