// The schedule of a batch from lengths in device memory, by one block: the same lists, bit for bit, as csrc/plan makes on the host
// (tests compare them), from the same arithmetic (abi/attention_schedule.h).
//
// Requests and row blocks are independent and spread over the threads. Dealing out is a recurrence over lists and stays with one
// thread; heads that are scheduled alike make the lists few.
#pragma once

namespace attention_plan {

using dev::i64;
using dev::u32;

constexpr int kWarps = config::kThreads / dev::kWarpSize;
constexpr u32 kScratch = 0;  // shared memory: a slot for each warp

// Request `b` as the attention kernel reads it. Lengths that no host would accept stop the kernel: a device cannot refuse.
LATHE_DEVICE abi::AttentionRequest request_of(const abi::AttentionPlanParams& params, int b) {
  const dev::GlobalList<int> qo_indptr{params.qo_indptr};
  const dev::GlobalList<int> kv_indptr{params.kv_indptr};
  const int qo_begin = qo_indptr.load(b);
  i64 kv_begin = 0, kv_len = 0;
  if (params.form == abi::AttentionKeysForm::table) {
    kv_begin = static_cast<i64>(b) * params.block_table_stride;
    kv_len = dev::GlobalList<int>{params.seq_lens}.load(b);
    if (kv_len > static_cast<i64>(params.block_table_stride) * params.page_size) dev::trap();
  } else {
    kv_begin = kv_indptr.load(b);
    kv_len = kv_indptr.load(b + 1) - kv_begin;
    if (params.form == abi::AttentionKeysForm::csr && kv_len > 0) {
      const int last = dev::GlobalList<int>{params.last_page_len}.load(b);
      if (last < 1 || last > params.page_size) dev::trap();
      kv_len = (kv_len - 1) * params.page_size + last;
    }
  }
  const i64 qo_len = static_cast<i64>(qo_indptr.load(b + 1)) - qo_begin;
  constexpr i64 kMaxLength = 0x7fffffff - 4096;
  if (qo_begin < 0 || qo_len < 0 || qo_len * params.schedule.rows_per_token > kMaxLength) dev::trap();
  if (kv_begin < 0 || kv_len < 0 || kv_len > kMaxLength) dev::trap();
  return abi::AttentionRequest{qo_begin, static_cast<int>(qo_len), static_cast<int>(kv_len), static_cast<int>(kv_begin)};
}

// The row blocks of a request: their class and how many.
struct RowGrid {
  int tile_class = 0, count = 0;
  LATHE_DEVICE RowGrid(const abi::AttentionScheduleShape& shape, const abi::AttentionRequest& request) {
    const int rows = request.qo_len * shape.rows_per_token;
    if (rows == 0) return;
    tile_class = abi::tile_class_of(shape, rows);
    count = (rows - 1) / shape.rows[tile_class] + 1;
  }
};

// Writes the requests and where the row blocks of each begin; returns how many row blocks there are.
LATHE_DEVICE int list_requests(const abi::AttentionPlanParams& params) {
  const dev::MutableList<abi::AttentionRequest> requests{dev::at(params.plan, params.header.requests_offset)};
  const dev::MutableList<int> first_block{params.first_block};
  const int each = (params.num_requests + config::kThreads - 1) / config::kThreads;
  const int begin = static_cast<int>(dev::thread_index()) * each;
  const int end = begin + each < params.num_requests ? begin + each : params.num_requests;
  int count = 0;
  for (int b = begin; b < end; ++b) {
    const abi::AttentionRequest request = request_of(params, b);
    requests.store(b, request);
    count += RowGrid(params.schedule, request).count;
    if (count > params.max_row_blocks) dev::trap();
  }
  int total = 0;
  int next = dev::block_exclusive_sum(count, kScratch, kWarps, total);
  for (int b = begin; b < end; ++b) {
    first_block.store(b, next);
    next += RowGrid(params.schedule, requests.load(b)).count;
  }
  if (dev::thread_index() == 0) first_block.store(params.num_requests, total);
  dev::block_barrier();
  if (total < 0 || total > params.max_row_blocks) dev::trap();
  return total;
}

// The request that row block `i` belongs to: the last that begins at or before it.
LATHE_DEVICE int request_of_block(const abi::AttentionPlanParams& params, int i) {
  const dev::GlobalList<int> first_block{params.first_block};
  int low = 0, high = params.num_requests;  // first_block[low] <= i < first_block[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (first_block.load(middle) <= i) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// Writes all row blocks; returns their sums, the same on every thread.
LATHE_DEVICE abi::AttentionScheduleWork list_row_blocks(const abi::AttentionPlanParams& params, int num_blocks) {
  const dev::MutableList<abi::AttentionRequest> requests{dev::at(params.plan, params.header.requests_offset)};
  const dev::MutableList<abi::AttentionRowBlock> blocks{params.row_blocks};
  const dev::GlobalList<int> first_block{params.first_block};
  abi::AttentionScheduleWork work{0, 0, 0, 0};
  i64 items = 0, partial_rows = 0;
  for (int i = static_cast<int>(dev::thread_index()); i < num_blocks; i += config::kThreads) {
    const int b = request_of_block(params, i);
    const abi::AttentionRequest request = requests.load(b);
    const int tile_class = RowGrid(params.schedule, request).tile_class;
    const int row = (i - first_block.load(b)) * params.schedule.rows[tile_class];
    const abi::AttentionRowBlock block = abi::row_block(params.schedule, b, request.qo_len, request.kv_len, tile_class, row);
    if (block.tile_cost > params.max_tile_cost) dev::trap();
    blocks.store(i, block);
    abi::add_work(params.schedule, block, work);
    const int parts = abi::fixed_parts(block, params.schedule.fixed_keys);
    items += parts > 1 ? static_cast<i64>(parts) * params.schedule.num_heads : 1;
    if (parts > 1) partial_rows += static_cast<i64>(parts) * params.schedule.num_heads * params.schedule.rows[tile_class];
  }
  const auto add = [](i64 a, i64 b) { return a + b; };
  const auto most = [](i64 a, i64 b) { return abi::schedule_max(a, b); };
  work.total = dev::block_reduce(work.total, kScratch, kWarps, add);
  work.largest = dev::block_reduce(work.largest, kScratch, kWarps, most);
  work.cut_step = dev::block_reduce(work.cut_step, kScratch, kWarps, most);
  work.num_blocks = num_blocks;
  items = dev::block_reduce(items, kScratch, kWarps, add);
  partial_rows = dev::block_reduce(partial_rows, kScratch, kWarps, add);
  if (params.schedule.fixed_keys > 0 && (items > params.max_items || partial_rows > params.max_partial_rows)) dev::trap();
  return work;
}

struct RowBlocks {
  dev::GlobalList<abi::AttentionRowBlock> list;
  LATHE_DEVICE abi::AttentionRowBlock at(int i) const { return list.load(i); }
};

// The lists of the plan in device memory.
struct PlanLists {
  void* plan;
  const abi::AttentionPlanHeader& offsets;

  LATHE_DEVICE void indptr(int list, int first_item) const {
    dev::MutableList<int>{dev::at(plan, offsets.item_indptr_offset)}.store(list, first_item);
  }
  LATHE_DEVICE void group(int index, int first_row, int num_parts) const {
    const dev::MutableList<int> words{dev::at(plan, offsets.groups_offset)};
    words.store(2 * index, first_row);
    words.store(2 * index + 1, num_parts);
  }
  LATHE_DEVICE void item(int index, const abi::AttentionWorkItem& item) const {
    dev::MutableList<abi::AttentionWorkItem>{dev::at(plan, offsets.items_offset)}.store(index, item);
  }
};

LATHE_DEVICE void make_plan(const abi::AttentionPlanParams& params) {
  const int num_blocks = list_requests(params);
  const abi::AttentionScheduleWork work = list_row_blocks(params, num_blocks);
  if (dev::thread_index() != 0) return;

  const RowBlocks blocks{{params.row_blocks}};
  abi::AttentionScheduleShape schedule = params.schedule;
  const abi::AttentionScheduleChoice choice = abi::choose_schedule(schedule, work, [&](i64 limit) {
    abi::IgnorePieces none;
    return abi::deal_out(schedule, blocks, num_blocks, limit, none);
  });
  schedule.may_cut = choice.may_cut;
  abi::AttentionPlanHeader header = params.header;
  abi::AttentionListWriter<PlanLists> lists(PlanLists{params.plan, params.header}, params.schedule, 0);
  abi::deal_out(schedule, blocks, num_blocks, choice.limit, lists);
  lists.finish(header);
  dev::MutableList<abi::AttentionPlanHeader>{params.plan}.store(0, header);
}

}  // namespace attention_plan
