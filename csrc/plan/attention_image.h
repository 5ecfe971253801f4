// The plan as the kernel reads it: writing, reading back, and its size.
#pragma once

#include <cstdint>
#include <span>

#include "lathe/abi/attention.h"
#include "lathe/base/bytes.h"

namespace lathe {

/// Work items that one plan may list: keeps every offset of the image in 31 bits.
constexpr int64_t kMaxPlanItems = int64_t{1} << 25;

/// Views into an image; valid as long as its bytes are.
struct PlanView {
  abi::AttentionPlanHeader header{};
  std::span<const abi::AttentionRequest> requests;
  std::span<const int> item_indptr;  // [num_ctas + 1]
  std::span<const abi::AttentionWorkItem> items;
  std::span<const abi::AttentionMergeGroup> groups;
};

/// Bytes of an image with these counts, or -1 when they pass what 31-bit offsets reach.
int64_t plan_image_bytes(int64_t num_requests, int64_t num_items, int64_t num_groups, int64_t num_ctas);

/// The image of these lists (the header's counts and offsets are filled in). Their size must be within plan_image_bytes' reach.
Bytes write_plan_image(std::span<const abi::AttentionRequest> requests, std::span<const int> item_indptr,
                       std::span<const abi::AttentionWorkItem> items, std::span<const abi::AttentionMergeGroup> groups);

/// Reads an image that write_plan_image made: for pictures and tests. `image` must be aligned to 16 bytes.
PlanView view_plan(BytesView image);

/// Calls f(cta, item) for every item of the plan, block by block in the order the kernel runs them.
template <class F>
void for_each_item(const PlanView& view, F&& f) {
  for (int cta = 0; cta < view.header.num_ctas; ++cta) {
    for (int i = view.item_indptr[cta]; i < view.item_indptr[cta + 1]; ++i) f(cta, view.items[i]);
  }
}

}  // namespace lathe
