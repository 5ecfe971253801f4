// What one work item is about: where its rows and keys lie, and which keys each row may see.
#pragma once

namespace attention {

using config::Element;
using dev::i64;
using dev::u32;

// The plan in device memory, written by the planner (csrc/plan) before the launch, as one replica of its lists sees it. The header
// is read anew for every list: it stays in the cache, and would otherwise take registers from the main loop.
struct Plan {
  const void* base;
  int replica;

  LATHE_DEVICE abi::AttentionPlanHeader header() const { return dev::GlobalList<abi::AttentionPlanHeader>{base}.load(0); }
  LATHE_DEVICE int item_begin(int list) const { return indptr().load(list); }
  LATHE_DEVICE int item_end(int list) const { return indptr().load(list + 1); }
  LATHE_DEVICE abi::AttentionWorkItem item(int i) const {
    const abi::AttentionPlanHeader h = header();
    abi::AttentionWorkItem item = dev::GlobalList<abi::AttentionWorkItem>{dev::at(base, h.items_offset)}.load(i);
    item.head += replica * h.replica_heads;
    if (item.partial_row >= 0) item.partial_row += replica * h.replica_partial_rows;
    return item;
  }
  LATHE_DEVICE abi::AttentionRequest request(int i) const {
    return dev::GlobalList<abi::AttentionRequest>{dev::at(base, header().requests_offset)}.load(i);
  }
  LATHE_DEVICE abi::AttentionMergeGroup group(int i) const {
    const abi::AttentionPlanHeader h = header();
    const dev::GlobalList<int> words{dev::at(base, h.groups_offset)};
    return abi::AttentionMergeGroup{words.load(2 * i) + replica * h.replica_partial_rows, words.load(2 * i + 1)};
  }
  LATHE_DEVICE int counter_index(int group) const { return replica * header().num_groups + group; }

 private:
  LATHE_DEVICE dev::GlobalList<int> indptr() const { return {dev::at(base, header().item_indptr_offset)}; }
};

// A query row as the caller knows it.
struct QueryRow {
  int query;  // within the request
  int head;   // qo head
};

// An item with its request.
struct Problem {
  abi::AttentionWorkItem item;
  abi::AttentionRequest request;

  static constexpr int kHeadsPerRow = config::kPacked ? config::kGroupSize : 1;  // qo heads that share the rows of a tile

  LATHE_DEVICE QueryRow query_row(int row) const {  // row of the tile
    const int packed = item.row_begin + row;
    return {packed / kHeadsPerRow, item.head * kHeadsPerRow + packed % kHeadsPerRow};
  }
  LATHE_DEVICE bool row_exists(int row) const { return item.row_begin + row < request.qo_len * kHeadsPerRow; }
  LATHE_DEVICE int kv_head() const { return config::kPacked ? item.head : item.head / config::kGroupSize; }

  // Row `row` of the tile sees exactly the keys [first_key, end_key) of the item. Both rise with the row.
  LATHE_DEVICE int q_position(int row) const { return query_row(row).query + request.kv_len - request.qo_len; }
  LATHE_DEVICE int first_key(int row, int window) const {
    if constexpr (!config::kWindow) return item.kv_begin;
    // In 64 bits: a window as wide as the integers is how callers say "no window".
    const i64 first = static_cast<i64>(q_position(row)) - window + 1;
    return first > item.kv_begin ? static_cast<int>(first) : item.kv_begin;
  }
  LATHE_DEVICE int end_key(int row) const {
    if constexpr (!config::kCausal) return item.kv_end;
    const int end = q_position(row) + 1;
    return end < item.kv_end ? end : item.kv_end;
  }
};

}  // namespace attention
