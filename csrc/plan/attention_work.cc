#include "lathe/plan/attention_work.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>

#include "lathe/plan/attention_image.h"

namespace lathe {
namespace {

// A kernel's indices run past the end of a request by up to a few tiles before they are masked; this much room keeps them in 32
// bits.
constexpr int64_t kMaxLength = kInt32Max - 4096;
// Room for the sums of costs that the schedule works with, which stay within a few times this.
constexpr int64_t kMaxCost = std::numeric_limits<int64_t>::max() / 16;
constexpr int32_t kMaxCtas = 1 << 16;
constexpr int32_t kMaxHeads = std::numeric_limits<int16_t>::max();  // an item counts its heads in 16 bits

void check_request(const PlanShape& shape, const PlanBatch& batch, size_t b, Problems& problems) {
  int64_t qo_len = int64_t{batch.qo_indptr[b + 1]} - batch.qo_indptr[b];
  if (qo_len < 0)
    problems.add(fmt::format("qo_indptr[{}]", b + 1),
                 fmt::format("is {} after {}: request {} would have {} query tokens; must not fall", batch.qo_indptr[b + 1],
                             batch.qo_indptr[b], b, qo_len));
  int64_t kv_len = batch.kv_lens[b], kv_begin = batch.kv_begin[b];
  if (kv_len < 0 || kv_len > kMaxLength)
    problems.add(fmt::format("kv_lens[{}]", b), fmt::format("is {}; must be 0..{}", kv_len, kMaxLength));
  if (kv_begin < 0) problems.add(fmt::format("kv_begin[{}]", b), fmt::format("is {}; must not be negative", kv_begin));
  if (kv_len < 0 || kv_begin < 0) return;
  bool paged = shape.spec.layout.kind == LayoutKind::paged;
  int64_t entries = paged ? ceil_div<int64_t>(kv_len, shape.spec.layout.page_size) : kv_len;
  if (kv_begin + entries > kInt32Max)
    problems.add(fmt::format("kv_begin[{}]", b), fmt::format("is {}; with {} {} of request {} it passes 2^31 - 1", kv_begin,
                                                             entries, paged ? "pages" : "tokens", b));
}

// True when check_batch would find a problem with request b; that names it.
bool request_is_bad(const PlanBatch& batch, size_t b) {
  const int64_t qo_len = int64_t{batch.qo_indptr[b + 1]} - batch.qo_indptr[b];
  const int64_t kv_len = batch.kv_lens[b], kv_begin = batch.kv_begin[b];
  // A page holds at least one token, so a request has at most that many entries; check_batch counts exactly.
  return qo_len < 0 || kv_len < 0 || kv_len > kMaxLength || kv_begin < 0 || kv_begin + kv_len > kInt32Max;
}

Status too_many_items(const std::string& place) {
  return invalid_argument("batch", fmt::format("makes more than the {} work items of a plan, {}", kMaxPlanItems, place));
}

}  // namespace

Status check_shape(const PlanShape& shape) {
  Problems problems;
  if (shape.num_kv_heads < 1) problems.add("num_kv_heads", fmt::format("is {}; must be at least 1", shape.num_kv_heads));
  if (shape.num_ctas < 1 || shape.num_ctas > kMaxCtas)
    problems.add("num_ctas", fmt::format("is {}; must be 1..{}", shape.num_ctas, kMaxCtas));
  if (shape.tile.classes.empty()) problems.add("tile.classes", "is empty; the tile must come from resolve_tile");
  for (const TileClass& tile : shape.tile.classes) {
    if (tile.q > abi::kMaxTileRows)
      problems.add("tile.classes", fmt::format("has one of {} rows; at most {}", tile.q, abi::kMaxTileRows));
    if (shape.spec.split_kv.mode != SplitMode::fixed || !skips_tiles(shape.spec) || shape.spec.split_kv.tokens % tile.kv == 0)
      continue;
    problems.add("split_kv", fmt::format("is fixed({}); with a mask of hooks it must be a multiple of the {} keys of a tile",
                                         shape.spec.split_kv.tokens, tile.kv));
  }
  if (shape.num_kv_heads >= 1 && int64_t{shape.num_kv_heads} * shape.spec.group_size > kMaxHeads)
    problems.add("num_kv_heads * group_size",
                 fmt::format("is {}; must not pass {}", int64_t{shape.num_kv_heads} * shape.spec.group_size, kMaxHeads));
  return problems.status();
}

Status check_batch(const PlanShape& shape, const PlanBatch& batch) {
  Problems problems;
  size_t size = batch.kv_lens.size();
  if (batch.qo_indptr.size() != size + 1)
    problems.add("qo_indptr",
                 fmt::format("has {} entries; kv_lens has {}, so it must have {}", batch.qo_indptr.size(), size, size + 1));
  if (batch.kv_begin.size() != size)
    problems.add("kv_begin", fmt::format("has {} entries; must have as many as kv_lens, {}", batch.kv_begin.size(), size));
  if (shape.spec.windowed() && batch.window < 1) problems.add("window", fmt::format("is {}; must be at least 1", batch.window));
  if (!problems.empty()) return problems.status();

  if (batch.qo_indptr[0] != 0) problems.add("qo_indptr[0]", fmt::format("is {}; must be 0", batch.qo_indptr[0]));
  for (size_t b = 0; b < size; ++b) check_request(shape, batch, b, problems);
  int64_t tokens = batch.qo_indptr[size];
  int64_t qo_heads = int64_t{shape.num_kv_heads} * shape.spec.group_size;
  if (tokens > 0 && tokens > kMaxLength / qo_heads)
    problems.add("qo_indptr", fmt::format("{} query tokens x {} heads pass {} rows", tokens, qo_heads, kMaxLength));
  return problems.status();
}

Status check_prefixes(const PlanShape& shape, const PlanBatch& batch) {
  Problems problems;
  if (!cuts_freely(shape.spec))
    problems.add("prefixes", "need split_kv automatic and a determinism other than batch_invariant: their states are merged");
  if (!keys_are_alike(shape.spec))
    problems.add("prefixes", "cannot go with hooks of scores, queries, keys or values: these ask for places within a request");
  if (shape.spec.windowed())
    problems.add("prefixes", fmt::format("cannot go with mask {}: a window ends within them", name_of(shape.spec.mask)));
  if (!batch.page_ids.empty()) problems.add("page_ids", "are given with prefixes; a batch takes one of the two");
  const bool paged = shape.spec.layout.kind == LayoutKind::paged;
  const int64_t size = static_cast<int64_t>(batch.kv_lens.size());
  std::vector<int8_t> levels(static_cast<size_t>(size), 0);
  for (size_t i = 0; i < batch.prefixes.size(); ++i) {
    const SharedPrefix& prefix = batch.prefixes[i];
    const std::string name = fmt::format("prefixes[{}]", i);
    const int64_t end = int64_t{prefix.first_request} + prefix.num_requests;
    if (prefix.first_request < 0 || prefix.num_requests < 1 || end > size) {
      problems.add(name, fmt::format("is of requests [{}, {}); must be at least one of [0, {})", prefix.first_request, end, size));
      continue;
    }
    const int64_t entries = paged ? ceil_div<int64_t>(prefix.kv_len, shape.spec.layout.page_size) : prefix.kv_len;
    if (prefix.kv_len < 1 || prefix.kv_len > kMaxLength)
      problems.add(name + ".kv_len", fmt::format("is {}; must be 1..{}", prefix.kv_len, kMaxLength));
    else if (prefix.kv_begin < 0 || prefix.kv_begin + entries > kInt32Max)
      problems.add(name + ".kv_begin", fmt::format("is {}; with {} {} it must lie in 0..{}", prefix.kv_begin, entries,
                                                   paged ? "pages" : "tokens", kInt32Max));
    for (int64_t b = prefix.first_request; b < end; ++b) {
      if (++levels[static_cast<size_t>(b)] == kMaxSharedLevels + 1)
        problems.add(name,
                     fmt::format("is the {}th of request {}; a request has at most {}", kMaxSharedLevels + 1, b, kMaxSharedLevels));
    }
  }
  return problems.status();
}

Status check_page_ids(const PlanBatch& batch, int32_t page_size) {
  Problems problems;
  const int64_t size = static_cast<int64_t>(batch.page_ids.size());
  for (size_t b = 0; b < batch.kv_lens.size(); ++b) {
    const int64_t end = batch.kv_begin[b] + ceil_div<int64_t>(batch.kv_lens[b], page_size);
    if (end > size) problems.add("page_ids", fmt::format("has {} entries; request {} needs {}", size, b, end));
  }
  return problems.status();
}

Replicas replicas_of(const PlanShape& shape) {
  const int32_t heads = static_cast<int32_t>(num_item_heads(shape));
  const int32_t count = heads_apart(shape) > 1 ? 1 : std::gcd(heads, shape.num_ctas);
  return {count, heads / count, shape.num_ctas / count};
}

abi::AttentionScheduleShape schedule_shape(const PlanShape& shape, const Replicas& replicas, int32_t window) {
  abi::AttentionScheduleShape schedule{};
  schedule.num_lists = replicas.lists;
  schedule.num_heads = heads_apart(shape) > 1 ? 1 : replicas.heads;
  schedule.may_cut = cuts_freely(shape.spec) ? 1 : 0;
  schedule.fixed_keys = shape.spec.split_kv.mode == SplitMode::fixed ? shape.spec.split_kv.tokens : 0;
  schedule.item = shape.costs.item;
  schedule.partial = shape.costs.partial;
  schedule.rows_per_token = rows_per_token(shape);
  schedule.causal = shape.spec.causal() ? 1 : 0;
  schedule.windowed = shape.spec.windowed() ? 1 : 0;
  schedule.window = window;
  schedule.num_classes = static_cast<int>(shape.tile.classes.size());
  const AttentionSpec& spec = shape.spec;
  const int64_t dims = int64_t{spec.head_dim_qk} + spec.head_dim_vo;
  const int64_t key_bytes =
      spec.head_dim_qk * static_cast<int64_t>(bytes_of(spec.kfmt)) + spec.head_dim_vo * static_cast<int64_t>(bytes_of(spec.vfmt));
  const bool masked = skips_tiles(spec);
  for (int c = 0; c < schedule.num_classes; ++c) {
    const TileClass& tile = shape.tile.classes[static_cast<size_t>(c)];
    schedule.rows[c] = tile.q;
    schedule.keys_per_cut[c] = masked ? tile.kv : 16;  // runs of keys are made of whole tiles
    schedule.key_cost[c] = std::max(shape.costs.byte * key_bytes, shape.costs.fragment_dim * (tile.q / 16) * dims);
    schedule.cut_step[c] = schedule.key_cost[c] * schedule.keys_per_cut[c];
  }
  return schedule;
}

Status row_blocks(const PlanShape& shape, const PlanBatch& batch, const abi::AttentionScheduleShape& schedule,
                  std::vector<abi::AttentionRowBlock>& blocks) {
  const int64_t max_blocks = kMaxPlanItems / schedule.num_heads;
  const auto heads = static_cast<int32_t>(heads_apart(shape));
  blocks.clear();
  for (size_t b = 0; b < batch.kv_lens.size(); ++b) {
    if (request_is_bad(batch, b)) LATHE_TRY(check_batch(shape, batch));
    const int64_t qo_len = int64_t{batch.qo_indptr[b + 1]} - batch.qo_indptr[b];
    const int64_t num_rows = qo_len * schedule.rows_per_token;
    if (num_rows == 0) continue;
    if (num_rows > kMaxLength) LATHE_TRY(check_batch(shape, batch));
    const int tile_class = abi::tile_class_of(schedule, static_cast<int>(num_rows));
    const int tile_rows = schedule.rows[tile_class];
    const int64_t tiles = num_rows > tile_rows ? num_rows / tile_rows : 0;  // without the last; few requests need the division
    if (static_cast<int64_t>(blocks.size()) + (tiles + 1) * heads > max_blocks)
      return too_many_items(fmt::format("at request {}", b));
    for (int32_t head = 0; head < heads; ++head) {
      for (int64_t row = 0; row < num_rows; row += tile_rows) {
        blocks.push_back(abi::row_block(schedule, static_cast<int>(b), static_cast<int>(qo_len), batch.kv_lens[b], tile_class,
                                        static_cast<int>(row)));
        blocks.back().head = static_cast<int16_t>(head);
      }
    }
  }
  const int64_t tokens = batch.qo_indptr.back();
  if (tokens * shape.num_kv_heads * shape.spec.group_size > kMaxLength) LATHE_TRY(check_batch(shape, batch));
  return {};
}

Status sum_blocks(const abi::AttentionScheduleShape& schedule, const std::vector<abi::AttentionRowBlock>& blocks, RowWork& work) {
  const auto place_of = [](const abi::AttentionRowBlock& block) {
    return block.level > 0 ? "at keys that requests share" : fmt::format("at request {}", block.request);
  };
  const int64_t max_tile_cost = kMaxCost / schedule.num_heads;
  work = {};
  for (const abi::AttentionRowBlock& block : blocks) {
    // In this order, so that no sum overflows.
    if (block.tile_cost <= max_tile_cost) abi::add_work(schedule, block, work.sums);
    if (block.tile_cost > max_tile_cost || work.sums.total > kMaxCost)
      return invalid_argument("kv_lens",
                              fmt::format("rows x keys of the batch pass what one plan can balance, {}", place_of(block)));
    const int parts = abi::fixed_parts(block, schedule.fixed_keys);
    if (parts == 1 && block.linked < 0) continue;
    work.items += int64_t{parts} * schedule.num_heads - 1;
    work.groups += schedule.num_heads;
    work.partial_rows += int64_t{parts} * schedule.num_heads * block.rows;
    if (work.items > kMaxPlanItems) return too_many_items(place_of(block));
  }
  if (work.sums.largest > kMaxCost / schedule.num_lists)
    return invalid_argument("kv_lens", "one tile of the batch passes what one plan can balance");
  // Every list can break a run of heads at the line's front and one at its back, and end with a part and begin with another.
  work.items += static_cast<int64_t>(blocks.size()) + kItemsPerList * schedule.num_lists;
  if (schedule.may_cut != 0) {
    work.groups += schedule.num_lists;
    work.partial_rows += 2 * int64_t{schedule.num_lists} * schedule.rows[0];
  }
  return {};
}

}  // namespace lathe
