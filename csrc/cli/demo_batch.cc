#include "demo_batch.h"

#include <algorithm>

#include "lathe/base/bytes.h"
#include "lathe/replay/synthetic.h"

namespace lathe::cli {
namespace {

constexpr int32_t kNumKvHeads = 8;  // Llama 3 8B and 70B
constexpr size_t kRequests = 16;
constexpr size_t kPrefillEvery = 4;
constexpr int32_t kChunk = 2048;

}  // namespace

std::vector<TraceRequest> quantile_requests() {
  std::vector<TraceRequest> requests;
  for (const TraceQuantiles& trace : published_quantiles()) {
    requests.insert(requests.end(), trace.points.begin(), trace.points.end());
  }
  return requests;
}

testing::BatchShape demo_batch(std::span<const TraceRequest> requests, int scale) {
  std::vector<TraceRequest> sorted(requests.begin(), requests.end());
  std::ranges::sort(sorted, {}, [](const TraceRequest& r) { return std::pair(r.input, r.output); });
  testing::BatchShape shape;
  shape.num_kv_heads = kNumKvHeads;
  for (size_t i = 0; i < kRequests; ++i) {
    // The middle of the i-th of kRequests equal parts.
    const TraceRequest& r = sorted[(2 * i + 1) * sorted.size() / (2 * kRequests)];
    const bool prefill = i % kPrefillEvery == kPrefillEvery / 2;
    const int32_t keys = std::max(prefill ? r.input : r.input + r.output / 2, 1);
    shape.kv_lens.push_back(ceil_div(keys, scale));
    shape.qo_lens.push_back(prefill ? ceil_div(std::min(keys, kChunk), scale) : 1);
  }
  return shape;
}

}  // namespace lathe::cli
