// Checks of the scales of a run and their translation to the kernel's parameter block.
#pragma once

#include <array>
#include <string>

#include "lathe/abi/attention.h"
#include "lathe/api/kv_scales.h"
#include "lathe/base/status.h"
#include "lathe/runtime/device.h"
#include "lathe/spec/attention_spec.h"

namespace lathe {

/// What the scales of one run must cover.
struct KvExtents {
  int64_t num_kv_heads = 0;
  int64_t rows = 0;  // ragged: rows of k that the plan covers; paged: pages of k
};

constexpr size_t kKvTables = 3;

/// Adds what is wrong with the scales of the keys, or else of the values; without a problem, what the kernel reads and the buffers
/// of the tables (without a name where there is none).
void read_kv_scales(const AttentionSpec& spec, bool keys, const KvScales& given, const KvExtents& extents,
                    abi::AttentionKvScales& out, std::array<BufferArg, kKvTables>& buffers, Problems& problems);

}  // namespace lathe
