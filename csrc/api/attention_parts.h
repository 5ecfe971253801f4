// The parts of Attention that only check and translate.
#pragma once

#include <array>

#include "kv_tensors.h"
#include "lathe/abi/attention.h"
#include "lathe/api/attention.h"

namespace lathe {

/// Every problem of `batch` at once, naming the array, the request and the value; else its lengths, in the memory of `out`.
Status read_batch(const AttentionSpec& spec, const AttentionBatch& batch, int32_t num_kv_heads, BatchLengths& out);

/// What tensors and params of hooks must agree with in a launch of `batch`, in `bounds`.
void bound_hooks(const AttentionSpec& spec, const AttentionBatch& batch, const BatchLengths& lengths, AttentionBounds& bounds);

/// Bounds as the planner takes them.
PlanBounds plan_bounds(const AttentionBounds& bounds);

/// Every bound of `envelope` that a checked batch passes.
Status check_bounds(const AttentionSpec& spec, const AttentionBounds& bounds, const AttentionBatch& batch,
                    const BatchLengths& lengths);
/// What `plan`, an envelope that a plan was made in, disagrees about with `envelope`.
Status check_same(const AttentionEnvelope& plan, const AttentionEnvelope& envelope);

/// The parameter block and the buffers of a launch.
struct LaunchArgs {
  abi::AttentionParams params{};
  std::array<BufferArg, 10 + 2 * kKvTables + abi::kMaxHookTensors> buffers;
  size_t num_buffers = 0;
};

/// Every problem of `args` at once; else, in `out`, the arguments of the launch that serves every plan of `envelope`. `workspace`
/// holds the plan and its scratch memory.
Status read_args(const AttentionSpec& spec, const AttentionArgs& args, const AttentionEnvelope& envelope, void* workspace,
                 LaunchArgs& out);

}  // namespace lathe
