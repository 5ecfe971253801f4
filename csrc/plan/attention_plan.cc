#include "lathe/plan/attention_plan.h"

#include "lathe/plan/attention_image.h"
#include "lathe/plan/attention_split.h"
#include "lathe/plan/attention_work.h"
#include "lathe/plan/attention_workspace.h"

namespace lathe {
namespace {

// Where the split tiles of each row block keep their states and merge groups. Head h of block i: group group_base[i] + h, states
// from row row_base[i] + h * parts * q on.
struct SplitPlaces {
  std::vector<int64_t> row_base;
  std::vector<int32_t> group_base;
  std::vector<abi::AttentionMergeGroup> groups;
  int64_t rows = 0;
};

SplitPlaces place_splits(const PlanShape& shape, std::span<const RowBlock> blocks, const Schedule& schedule) {
  SplitPlaces places;
  places.row_base.resize(blocks.size());
  places.group_base.resize(blocks.size());
  for (size_t i = 0; i < blocks.size(); ++i) {
    int64_t parts = num_parts(blocks[i], schedule.cuts[i]);
    int64_t rows = parts * shape.tile.classes[blocks[i].tile_class].q;
    places.row_base[i] = places.rows;
    places.group_base[i] = static_cast<int32_t>(places.groups.size());
    for (int32_t h = 0; h < split_heads(blocks[i], schedule.cuts[i]); ++h) {
      places.groups.push_back({static_cast<int>(places.rows), static_cast<int>(parts)});
      places.rows += rows;
    }
  }
  return places;
}

abi::AttentionWorkItem make_item(const PlanShape& shape, const RowBlock& block, const Cuts& cuts, PartRef ref, int32_t head,
                                 const SplitPlaces& places) {
  Part keys = ref.part == kWhole ? Part{block.kv_begin, block.kv_end} : part_of(block, cuts, ref.part);
  abi::AttentionWorkItem item{};
  item.request = block.request;
  item.head = head;
  item.row_begin = block.row_begin;
  item.kv_begin = keys.kv_begin;
  item.kv_end = keys.kv_end;
  item.partial_row = -1;
  item.merge_group = -1;
  item.tile_class = static_cast<short>(block.tile_class);
  if (ref.part != kWhole) {
    int64_t part = int64_t{head} * num_parts(block, cuts) + ref.part;
    item.partial_row = static_cast<int32_t>(places.row_base[ref.block] + part * shape.tile.classes[block.tile_class].q);
    item.merge_group = places.group_base[ref.block] + head;
  }
  return item;
}

struct Lists {
  std::vector<int> indptr;
  std::vector<abi::AttentionWorkItem> items;
  std::vector<int64_t> cost;
};

// The items block by block. The balance lists jobs costliest first, and so does each block's list, since the order is kept.
Lists make_lists(const PlanShape& shape, std::span<const RowBlock> blocks, const Schedule& schedule, const SplitPlaces& places) {
  const std::vector<int32_t>& cta_of = schedule.balance.machine_of;
  Lists lists;
  lists.indptr.assign(static_cast<size_t>(shape.num_ctas) + 1, 0);
  for (int32_t cta : cta_of) ++lists.indptr[cta + 1];
  for (int32_t c = 0; c < shape.num_ctas; ++c) lists.indptr[c + 1] += lists.indptr[c];
  std::vector<int> next(lists.indptr.begin(), lists.indptr.end() - 1);
  lists.items.resize(cta_of.size());
  lists.cost.resize(cta_of.size());
  size_t job = 0;
  for (int32_t r : schedule.balance.order) {
    PartRef ref = schedule.refs[r];
    const JobRun& run = schedule.runs[r];
    for (int32_t i = 0; i < run.count; ++i, ++job) {
      int slot = next[cta_of[job]]++;
      lists.items[slot] = make_item(shape, blocks[ref.block], schedule.cuts[ref.block], ref, ref.head_begin + i, places);
      lists.cost[slot] = run.cost;
    }
  }
  return lists;
}

std::vector<abi::AttentionRequest> make_requests(const PlanBatch& batch) {
  std::vector<abi::AttentionRequest> requests(batch.kv_lens.size());
  for (size_t b = 0; b < requests.size(); ++b) {
    requests[b] = {batch.qo_indptr[b], batch.qo_indptr[b + 1] - batch.qo_indptr[b], batch.kv_lens[b], batch.kv_begin[b]};
  }
  return requests;
}

}  // namespace

Result<AttentionPlan> plan_attention(const PlanShape& shape, const PlanBatch& batch) {
  LATHE_TRY(check_shape(shape));
  LATHE_TRY(check_batch(shape, batch));
  Result<std::vector<RowBlock>> blocks = row_blocks(shape, batch);
  LATHE_TRY(blocks);
  Result<Schedule> schedule = make_schedule(shape, *blocks);
  LATHE_TRY(schedule);
  SplitPlaces places = place_splits(shape, *blocks, *schedule);
  Result<WorkspaceLayout> workspace =
      workspace_layout({static_cast<int64_t>(batch.kv_lens.size()), static_cast<int64_t>(schedule->balance.machine_of.size()),
                        static_cast<int64_t>(places.groups.size()), places.rows},
                       shape);
  LATHE_TRY(workspace);

  Lists lists = make_lists(shape, *blocks, *schedule, places);
  AttentionPlan plan;
  plan.image = write_plan_image(make_requests(batch), lists.indptr, lists.items, places.groups);
  plan.workspace = *workspace;
  plan.num_items = static_cast<int32_t>(lists.items.size());
  plan.num_groups = static_cast<int32_t>(places.groups.size());
  plan.partial_rows = places.rows;
  plan.item_cost = std::move(lists.cost);
  plan.cta_load = std::move(schedule->balance.load);
  for (int64_t load : plan.cta_load) plan.total_load += load;
  return plan;
}

}  // namespace lathe
