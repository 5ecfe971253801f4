#include "lathe/plan/attention_image.h"

#include <cstring>
#include <limits>

namespace lathe {
namespace {

constexpr int64_t kListAlignment = 16;

struct Offsets {
  int64_t requests, item_indptr, items, groups, end;
};

Offsets offsets_of(int64_t num_requests, int64_t num_items, int64_t num_groups, int64_t num_ctas) {
  Offsets o{};
  auto after = [](int64_t begin, int64_t count, size_t size) {
    return round_up(begin + count * static_cast<int64_t>(size), kListAlignment);
  };
  o.requests = after(0, 1, sizeof(abi::AttentionPlanHeader));
  o.item_indptr = after(o.requests, num_requests, sizeof(abi::AttentionRequest));
  o.items = after(o.item_indptr, num_ctas + 1, sizeof(int));
  o.groups = after(o.items, num_items, sizeof(abi::AttentionWorkItem));
  o.end = after(o.groups, num_groups, sizeof(abi::AttentionMergeGroup));
  return o;
}

template <class T>
void put(Bytes& image, int64_t offset, std::span<const T> list) {
  if (!list.empty()) std::memcpy(image.data() + offset, list.data(), list.size_bytes());
}

template <class T>
std::span<const T> list_at(BytesView image, int offset, int count) {
  return {reinterpret_cast<const T*>(image.data() + offset), static_cast<size_t>(count)};
}

}  // namespace

int64_t plan_image_bytes(int64_t num_requests, int64_t num_items, int64_t num_groups, int64_t num_ctas) {
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  // Each count is refused by itself first, so that the sum below cannot overflow.
  if (num_requests > kMax || num_items > kMaxPlanItems || num_groups > kMaxPlanItems || num_ctas > kMax) return -1;
  int64_t end = offsets_of(num_requests, num_items, num_groups, num_ctas).end;
  return end <= kMax ? end : -1;
}

Bytes write_plan_image(std::span<const abi::AttentionRequest> requests, std::span<const int> item_indptr,
                       std::span<const abi::AttentionWorkItem> items, std::span<const abi::AttentionMergeGroup> groups) {
  int64_t num_ctas = static_cast<int64_t>(item_indptr.size()) - 1;
  Offsets o = offsets_of(static_cast<int64_t>(requests.size()), static_cast<int64_t>(items.size()),
                         static_cast<int64_t>(groups.size()), num_ctas);
  abi::AttentionPlanHeader header{};
  header.num_requests = static_cast<int>(requests.size());
  header.num_items = static_cast<int>(items.size());
  header.num_groups = static_cast<int>(groups.size());
  header.num_ctas = static_cast<int>(num_ctas);
  header.requests_offset = static_cast<int>(o.requests);
  header.item_indptr_offset = static_cast<int>(o.item_indptr);
  header.items_offset = static_cast<int>(o.items);
  header.groups_offset = static_cast<int>(o.groups);

  Bytes image(static_cast<size_t>(o.end));
  std::memcpy(image.data(), &header, sizeof header);
  put(image, o.requests, requests);
  put(image, o.item_indptr, item_indptr);
  put(image, o.items, items);
  put(image, o.groups, groups);
  return image;
}

PlanView view_plan(BytesView image) {
  PlanView view;
  std::memcpy(&view.header, image.data(), sizeof view.header);
  const abi::AttentionPlanHeader& h = view.header;
  view.requests = list_at<abi::AttentionRequest>(image, h.requests_offset, h.num_requests);
  view.item_indptr = list_at<int>(image, h.item_indptr_offset, h.num_ctas + 1);
  view.items = list_at<abi::AttentionWorkItem>(image, h.items_offset, h.num_items);
  view.groups = list_at<abi::AttentionMergeGroup>(image, h.groups_offset, h.num_groups);
  return view;
}

}  // namespace lathe
