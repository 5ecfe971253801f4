// The --batch argument: lengths and run-time arguments of one batch, as hostile as any input.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "lathe/base/status.h"
#include "lathe/proof/batch_values.h"
#include "lathe/spec/attention_spec.h"

namespace lathe::cli {

/// Most memory that one batch may take, in bytes.
constexpr int64_t kMaxBatchMemory = int64_t{8} << 30;

/// A batch of `spec` from JSON text: "num_kv_heads", "qo_lens", "kv_lens", and "window" (needed exactly when the mask has one),
/// "sm_scale", "soft_cap" (needed exactly when the spec has it). All problems at once, naming field, value and what is allowed; a
/// batch whose products leave 31 bits, or that would need more than kMaxBatchMemory, is one of them.
Result<testing::BatchShape> batch_from_json(const AttentionSpec& spec, std::string_view json);

/// Reads the text that `argument` stands for (input.h), then as above.
Result<testing::BatchShape> read_batch_arg(const AttentionSpec& spec, const std::string& argument);

/// Bytes that building, running and checking `shape` takes, from above; INT64_MAX when that leaves 64 bits.
int64_t memory_needed(const AttentionSpec& spec, const testing::BatchShape& shape);

}  // namespace lathe::cli
