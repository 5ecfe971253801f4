#include "synthetic.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace lathe {
namespace {

// Azure LLM inference trace 2023, code (github.com/Azure/AzurePublicDataset, CC-BY-4.0), described in Patel et al., "Splitwise:
// Efficient Generative LLM Inference Using Phase Splitting", ISCA 2024.
const std::array kAzureCode{TraceRequest{147, 7},   TraceRequest{578, 9},   TraceRequest{1469, 13},
                            TraceRequest{2745, 24}, TraceRequest{5194, 55}, TraceRequest{7436, 252}};
// The same, conversation.
const std::array kAzureConversation{TraceRequest{207, 54},   TraceRequest{396, 85},   TraceRequest{1020, 129},
                                    TraceRequest{1189, 395}, TraceRequest{2735, 424}, TraceRequest{4142, 601}};
// Mooncake conversation trace (github.com/kvcache-ai/Mooncake, Apache-2.0), described in Qin et al., "Mooncake: Trading More
// Storage for Less Computation", FAST 2025.
const std::array kMooncakeConversation{TraceRequest{964, 24},    TraceRequest{2306, 156},  TraceRequest{6909, 350},
                                       TraceRequest{15368, 472}, TraceRequest{27367, 597}, TraceRequest{85401, 1120}};
const std::array kQuantiles{TraceQuantiles{"azure code", kAzureCode}, TraceQuantiles{"azure conversation", kAzureConversation},
                            TraceQuantiles{"mooncake conversation", kMooncakeConversation}};
constexpr std::array kRanks{0.10, 0.25, 0.50, 0.75, 0.90, 0.99};

constexpr int32_t kLong = 65536, kShort = 1024;
constexpr double kSpread = 0.25;

int32_t draw_length(std::span<const TraceRequest> points, int32_t TraceRequest::*length, std::mt19937_64& rng) {
  const double rank = std::uniform_real_distribution(0.0, 1.0)(rng);
  if (rank <= kRanks.front()) return points.front().*length;
  if (rank >= kRanks.back()) return points.back().*length;
  const auto above = static_cast<size_t>(std::ranges::upper_bound(kRanks, rank) - kRanks.begin());
  const double part = (rank - kRanks[above - 1]) / (kRanks[above] - kRanks[above - 1]);
  const double low = std::log(points[above - 1].*length), high = std::log(points[above].*length);
  return static_cast<int32_t>(std::lround(std::exp(low + part * (high - low))));
}

std::vector<int32_t> zipf(int32_t batch, int32_t mean, std::mt19937_64& rng) {
  std::uniform_real_distribution factor(1 - kSpread, 1 + kSpread);
  std::vector<double> weights;
  double sum = 0;
  for (int32_t rank = 1; rank <= batch; ++rank) {
    weights.push_back(factor(rng) / rank);
    sum += weights.back();
  }
  std::vector<int32_t> lengths;
  for (double weight : weights) {
    lengths.push_back(static_cast<int32_t>(std::max<int64_t>(std::llround(static_cast<double>(mean) * batch * weight / sum), 1)));
  }
  return lengths;
}

}  // namespace

std::span<const TraceQuantiles> published_quantiles() {
  return kQuantiles;
}

std::vector<TraceRequest> draw_requests(const TraceQuantiles& quantiles, size_t count, std::mt19937_64& rng) {
  std::vector<TraceRequest> requests(count);
  for (TraceRequest& request : requests) {
    request.input = draw_length(quantiles.points, &TraceRequest::input, rng);
    request.output = draw_length(quantiles.points, &TraceRequest::output, rng);
  }
  return requests;
}

std::optional<SyntheticKind> synthetic_named(std::string_view name) {
  if (name == "zipf") return SyntheticKind::zipf;
  if (name == "one-long") return SyntheticKind::one_long;
  return std::nullopt;
}

std::vector<int32_t> synthetic_batch(SyntheticKind kind, int32_t batch, int32_t mean, std::mt19937_64& rng) {
  std::vector<int32_t> lengths;
  if (kind == SyntheticKind::zipf) {
    lengths = zipf(batch, mean, rng);
  } else {
    lengths.assign(batch, kShort);
    lengths.front() = kLong;
  }
  std::ranges::shuffle(lengths, rng);
  return lengths;
}

}  // namespace lathe
