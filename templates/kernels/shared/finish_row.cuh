// What hooks make of a row when all of its states are merged: the sink, counted once however the keys were split, then `output`.
// Follows the printed hooks (csrc/spec/expr/device_hooks.h).
#pragma once

#include "kernels/shared/hook_inputs.cuh"

namespace hooks {

// Adds the sink of a final row to its lse (base 2) and shrinks 8 columns of it accordingly: a logit without a value.
LATHE_DEVICE void add_sink(const Args& args, const ElementInputs& at, float (&o)[8], float& lse) {
  const float logit = sink(args, at) * dev::kLog2E;
  const float top = dev::max(lse, logit);
  if (top == -dev::kInfinity) return;  // neither a key nor a sink
  const float own = dev::ex2(lse - top), sum = own + dev::ex2(logit - top), factor = own * dev::rcp(sum);
  lse = top + dev::lg2(sum);
#pragma unroll
  for (int c = 0; c < 8; ++c) o[c] *= factor;
}

// Finishes 8 columns of the row that `at` names by head and token; `lse` is in base 2.
LATHE_DEVICE void finish_row(const Args& args, ElementInputs& at, int chunk, float (&o)[8], float& lse) {
  if constexpr (kSink) add_sink(args, at, o, lse);
  if constexpr (kOutput) {
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      at.d = chunk * 8 + c;
      o[c] = output(args, at, o[c], lse * dev::kLn2);
    }
  }
}

}  // namespace hooks
