// What one work item is about: where its rows and keys lie, and which keys each row may see.
#pragma once

#include "kernels/shared/kv_tables.cuh"

namespace attention {

using config::Element;
using dev::i64;
using dev::u32;

// The plan in device memory, written by the planner (csrc/plan) before the launch, as one replica of its lists sees it. The header
// and what follows from it are found anew by each function that needs them: they would otherwise take registers from the main loop.
struct Plan {
  using Header = abi::AttentionPlanHeader;
  using Field = dev::IntMember<Header>;
  const void* base;
  int list, replica;  // of this block; past the last replica there is nothing to do

  LATHE_DEVICE explicit Plan(const abi::AttentionParams& params) : base(params.plan) {
    const int block = static_cast<int>(dev::block_index()), num_lists = header(&Header::num_lists);
    replica = block / num_lists;
    list = block - replica * num_lists;
  }

  LATHE_DEVICE int header(Field field) const { return dev::load_member<Header>(base, field); }
  LATHE_DEVICE int item_begin() const { return at<int>(&Header::item_indptr_offset, list); }
  LATHE_DEVICE int item_end() const { return at<int>(&Header::item_indptr_offset, list + 1); }
  LATHE_DEVICE abi::AttentionWorkItem item(int i) const {
    abi::AttentionWorkItem item = at<abi::AttentionWorkItem>(&Header::items_offset, i);
    item.head += replica * header(&Header::replica_heads);
    if (item.partial_row >= 0) item.partial_row += replica * header(&Header::replica_partial_rows);
    return item;
  }
  // Parts of an item, for those who need no more: the whole of it is more code, and a longer compile.
  struct ItemKind {
    short num_heads;
    signed char tile_class, level;
  };
  LATHE_DEVICE ItemKind item_kind(int i) const {
    constexpr int kOffset = sizeof(abi::AttentionWorkItem) - sizeof(ItemKind);
    static_assert(kOffset == 7 * sizeof(int), "an item is seven ints and its kind");
    return dev::GlobalList<ItemKind>{dev::at(item_address(i), kOffset)}.load(0);
  }
  LATHE_DEVICE bool item_is_partial(int i) const {
    return dev::load_member<abi::AttentionWorkItem>(item_address(i), &abi::AttentionWorkItem::partial_row) >= 0;
  }
  LATHE_DEVICE abi::AttentionRequest request(int i) const { return at<abi::AttentionRequest>(&Header::requests_offset, i); }
  LATHE_DEVICE abi::AttentionMergeGroup group(int i) const {
    const Pair group = pair(&Header::groups_offset, i);
    return {group.first + replica * header(&Header::replica_partial_rows), group.second};
  }
  LATHE_DEVICE int counter_index(int group) const { return replica * header(&Header::num_groups) + group; }

  // Which linked tile merge group `group` is of; num_linked or more where it is of none.
  LATHE_DEVICE int linked_index(int group) const { return group / header(&Header::replica_heads); }
  LATHE_DEVICE abi::AttentionLinkedTile linked_tile(int i) const { return at<abi::AttentionLinkedTile>(&Header::linked_offset, i); }
  // The merge group of linked tile `i` for `head` of the replica.
  LATHE_DEVICE int linked_group(int i, int head) const { return i * header(&Header::replica_heads) + head; }
  LATHE_DEVICE abi::AttentionLink link(int i) const {
    const Pair link = pair(&Header::links_offset, i);
    return {link.first, link.second};
  }
  // Runs of the keys that a row block's tiles may see, where a mask of hooks leaves others out.
  LATHE_DEVICE int first_block(int request, int head) const {
    const int i = hooks::kMaskDiffersByHead ? request * header(&Header::replica_heads) + head : request;
    return at<int>(&Header::first_blocks_offset, i);
  }
  LATHE_DEVICE int first_run(int block) const { return at<int>(&Header::run_indptr_offset, block); }
  LATHE_DEVICE abi::AttentionKeyRun run(int i) const { return at<abi::AttentionKeyRun>(&Header::runs_offset, i); }
  LATHE_DEVICE abi::AttentionSharedRow shared_row(int i) const {
    const Pair row = pair(&Header::shared_rows_offset, i);
    return {row.first, row.second};
  }

 private:
  LATHE_DEVICE const void* item_address(int i) const {
    return dev::at(base, header(&Header::items_offset) + static_cast<i64>(i) * static_cast<i64>(sizeof(abi::AttentionWorkItem)));
  }
  struct Pair {
    int first, second;
  };
  LATHE_DEVICE Pair pair(Field offset, int i) const {
    const dev::GlobalList<int> list{dev::at(base, header(offset) + static_cast<i64>(i) * 8)};
    return {list.load(0), list.load(1)};
  }
  template <class T>
  LATHE_DEVICE T at(Field offset, int i) const {
    return dev::GlobalList<T>{dev::at(base, header(offset))}.load(i);
  }
};

// Packed row `row`, counted over the whole batch, of `item_head` (kv head when packed, else qo head) as the caller knows it.
struct QueryRow {
  static constexpr int kHeadsPerRow = config::kPacked ? config::kGroupSize : 1;  // qo heads that share the rows of a tile
  int token;                                                                     // in q, o and lse
  int head;                                                                      // qo head

