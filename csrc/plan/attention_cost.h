// What the planner believes things cost. Only proportions matter: they decide cuts and balance, never results.
#pragma once

#include <cstdint>

#include "lathe/arch/traits.h"

namespace lathe {

/// Picoseconds of one thread block. The defaults are those of an H100 that is fully used by 132 blocks. With them, reading the keys
/// binds every tile of up to 128 rows.
struct AttentionCosts {
  int64_t byte = 44;            // reading one byte of K or V
  int64_t fragment_dim = 11;    // 16 rows against one key, per element of head_dim_qk + head_dim_vo
  int64_t item = 1'400'000;     // starting and ending a work item: its first loads, its epilogue
  int64_t partial = 1'000'000;  // writing a partial state and reading it back for the merge
};

/// Costs on a device of `arch` whose memory and multiprocessors `num_ctas` blocks share, `num_sms` of them at one each.
inline AttentionCosts attention_costs(const ArchTraits& arch, int32_t num_sms, int32_t num_ctas) {
  constexpr int64_t kPerSecond = 1'000'000'000'000;  // picoseconds
  constexpr int64_t kFragmentFlops = 2 * 16;
  // A device with fewer or more multiprocessors than the arch's typical one is taken to have memory in proportion.
  const int64_t bytes = int64_t{arch.memory_gb_per_s} * 1'000'000'000 / arch.num_sms * num_sms / num_ctas;
  const int64_t flops = int64_t{arch.mma_tflop_per_s} * kPerSecond / arch.num_sms * num_sms / num_ctas;
  AttentionCosts costs;
  costs.byte = (kPerSecond + bytes / 2) / bytes;
  costs.fragment_dim = (kFragmentFlops * kPerSecond + flops / 2) / flops;
  return costs;
}

}  // namespace lathe
