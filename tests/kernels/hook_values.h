// Random params and tensors for the hooks of a spec.
#pragma once

#include <random>
#include <vector>

#include "lathe/api/hook_args.h"
#include "lathe/base/bytes.h"
#include "lathe/oracle/hooks.h"
#include "lathe/spec/attention_hooks.h"

namespace lathe::testing {

/// What axes of tensors run over.
struct HookAxes {
  int64_t batch = 0, qo_heads = 0, kv_heads = 0, tokens = 0, qo_len = 0, kv_len = 0, slots = 0, pages = 0, head_dim = 0;
};

/// One set of values, for the API, for the oracle, and as memory. By place in hooks.given().
struct DrawnHooks {
  std::vector<HookParam> params;
  std::vector<HookTensor> tensors;  // pointers are null
  std::vector<Bytes> memory;
  oracle::HookValues values;
};

/// Integers come out so that masks show some keys and hide others: params and elements lie within the lengths of the batch, sorted
/// tensors rise. A tensor's last axis may be padded.
DrawnHooks draw_hooks(const AttentionHooks& hooks, const HookAxes& axes, std::mt19937_64& rng);

}  // namespace lathe::testing
