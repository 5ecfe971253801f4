#include "lathe/plan/attention_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "lathe/plan/attention_image.h"
#include "lathe/plan/attention_linked.h"
#include "lathe/plan/attention_work.h"

namespace lathe {
namespace {

struct RowBlocks {
  const abi::AttentionRowBlock* data;
  const abi::AttentionRowBlock& at(int i) const { return data[i]; }
};

// The lists of an image in host memory.
struct ImageLists {
  int* item_indptr;
  abi::AttentionMergeGroup* groups;
  abi::AttentionWorkItem* items;

  ImageLists(std::byte* image, const abi::AttentionPlanHeader& offsets)
      : item_indptr(reinterpret_cast<int*>(image + offsets.item_indptr_offset)),
        groups(reinterpret_cast<abi::AttentionMergeGroup*>(image + offsets.groups_offset)),
        items(reinterpret_cast<abi::AttentionWorkItem*>(image + offsets.items_offset)) {}

  void indptr(int list, int first_item) const { item_indptr[list] = first_item; }
  void group(int index, int first_row, int num_parts) const { groups[index] = {first_row, num_parts}; }
  void item(int index, const abi::AttentionWorkItem& item) const { items[index] = item; }
};

template <class T>
void copy_list(const std::vector<T>& list, std::byte* to) {
  if (!list.empty()) std::memcpy(to, list.data(), list.size() * sizeof(T));
}

void write_requests(const PlanBatch& batch, std::byte* image, int offset) {
  auto* requests = reinterpret_cast<abi::AttentionRequest*>(image + offset);
  for (size_t b = 0; b < batch.kv_lens.size(); ++b) {
    requests[b] = {batch.qo_indptr[b], batch.qo_indptr[b + 1] - batch.qo_indptr[b], batch.kv_lens[b], batch.kv_begin[b]};
  }
}

// The row blocks of a batch and how they are dealt out.
struct Schedule {
  const std::vector<abi::AttentionRowBlock>* blocks = nullptr;
  const LinkedTiles* linked = nullptr;  // null where nothing is shared
  RowWork work{};
  abi::AttentionScheduleChoice choice{};
};

void choose(const abi::AttentionScheduleShape& shape, Schedule& schedule) {
  const RowBlocks blocks{schedule.blocks->data()};
  schedule.choice = choose_schedule(shape, schedule.work.sums, [&](int64_t limit) {
    abi::IgnorePieces none;
    return deal_out(shape, blocks, schedule.work.sums.num_blocks, limit, none);
  });
}

// The load of the longest list.
struct LongestList {
  const abi::AttentionScheduleShape& shape;
  int64_t load = 0, longest = 0;

