// The demo's batch: what a serving engine has at hand in one step, with lengths of real requests.
#pragma once

#include <span>
#include <vector>

#include "lathe/proof/batch_values.h"
#include "lathe/replay/traces.h"

namespace lathe::cli {

/// The published quantiles of all public traces (lathe/replay/synthetic.h), as requests.
std::vector<TraceRequest> quantile_requests();

/// A mixed batch of Llama-3 shape (8 KV heads) made of `requests` (at least one): 16 of them at evenly spaced ranks of their
/// length. Every fourth is in prefill, with the last chunk (at most 2048 tokens) of its prompt at hand; the others decode one
/// token, half of their output made. All lengths are divided by `scale` >= 1, rounded up.
testing::BatchShape demo_batch(std::span<const TraceRequest> requests, int scale);

}  // namespace lathe::cli
