#include "lathe/plan/attention_image.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace lathe {
namespace {

template <class T>
std::span<const T> list_at(BytesView image, int offset, int count) {
  return {reinterpret_cast<const T*>(image.data() + offset), static_cast<size_t>(count)};
}

}  // namespace

abi::AttentionPlanHeader plan_offsets(const PlanCounts& counts) {
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  constexpr int64_t kListAlignment = 16;
  abi::AttentionPlanHeader header{};
  header.bytes = -1;
  // Each count is refused by itself first, so that the sums below cannot overflow.
  const int64_t sharing = std::max({counts.linked, counts.links, counts.shared_rows, counts.masked_blocks, counts.runs});
  if (counts.requests > kMax || counts.lists >= kMax || counts.groups > kMaxPlanItems || counts.items > kMaxPlanItems ||
      sharing > kMax)
    return header;
  int64_t end = sizeof(abi::AttentionPlanHeader);
  const auto place = [&](int& offset, int64_t count, size_t size) {
    const int64_t begin = round_up(end, kListAlignment);
    offset = static_cast<int>(std::min(begin, kMax));
    end = begin + count * static_cast<int64_t>(size);
  };
  place(header.requests_offset, counts.requests, sizeof(abi::AttentionRequest));
  place(header.item_indptr_offset, counts.lists + 1, sizeof(int));
  place(header.groups_offset, counts.groups, sizeof(abi::AttentionMergeGroup));
  place(header.linked_offset, counts.linked, sizeof(abi::AttentionLinkedTile));
  place(header.links_offset, counts.links, sizeof(abi::AttentionLink));
  place(header.shared_rows_offset, counts.shared_rows, sizeof(abi::AttentionSharedRow));
  place(header.first_blocks_offset, counts.masked_blocks > 0 ? counts.requests * counts.heads_apart : 0, sizeof(int));
  place(header.run_indptr_offset, counts.masked_blocks > 0 ? counts.masked_blocks + 1 : 0, sizeof(int));
  place(header.runs_offset, counts.runs, sizeof(abi::AttentionKeyRun));
  place(header.items_offset, counts.items, sizeof(abi::AttentionWorkItem));
  if (end <= kMax) header.bytes = static_cast<int>(end);
  return header;
}

PlanView view_plan(BytesView image) {
  PlanView view;
  std::memcpy(&view.header, image.data(), sizeof view.header);
  const abi::AttentionPlanHeader& h = view.header;
  view.requests = list_at<abi::AttentionRequest>(image, h.requests_offset, h.num_requests);
  view.item_indptr = list_at<int>(image, h.item_indptr_offset, h.num_lists + 1);
  view.items = list_at<abi::AttentionWorkItem>(image, h.items_offset, h.num_items);
  view.groups = list_at<abi::AttentionMergeGroup>(image, h.groups_offset, h.num_groups);
  if (h.run_indptr_offset < h.runs_offset) {
    const auto ints = [](int bytes) { return bytes / static_cast<int>(sizeof(int)); };
    view.first_blocks = list_at<int>(image, h.first_blocks_offset, ints(h.run_indptr_offset - h.first_blocks_offset));
    view.run_indptr = list_at<int>(image, h.run_indptr_offset, ints(h.runs_offset - h.run_indptr_offset));
    view.runs = list_at<abi::AttentionKeyRun>(image, h.runs_offset,
                                              (h.items_offset - h.runs_offset) / static_cast<int>(sizeof(abi::AttentionKeyRun)));
  }
  view.linked = list_at<abi::AttentionLinkedTile>(image, h.linked_offset, h.num_linked);
  if (view.linked.empty()) return view;
  int links = 0;
  for (const abi::AttentionLinkedTile& tile : view.linked) links += tile.num_links;
  view.links = list_at<abi::AttentionLink>(image, h.links_offset, links);
  const abi::AttentionRequest& last = view.requests.back();  // of the last shared tile
  view.shared_rows = list_at<abi::AttentionSharedRow>(image, h.shared_rows_offset, last.qo_begin + last.qo_len);
  return view;
}

}  // namespace lathe
