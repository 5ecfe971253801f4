// The meaning of merging partial attention states in double precision (csrc/spec/merge_spec.h), by the same rule as
// oracle/attention.h.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lathe/oracle/hooks.h"
#include "lathe/spec/merge_spec.h"

namespace lathe::oracle {

struct MergeOutput {
  std::vector<double> o;    // [rows, head_dim]
  std::vector<double> lse;  // [rows], in the spec's base
};

/// What the spec's hooks take: row r is token r / num_heads, head r % num_heads.
struct MergeHooks {
  int64_t num_heads = 1;
  HookValues values;
};

/// `o` [num_states, rows, head_dim] in the spec's dtype, `lse` [num_states, rows] in the spec's base, both contiguous.
MergeOutput merge(const MergeSpec& spec, int64_t num_states, int64_t rows, std::span<const uint16_t> o, std::span<const float> lse,
                  const MergeHooks& hooks = {});

}  // namespace lathe::oracle