  void next_list() { load = 0; }
  void add(int64_t cost) {
    load += cost;
    longest = std::max(longest, load);
  }
  void whole(const abi::AttentionRowBlock& block, int, int count) { add(block.tile_cost * count); }
  void part(const abi::AttentionRowBlock& block, int, int begin, int end, bool, bool) {
    add(shape.item + shape.partial + (end - begin) * shape.key_cost[static_cast<int>(block.tile_class)]);
  }
};

int64_t longest_list(abi::AttentionScheduleShape shape, const Schedule& schedule) {
  shape.may_cut = schedule.choice.may_cut;
  LongestList sink{shape};
  deal_out(shape, RowBlocks{schedule.blocks->data()}, schedule.work.sums.num_blocks, schedule.choice.limit, sink);
  return sink.longest;
}

Status check_spans(const PlanShape& shape, const PlanBatch& batch) {
  const size_t size = batch.kv_lens.size();
  const bool good = batch.qo_indptr.size() == size + 1 && batch.kv_begin.size() == size && batch.qo_indptr[0] == 0 &&
                    (!shape.spec.windowed() || batch.window >= 1);
  return good ? Status() : check_batch(shape, batch);
}

// What the batch shares, in plan.sharing.
Status find_sharing(const PlanShape& shape, const PlanBatch& batch, const abi::AttentionScheduleShape& schedule,
                    AttentionPlan& plan) {
  plan.sharing.keys.clear();
  if (!batch.prefixes.empty()) {
    LATHE_TRY(check_prefixes(shape, batch));
    take_prefixes(batch, plan.sharing);
  } else if (!batch.page_ids.empty() && may_share(shape.spec)) {
    const int32_t page_size = shape.spec.layout.page_size;
    LATHE_TRY(check_page_ids(batch, page_size));
    plan.search.find({batch.qo_indptr, batch.kv_lens, batch.kv_begin, batch.page_ids, page_size}, schedule, plan.sharing);
  }
  return {};
}

Status check_fits(const WorkspaceLayout& needs, const WorkspaceLayout& has) {
  Problems problems;
  const auto part = [&](const char* name, size_t needed, size_t given) {
    if (needed > given) problems.add(name, fmt::format("of this batch needs {} bytes; the workspace has {}", needed, given));
  };
  part("workspace.plan", needs.plan, has.plan);
  part("workspace.counters", needs.counters, has.counters);
  part("workspace.partial_o", needs.partial_o, has.partial_o);
  part("workspace.partial_lse", needs.partial_lse, has.partial_lse);
  return problems.status();
}

// Deals `schedule` out into the image of `plan`; the plan is whole when image_bytes is set.
Status write_plan(const PlanShape& shape, const PlanBatch& batch, const Replicas& replicas, abi::AttentionScheduleShape lists_shape,
                  const Schedule& schedule, const WorkspaceLayout* layout, AttentionPlan& plan) {
  const RowWork& work = schedule.work;
  static const LinkedTiles kNoneLinked;
  const LinkedTiles& linked = schedule.linked != nullptr ? *schedule.linked : kNoneLinked;
  const auto size = [](const auto& list) { return static_cast<int64_t>(list.size()); };
  const int64_t num_requests = size(batch.kv_lens) + size(linked.requests);
  const KeyRuns& key_runs = plan.key_runs;
  const bool masked = skips_tiles(shape.spec);
  abi::AttentionPlanHeader header = plan_offsets({num_requests, replicas.lists, work.groups, work.items, size(linked.tiles),
                                                  size(linked.links), size(linked.shared_rows), masked ? size(*schedule.blocks) : 0,
                                                  masked ? size(key_runs.runs) : 0, heads_apart(shape)});
  if (header.bytes < 0)
    return invalid_argument("batch", fmt::format("of {} requests and up to {} work items passes the 2^31 - 1 bytes of a plan",
                                                 batch.kv_lens.size(), work.items));
  if (work.partial_rows * replicas.count > std::numeric_limits<int32_t>::max())
    return invalid_argument("split_kv", fmt::format("makes {} rows of partial states; at most 2^31 - 1 can be listed",
                                                    work.partial_rows * replicas.count));
  if (plan.image.size() < static_cast<size_t>(header.bytes)) plan.image.resize(static_cast<size_t>(header.bytes));
  std::byte* image = plan.image.data();

  lists_shape.may_cut = schedule.choice.may_cut;
  abi::AttentionListWriter<ImageLists> lists(ImageLists(image, header), lists_shape, static_cast<int>(linked.tiles.size()));
  deal_out(lists_shape, RowBlocks{schedule.blocks->data()}, work.sums.num_blocks, schedule.choice.limit, lists);

  header.num_requests = static_cast<int>(num_requests);
  header.num_lists = replicas.lists;
  header.num_replicas = replicas.count;
  header.replica_heads = replicas.heads;
  header.num_linked = static_cast<int>(linked.tiles.size());
  lists.finish(header);
  write_requests(batch, image, header.requests_offset);
  copy_list(linked.requests, image + header.requests_offset + batch.kv_lens.size() * sizeof(abi::AttentionRequest));
  copy_list(linked.tiles, image + header.linked_offset);
  copy_list(linked.links, image + header.links_offset);
  copy_list(linked.shared_rows, image + header.shared_rows_offset);
  if (masked && !schedule.blocks->empty()) {
    copy_list(key_runs.first_blocks, image + header.first_blocks_offset);
    copy_list(key_runs.run_indptr, image + header.run_indptr_offset);
    copy_list(key_runs.runs, image + header.runs_offset);
  }
  std::memcpy(image, &header, sizeof header);

  const int linked_groups = header.num_linked * replicas.heads;
  const auto* groups = reinterpret_cast<const abi::AttentionMergeGroup*>(image + header.groups_offset);
  const auto cut = std::count_if(groups, groups + linked_groups, [](const auto& group) { return group.num_parts > 1; });
  plan.num_items = header.num_items * replicas.count;
  plan.num_split_tiles = (header.num_groups - linked_groups + static_cast<int>(cut)) * replicas.count;
  plan.num_shared_tiles = static_cast<int>(linked.requests.size()) * replicas.heads * replicas.count;
  plan.partial_rows = int64_t{header.replica_partial_rows} * replicas.count;
  Result<WorkspaceLayout> needs =
      workspace_layout({header.bytes, int64_t{header.num_groups} * replicas.count, plan.partial_rows}, shape);
  LATHE_TRY(needs);
  if (layout != nullptr) LATHE_TRY(check_fits(*needs, *layout));
  plan.workspace = layout != nullptr ? *layout : *needs;
  plan.image_bytes = static_cast<size_t>(header.bytes);
  return {};
}

}  // namespace

Status plan_attention(const PlanShape& shape, const PlanBatch& batch, const WorkspaceLayout* layout, AttentionPlan& plan) {
  plan.image_bytes = 0;
  LATHE_TRY(check_shape(shape));
  LATHE_TRY(check_spans(shape, batch));
  const Replicas replicas = replicas_of(shape);
  const abi::AttentionScheduleShape lists = schedule_shape(shape, replicas, batch.window);
  Schedule apart{.blocks = &plan.row_blocks};
  LATHE_TRY(row_blocks(shape, batch, lists, plan.row_blocks));
  if (skips_tiles(shape.spec)) {
    const int64_t room = layout != nullptr ? room_for_runs(shape, batch, layout->plan) : std::numeric_limits<int32_t>::max();
    LATHE_TRY(mask_blocks(shape, batch, lists, room, plan.row_blocks, plan.key_runs));
  }
  LATHE_TRY(sum_blocks(lists, plan.row_blocks, apart.work));

  const bool given = !batch.prefixes.empty();
  LATHE_TRY(find_sharing(shape, batch, lists, plan));
  if (!given) choose(lists, apart);
  if (!plan.sharing.keys.empty()) {
    Schedule sharing{.blocks = &plan.linked.blocks, .linked = &plan.linked};
    const Status linked = link_tiles(batch, lists, plan.row_blocks, plan.sharing, plan.linked, sharing.work);
    if (given) LATHE_TRY(linked);
    if (linked.ok()) choose(lists, sharing);
    if (given || (linked.ok() && longest_list(lists, sharing) < longest_list(lists, apart))) {
      const Status written = write_plan(shape, batch, replicas, lists, sharing, layout, plan);
      if (given || written.ok()) return written;
    }
  }
  return write_plan(shape, batch, replicas, lists, apart, layout, plan);
}

Result<AttentionPlan> plan_attention(const PlanShape& shape, const PlanBatch& batch) {
  AttentionPlan plan;
  LATHE_TRY(plan_attention(shape, batch, nullptr, plan));
  return plan;
}

int64_t item_cost(const PlanShape& shape, const abi::AttentionWorkItem& item) {
  const abi::AttentionScheduleShape schedule = schedule_shape(shape, replicas_of(shape), 1);
  const int64_t keys = int64_t{item.kv_end} - item.kv_begin;
  return item.num_heads * (schedule.item + (item.partial_row >= 0 ? schedule.partial : 0) +
                           keys * schedule.key_cost[static_cast<int>(item.tile_class)]);
}

PlanLoad load_of(const PlanShape& shape, const AttentionPlan& plan) {
  PlanLoad load;
  load.cta.assign(static_cast<size_t>(shape.num_ctas), 0);
  for_each_item(view_plan(plan.bytes()),
                [&](int cta, const abi::AttentionWorkItem& item) { load.cta[static_cast<size_t>(cta)] += item_cost(shape, item); });
  for (int64_t cta : load.cta) {
    load.total += cta;
    load.longest = std::max(load.longest, cta);
  }
  return load;
}

}  // namespace lathe
