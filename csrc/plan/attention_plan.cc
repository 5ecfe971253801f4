#include "lathe/plan/attention_plan.h"

#include <fmt/format.h>

#include <cstring>

#include "lathe/plan/attention_image.h"
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

void write_requests(const PlanBatch& batch, std::byte* image, int offset) {
  auto* requests = reinterpret_cast<abi::AttentionRequest*>(image + offset);
  for (size_t b = 0; b < batch.kv_lens.size(); ++b) {
    requests[b] = {batch.qo_indptr[b], batch.qo_indptr[b + 1] - batch.qo_indptr[b], batch.kv_lens[b], batch.kv_begin[b]};
  }
}

Status check_spans(const PlanShape& shape, const PlanBatch& batch) {
  const size_t size = batch.kv_lens.size();
  const bool good = batch.qo_indptr.size() == size + 1 && batch.kv_begin.size() == size && batch.qo_indptr[0] == 0 &&
                    (!shape.spec.windowed() || batch.window >= 1);
  return good ? Status() : check_batch(shape, batch);
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

}  // namespace

Status plan_attention(const PlanShape& shape, const PlanBatch& batch, const WorkspaceLayout* layout, AttentionPlan& plan) {
  plan.image_bytes = 0;
  LATHE_TRY(check_shape(shape));
  LATHE_TRY(check_spans(shape, batch));
  const Replicas replicas = replicas_of(shape);
  abi::AttentionScheduleShape schedule = schedule_shape(shape, replicas, batch.window);
  RowWork work;
  LATHE_TRY(row_blocks(shape, batch, schedule, plan.row_blocks, work));

  abi::AttentionPlanHeader header =
      plan_offsets({static_cast<int64_t>(batch.kv_lens.size()), replicas.lists, work.groups, work.items});
  if (header.bytes < 0)
    return invalid_argument("batch", fmt::format("of {} requests and up to {} work items passes the 2^31 - 1 bytes of a plan",
                                                 batch.kv_lens.size(), work.items));
  if (work.partial_rows * replicas.count > std::numeric_limits<int32_t>::max())
    return invalid_argument("split_kv", fmt::format("makes {} rows of partial states; at most 2^31 - 1 can be listed",
                                                    work.partial_rows * replicas.count));
  if (plan.image.size() < static_cast<size_t>(header.bytes)) plan.image.resize(static_cast<size_t>(header.bytes));

  const RowBlocks blocks{plan.row_blocks.data()};
  const abi::AttentionScheduleChoice choice = choose_schedule(schedule, work.sums, [&](int64_t limit) {
    abi::IgnorePieces none;
    return deal_out(schedule, blocks, work.sums.num_blocks, limit, none);
  });
  schedule.may_cut = choice.may_cut;
  abi::AttentionListWriter<ImageLists> lists(ImageLists(plan.image.data(), header), schedule);
  deal_out(schedule, blocks, work.sums.num_blocks, choice.limit, lists);

  header.num_requests = static_cast<int>(batch.kv_lens.size());
  header.num_lists = replicas.lists;
  header.num_replicas = replicas.count;
  header.replica_heads = replicas.heads;
  lists.finish(header);
  write_requests(batch, plan.image.data(), header.requests_offset);
  std::memcpy(plan.image.data(), &header, sizeof header);

  plan.num_items = header.num_items * replicas.count;
  plan.num_split_tiles = header.num_groups * replicas.count;
  plan.partial_rows = int64_t{header.replica_partial_rows} * replicas.count;
  Result<WorkspaceLayout> needs = workspace_layout({header.bytes, plan.num_split_tiles, plan.partial_rows}, shape);
  LATHE_TRY(needs);
  if (layout != nullptr) LATHE_TRY(check_fits(*needs, *layout));
  plan.workspace = layout != nullptr ? *layout : *needs;
  plan.image_bytes = static_cast<size_t>(header.bytes);
  return {};
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
