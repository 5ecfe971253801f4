#include "demo_batch.h"

#include <algorithm>
#include <array>

#include "lathe/base/bytes.h"

namespace lathe::cli {
namespace {

constexpr int32_t kNumKvHeads = 8;  // Llama 3 8B and 70B
constexpr size_t kRequests = 16;
constexpr size_t kPrefillEvery = 4;
constexpr int32_t kChunk = 2048;

// p10, p25, p50, p75, p90, p99 of input and of output lengths.
constexpr std::array kQuantiles{
    // Azure LLM inference trace 2023, code (github.com/Azure/AzurePublicDataset, CC-BY-4.0), described in Patel et al., "Splitwise:
    // Efficient Generative LLM Inference Using Phase Splitting", ISCA 2024.
    TraceRequest{147, 7}, TraceRequest{578, 9}, TraceRequest{1469, 13}, TraceRequest{2745, 24}, TraceRequest{5194, 55},
    TraceRequest{7436, 252},
    // The same, conversation.
    TraceRequest{207, 54}, TraceRequest{396, 85}, TraceRequest{1020, 129}, TraceRequest{1189, 395}, TraceRequest{2735, 424},
    TraceRequest{4142, 601},
    // Mooncake conversation trace (github.com/kvcache-ai/Mooncake, Apache-2.0), described in Qin et al., "Mooncake: Trading More
    // Storage for Less Computation", FAST 2025.
    TraceRequest{964, 24}, TraceRequest{2306, 156}, TraceRequest{6909, 350}, TraceRequest{15368, 472}, TraceRequest{27367, 597},
    TraceRequest{85401, 1120}};

}  // namespace

std::span<const TraceRequest> published_quantiles() {
  return kQuantiles;
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
