// Which requests read which keys together.
//
// Requests whose page tables begin with the same pages form a tree: a node is a run of pages that its requests, and no others, have
// in common. Finding the tree looks at every page of every table at most once and a few more. Which nodes are worth sharing is then
// decided by the planner's costs: reading the node's keys once for each tile of its requests' rows, against once for each request,
// with the work items and partial states that this takes.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "lathe/abi/attention_schedule.h"
#include "lathe/plan/attention_image.h"

namespace lathe {

/// Keys [key_begin, key_end) that some requests see in common.
struct SharedKeys {
  int32_t kv_begin = 0;  // where key 0 lies, as abi::AttentionRequest::kv_begin
  int32_t key_begin = 0, key_end = 0;
  int32_t first_member = 0, num_members = 0;  // of Sharing::members
};

/// What a batch shares. Of two keys with members in common, the first ones stand before the others.
struct Sharing {
  std::vector<SharedKeys> keys;
  std::vector<int32_t> members;    // requests
  std::vector<int32_t> own_begin;  // [batch]: the first key that a request reads by itself

  void reserve(size_t requests);  // makes room for batches of up to so many
};

/// The lists of a plan that shares keys, and its row blocks.
struct LinkedTiles {
  std::vector<abi::AttentionRowBlock> blocks;
  std::vector<abi::AttentionRequest> requests;  // of shared tiles
  std::vector<abi::AttentionLinkedTile> tiles;  // leaves, then shared tiles
  std::vector<abi::AttentionLink> links;
  std::vector<abi::AttentionSharedRow> shared_rows;
  std::vector<int32_t> first_leaf;  // [batch + 1]

  /// Makes room for these counts, and as many blocks as tiles.
  void reserve(size_t requests, const PlanCounts& counts);
};

/// Shared keys that one request can have in front of its own.
constexpr int kMaxSharedLevels = 4;

/// A batch as the search sees it. Requests are taken in when all their rows are in one tile that has room for more.
struct SharingBatch {
  std::span<const int32_t> qo_indptr, kv_lens, kv_begin;  // as PlanBatch
  std::span<const int32_t> page_ids;                      // entry i of the batch's page tables
  int32_t page_size = 1;
};

/// Finds what is worth sharing. Keeps its memory for the next search.
class PrefixSearch {
 public:
  /// Makes room for batches of up to `requests`.
  void reserve(size_t requests);
  void find(const SharingBatch& batch, const abi::AttentionScheduleShape& schedule, Sharing& out);

 private:
  struct Node {
    int32_t begin, end;     // pages
    int32_t first, count;   // its requests in order_
    int32_t parent, depth;  // -1 and 0 at the top
    int64_t key_saving;     // what sharing saves for each key, for one head
    int64_t tiles_cost;     // items and partial states of its shared tiles
  };
  struct Range {
    int32_t first, count;  // of order_
    int32_t begin;         // all have this page in common
    int32_t parent;
  };

  int32_t page(int32_t request, int32_t i) const;
  void split_by_page(int32_t first, int32_t count, int32_t at, int32_t parent);
  void grow(const Range& range);
  void add_node(const Range& range, int32_t begin, int32_t end, int32_t count, int32_t parent);
  int64_t gain(const Node& node, int start_depth) const;
  void value_nodes();
  void choose(Sharing& out);

  SharingBatch batch_;
  const abi::AttentionScheduleShape* schedule_ = nullptr;
  std::vector<int32_t> limit_;                       // [batch]: leading pages that may be shared
  std::vector<int32_t> order_;                       // requests, those of a node side by side
  std::vector<std::pair<int32_t, int32_t>> common_;  // of a range: pages in common with its first request, request
  std::vector<Range> todo_;
  std::vector<Node> nodes_;  // parents before children
  // [nodes_, by depth + 1 of the nearest shared node above, 0 where there is none]: the most that the node and those below can
  // save, and those below alone.
  std::vector<int64_t> best_, below_;
  std::vector<int8_t> nearest_, levels_;  // [nodes_]: depth + 1 of the nearest shared node down to it, shared nodes so far
};

}  // namespace lathe
