// Shapes and batches that the planner's tests share.
#pragma once

#include <random>
#include <vector>

#include "lathe/plan/attention_plan.h"
#include "random_batch.h"

namespace lathe::testing {

/// A batch together with the memory its spans look at.
struct OwnedBatch {
  RandomBatch lengths;
  std::vector<int32_t> kv_begin;

  explicit OwnedBatch(RandomBatch drawn) : lengths(std::move(drawn)) {
    int32_t next = 0;
    for (int32_t kv_len : lengths.kv_lens) {
      kv_begin.push_back(next);
      next += kv_len;
    }
  }
  PlanBatch view() const { return {lengths.qo_indptr, lengths.kv_lens, kv_begin, lengths.window}; }
};

/// Llama-3's heads on 132 blocks: group 4, 8 kv heads, head dim 128, tiles 128x64 and 16x128.
PlanShape llama_shape(Mask mask = Mask::causal);

/// Any shape that can be planned for: mask, split, determinism, heads, packing, tile classes, grid.
PlanShape random_shape(std::mt19937_64& rng);

std::string print(const PlanShape& shape);

}  // namespace lathe::testing
