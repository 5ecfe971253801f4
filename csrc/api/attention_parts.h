// The parts of Attention::plan and Attention::run that only check and translate.
#pragma once

#include <vector>

#include "lathe/abi/attention.h"
#include "lathe/api/attention.h"

namespace lathe {

/// Lengths as the planner takes them, derived from a checked batch.
struct BatchLengths {
  std::vector<int32_t> kv_lens;   // [batch], tokens
  std::vector<int32_t> kv_begin;  // [batch], see abi::AttentionRequest
  int64_t kv_entries = 0;         // rows of k (ragged), or entries of kv_indices (paged), that the batch may touch
};

/// Every problem of `batch` at once, naming the array, the request and the value; else its lengths.
Result<BatchLengths> read_batch(const AttentionSpec& spec, const AttentionBatch& batch);

/// The parameter block and the buffers of a launch.
struct LaunchArgs {
  abi::AttentionParams params{};
  std::vector<BufferArg> buffers;
};

/// Every problem of `args` at once; else the launch's arguments. `workspace` holds the plan and its scratch memory.
Result<LaunchArgs> read_args(const AttentionSpec& spec, const AttentionArgs& args, const PlannedAttention& plan, void* workspace);

}  // namespace lathe
