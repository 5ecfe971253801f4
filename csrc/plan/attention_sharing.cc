#include "lathe/plan/attention_sharing.h"

#include <algorithm>
#include <tuple>

#include "lathe/plan/attention_linked.h"

namespace lathe {
namespace {

// Nodes below this depth are left to those above.
constexpr int kMaxDepth = 16;
constexpr int kStride = kMaxDepth + 2;

}  // namespace

void Sharing::reserve(size_t requests) {
  keys.reserve(requests);  // every node has a request that no node below it has
  members.reserve(requests * kMaxSharedLevels);
  own_begin.reserve(requests);
}

void PrefixSearch::reserve(size_t requests) {
  limit_.reserve(requests);
  order_.reserve(requests);
  common_.reserve(requests);
  todo_.reserve(requests);
  nodes_.reserve(requests);
  best_.reserve(requests * kStride);
  below_.reserve(requests * kStride);
  nearest_.reserve(requests);
  levels_.reserve(requests);
}

int32_t PrefixSearch::page(int32_t request, int32_t i) const {
  return batch_.page_ids[static_cast<size_t>(batch_.kv_begin[request]) + i];
}

void PrefixSearch::find(const SharingBatch& batch, const abi::AttentionScheduleShape& schedule, Sharing& out) {
  batch_ = batch;
  schedule_ = &schedule;
  const size_t size = batch.kv_lens.size();
  out.keys.clear();
  out.members.clear();
  out.own_begin.assign(size, 0);
  limit_.assign(size, 0);
  order_.clear();
  todo_.clear();
  nodes_.clear();
  for (size_t b = 0; b < size; ++b) {
    const int64_t qo_len = int64_t{batch.qo_indptr[b + 1]} - batch.qo_indptr[b];
    // Keys that the first query sees, and at least one key is the request's own.
    const int64_t keys = batch.kv_lens[b] - qo_len;
    if (qo_len == 0 || keys < batch.page_size || qo_len * schedule.rows_per_token >= schedule.rows[0]) continue;
    limit_[b] = static_cast<int32_t>(keys / batch.page_size);
    order_.push_back(static_cast<int32_t>(b));
  }
  split_by_page(0, static_cast<int32_t>(order_.size()), 0, -1);
  while (!todo_.empty()) {
    const Range range = todo_.back();
    todo_.pop_back();
    grow(range);
  }
  value_nodes();
  choose(out);
  batch_ = {};  // the caller's memory
  schedule_ = nullptr;
}

// Requests of order_[first, first + count) that have the same page `at` belong together.
void PrefixSearch::split_by_page(int32_t first, int32_t count, int32_t at, int32_t parent) {
  const auto begin = order_.begin() + first, all = begin + count;
  const auto end = std::partition(begin, all, [&](int32_t b) { return limit_[b] > at; });
  std::sort(begin, end, [&](int32_t a, int32_t b) { return std::tuple(page(a, at), a) < std::tuple(page(b, at), b); });
  for (auto i = begin; i != end;) {
    const auto same = std::find_if(i, end, [&](int32_t b) { return page(b, at) != page(*i, at); });
    if (same - i > 1) todo_.push_back({static_cast<int32_t>(i - order_.begin()), static_cast<int32_t>(same - i), at, parent});
    i = same;
  }
}

// Nodes along the pages of the range's first request, for as long as another request has them too. Those that leave it go on among
// themselves.
void PrefixSearch::grow(const Range& range) {
  const int32_t leader = order_[range.first];
  common_.clear();
  for (int32_t i = range.first + 1; i < range.first + range.count; ++i) {
    const int32_t other = order_[i], most = std::min(limit_[leader], limit_[other]);
    int32_t end = range.begin + 1;
    while (end < most && page(leader, end) == page(other, end)) ++end;
    common_.emplace_back(end, other);
  }
  std::sort(common_.begin(), common_.end(),
            [](const auto& a, const auto& b) { return std::tuple(-a.first, a.second) < std::tuple(-b.first, b.second); });
  for (int32_t i = 1; i < range.count; ++i) order_[range.first + i] = common_[i - 1].second;

  int32_t begin = range.begin, parent = range.parent, count = range.count;
  while (count > 1 && (parent < 0 || nodes_[parent].depth + 1 < kMaxDepth)) {
    const int32_t end = common_[count - 2].first;
    add_node(range, begin, end, count, parent);
    parent = static_cast<int32_t>(nodes_.size()) - 1;
    int32_t staying = count - 1;
    while (staying > 1 && common_[staying - 2].first == end) --staying;
    split_by_page(range.first + staying, count - staying, end, parent);
    begin = end;
    count = staying;
  }
}

void PrefixSearch::add_node(const Range& range, int32_t begin, int32_t end, int32_t count, int32_t parent) {
  const abi::AttentionScheduleShape& schedule = *schedule_;
  const auto rows_of = [&](int32_t i) {
    const int32_t b = order_[range.first + i];
    return (batch_.qo_indptr[b + 1] - batch_.qo_indptr[b]) * schedule.rows_per_token;
  };
  int64_t alone = 0, rows = 0;
  for (int32_t i = 0; i < count; ++i) {
    alone += schedule.key_cost[abi::tile_class_of(schedule, rows_of(i))];
    rows += rows_of(i);
  }
  const int tile_class = shared_tile_class(schedule, rows);
  SharedTilePacking packing(schedule.rows[tile_class]);
  for (int32_t i = 0; i < count; ++i) packing.add(rows_of(i));
  nodes_.push_back({begin, end, range.first, count, parent, parent < 0 ? 0 : nodes_[parent].depth + 1,
                    alone - packing.tiles() * schedule.key_cost[tile_class], packing.tiles() * (schedule.item + schedule.partial)});
}

// What sharing a node's pages saves, from the end of the nearest shared node, at depth start_depth - 1, on.
int64_t PrefixSearch::gain(const Node& node, int start_depth) const {
  const Node* above = &node;
  while (above->depth >= start_depth && above->parent >= 0) above = &nodes_[above->parent];
  const int64_t pages = node.end - (start_depth == 0 ? 0 : above->end);
  // Requests that share nothing else have their own states to merge, too.
  const int64_t states = start_depth == 0 ? node.count * schedule_->partial : 0;
  return pages * batch_.page_size * node.key_saving - node.tiles_cost - states;
}

void PrefixSearch::value_nodes() {
  best_.assign(nodes_.size() * kStride, 0);
  below_.assign(nodes_.size() * kStride, 0);
  for (size_t v = nodes_.size(); v-- > 0;) {
    const Node& node = nodes_[v];
    const int64_t* below = &below_[v * kStride];
    for (int above = 0; above <= node.depth; ++above) {
      const int64_t best = std::max(below[above], gain(node, above) + below[node.depth + 1]);
      best_[v * kStride + above] = best;
      if (node.parent >= 0) below_[static_cast<size_t>(node.parent) * kStride + above] += best;
    }
  }
}

void PrefixSearch::choose(Sharing& out) {
  nearest_.assign(nodes_.size(), 0);
  levels_.assign(nodes_.size(), 0);
  for (size_t v = 0; v < nodes_.size(); ++v) {
    const Node& node = nodes_[v];
    const int above = node.parent < 0 ? 0 : nearest_[node.parent];
    const int levels = node.parent < 0 ? 0 : levels_[node.parent];
    const int64_t* below = &below_[v * kStride];
    const bool share = levels < kMaxSharedLevels && gain(node, above) + below[node.depth + 1] > below[above];
    nearest_[v] = static_cast<int8_t>(share ? node.depth + 1 : above);
    levels_[v] = static_cast<int8_t>(levels + (share ? 1 : 0));
    if (!share) continue;
    const auto members = std::span(order_).subspan(node.first, node.count);
    const int32_t begin = out.own_begin[members[0]], end = node.end * batch_.page_size;
    out.keys.push_back({batch_.kv_begin[members[0]], begin, end, static_cast<int32_t>(out.members.size()), node.count});
    out.members.insert(out.members.end(), members.begin(), members.end());
    for (int32_t b : members) out.own_begin[b] = end;
  }
}

}  // namespace lathe
