// The plan as the kernel reads it: where its lists lie, and reading it back.
#pragma once

#include <cstdint>
#include <span>

#include "lathe/abi/attention.h"
#include "lathe/base/bytes.h"

namespace lathe {

/// Work items that one plan may list: keeps every offset of the image in 31 bits.
constexpr int64_t kMaxPlanItems = int64_t{1} << 25;

/// What an image has room for. Lists follow the header in this order, each from a multiple of 16 bytes.
struct PlanCounts {
  int64_t requests = 0, lists = 0, groups = 0, items = 0;
  int64_t linked = 0, links = 0, shared_rows = 0;
  int64_t masked_blocks = 0, runs = 0;  // row blocks and their key runs, where a mask of hooks is
  int64_t heads_apart = 1;              // heads that have row blocks of their own
};

/// A header with the list offsets for these counts, and as `bytes` the size of the whole image; `bytes` is -1 when it passes what
/// 31-bit offsets reach. Only the offsets and `bytes` are set.
abi::AttentionPlanHeader plan_offsets(const PlanCounts& counts);

/// Views into an image; valid as long as its bytes are.
struct PlanView {
  abi::AttentionPlanHeader header{};
  std::span<const abi::AttentionRequest> requests;  // the batch's, then one for each shared tile
  std::span<const int> item_indptr;                 // [num_lists + 1]
  std::span<const abi::AttentionWorkItem> items;
  std::span<const abi::AttentionMergeGroup> groups;
  std::span<const abi::AttentionLinkedTile> linked;
  std::span<const abi::AttentionLink> links;
  std::span<const abi::AttentionSharedRow> shared_rows;
  std::span<const int> first_blocks, run_indptr;  // empty without a mask of hooks; they end with what aligns the next list
  std::span<const abi::AttentionKeyRun> runs;
};

/// Reads an image: for pictures and tests. `image` must be aligned to 16 bytes.
PlanView view_plan(BytesView image);

/// Calls f(cta, item) for every item of the plan, block by block in the order the kernel runs them, with the block's own heads,
/// partial rows and merge groups (group g of replica r is r * num_groups + g).
template <class F>
void for_each_item(const PlanView& view, F&& f) {
  const abi::AttentionPlanHeader& h = view.header;
  for (int cta = 0; cta < h.num_lists * h.num_replicas; ++cta) {
    const int list = cta % h.num_lists, replica = cta / h.num_lists;
    for (int i = view.item_indptr[list]; i < view.item_indptr[list + 1]; ++i) {
      abi::AttentionWorkItem item = view.items[i];
      item.head += replica * h.replica_heads;
      if (item.partial_row >= 0) item.partial_row += replica * h.replica_partial_rows;
      if (item.merge_group >= 0) item.merge_group += replica * h.num_groups;
      f(cta, item);
    }
  }
}

}  // namespace lathe