  LATHE_DEVICE QueryRow(int row, int item_head) : token(row / kHeadsPerRow), head(item_head * kHeadsPerRow + row % kHeadsPerRow) {}
};

// An item with its request.
struct Problem {
  abi::AttentionWorkItem item;
  abi::AttentionRequest request;

  static constexpr int kHeadsPerRow = QueryRow::kHeadsPerRow;

  // Head `n` of item `i`. Like the plan, read anew by each function that needs it.
  LATHE_DEVICE static Problem read(const Plan& plan, int i, int n) {
    Problem problem;
    problem.item = plan.item(i);
    problem.item.head += n;
    problem.request = plan.request(problem.item.request);
    return problem;
  }

  // Rows of the item's tile that exist, of the `tile_rows` of its class.
  LATHE_DEVICE int num_rows(int tile_rows) const {
    const int left = (item.level == 0 ? request.qo_len * kHeadsPerRow : request.qo_len) - item.row_begin;
    return left < tile_rows ? left : tile_rows;
  }
  // Row `row` of the tile, of those that exist, as a packed row of the batch.
  LATHE_DEVICE int batch_row(const Plan& plan, int row) const {
    if (item.level == 0) return request.qo_begin * kHeadsPerRow + item.row_begin + row;
    return plan.shared_row(request.qo_begin + row).row;
  }
  // What hooks see of a row of the tile, of those that exist, and of a key of the request.
  LATHE_DEVICE hooks::TileInputs hook_tile() const {
    return {item.request, request.qo_len, request.kv_len, config::kGroupSize, item.level};
  }
  LATHE_DEVICE hooks::RowInputs hook_row(int row) const {
    const QueryRow at(item.row_begin + row, item.head);
    return {at.head, at.head / config::kGroupSize, at.token, request.qo_begin + at.token};
  }
  // Where a key of the request lies.
  LATHE_DEVICE kv::Place place_of(const abi::AttentionParams& params, int key) const {
    if constexpr (config::kPaged) {
      const u32 at = static_cast<u32>(key);  // not negative, which spares the corrections of signed division
      const int page = dev::GlobalList<int>{params.kv_indices}.load(static_cast<i64>(request.kv_begin) + at / config::kPageSize);
      return {page, static_cast<int>(at % config::kPageSize)};
    } else {
      return {0, request.kv_begin + key};
    }
  }
  LATHE_DEVICE hooks::ColumnInputs hook_column(const abi::AttentionParams& params, int key) const {
    const kv::Place at = place_of(params, key);
    return {key, at.page * config::kPageSize + at.index};
  }

  LATHE_DEVICE int kv_head() const { return config::kPacked ? item.head : item.head / config::kGroupSize; }

  // Row `row` of the tile sees exactly the keys [first_key, end_key) of the item, of those that a mask of hooks shows it. Both rise
  // with the row.
  LATHE_DEVICE int q_position(int row) const { return (item.row_begin + row) / kHeadsPerRow + request.kv_len - request.qo_len; }
  LATHE_DEVICE int first_key(int row, int window) const {
    if constexpr (hooks::kMask) return 0;
    if constexpr (!config::kWindow) return item.kv_begin;
    // In 64 bits: a window as wide as the integers is how callers say "no window".
    const i64 first = static_cast<i64>(q_position(row)) - window + 1;
    return first > item.kv_begin ? static_cast<int>(first) : item.kv_begin;
  }
  LATHE_DEVICE int end_key(int row) const {
    if constexpr (hooks::kMask) return request.kv_len;
    if constexpr (!config::kCausal) return item.kv_end;
    const int end = q_position(row) + 1;
    return end < item.kv_end ? end : item.kv_end;
  }
};

// Keys of an item's tiles. With a mask of hooks an item's kv_begin and kv_end are places in the line of keys that its rows may see
// (abi::AttentionKeyRun), else keys. Looked up from front to back.
class KeyLine {
 public:
  LATHE_DEVICE KeyLine(const abi::AttentionParams& params, const Problem& problem, int tile_rows) {
    if constexpr (hooks::kMask) {
      const Plan plan(params);
      const int block = plan.first_block(problem.item.request, problem.item.head) + problem.item.row_begin / tile_rows;
      last_ = plan.first_run(block + 1) - 1;
      // The last run that begins at or before the item.
      int low = plan.first_run(block), high = last_;
      while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (plan.run(middle).begin <= problem.item.kv_begin) {
          low = middle;
        } else {
          high = middle - 1;
        }
      }
      enter(plan, low);
    }
  }

  // First key of the tile at `place`, which is not before the last one asked for.
  LATHE_DEVICE int key(const abi::AttentionParams& params, int place) {
    if constexpr (hooks::kMask) {
      while (place >= end_) enter(Plan(params), index_ + 1);
    }
    return place + shift_;
  }
  // Whether every row sees every key of that tile, as far as the mask of hooks goes.
  LATHE_DEVICE bool full() const { return full_; }

 private:
  LATHE_DEVICE void enter(const Plan& plan, int index) {
    index_ = index;
    end_ = 0x7fffffff;
    if (index > last_) return;  // an item without a key
    const abi::AttentionKeyRun run = plan.run(index);
    shift_ = run.kv_begin - run.begin;
    full_ = run.full != 0;
    if (index < last_) end_ = plan.run(index + 1).begin;
  }

  int index_ = 0, last_ = 0, end_ = 0, shift_ = 0;
  bool full_ = !hooks::kMask;
};

}  // namespace attention
