// What host and device agree on for the kernel that plans attention on the device.
#pragma once

#include "abi/attention_schedule.h"

namespace lathe::abi {

// How the device finds the keys of a request.
enum class AttentionKeysForm : int {
  ragged,  // kv_indptr in tokens
  csr,     // kv_indptr in pages, last_page_len
  table,   // seq_lens, block_table_stride
};

// Parameter block of the planning launch.
struct alignas(64) AttentionPlanParams {
  const int* qo_indptr;      // [num_requests + 1]
  const int* kv_indptr;      // [num_requests + 1]; ragged and csr
  const int* last_page_len;  // [num_requests]; csr
  const int* seq_lens;       // [num_requests]; table
  void* plan;                // the image: AttentionPlanHeader and its lists
  void* row_blocks;          // AttentionRowBlock[max_row_blocks]
  int* first_block;          // [num_requests + 1]: the row blocks of request r are [first_block[r], first_block[r + 1])
  AttentionKeysForm form;
  int num_requests;
  int page_size;
  int block_table_stride;
  int max_row_blocks;
  int max_items;               // of the image's list
  int max_partial_rows;        // of one replica
  long long max_tile_cost;     // more would pass what the schedule can add up
  AttentionPlanHeader header;  // as it is to be written, but for its counts
  AttentionScheduleShape schedule;
};

}  // namespace lathe::abi
