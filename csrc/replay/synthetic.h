// Lengths that are drawn: from quantiles of public traces, and by laws that are hard to balance.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <string_view>
#include <vector>

#include "lathe/replay/traces.h"

namespace lathe {

/// p10, p25, p50, p75, p90, p99 of input and of output lengths of one public trace, each pair as a request.
struct TraceQuantiles {
  const char* name;
  std::span<const TraceRequest> points;
};

/// Their sources are named beside them in the .cc, and in docs/cli.md how they were computed.
std::span<const TraceQuantiles> published_quantiles();

/// `count` requests whose input and output lengths are drawn apart from each other, each at an even rank, with a logarithm that is
/// linear between the quantiles and constant outside them.
std::vector<TraceRequest> draw_requests(const TraceQuantiles& quantiles, size_t count, std::mt19937_64& rng);

enum class SyntheticKind : uint8_t {
  zipf,      // lengths fall as 1 / rank, each times an even factor of 0.75..1.25; their mean is given
  one_long,  // one of 65,536, all others 1,024
};
std::optional<SyntheticKind> synthetic_named(std::string_view name);  // "zipf", "one-long"

/// Key lengths of a batch of decodes, in random order. `batch` >= 1, `mean` in 1..2^20.
std::vector<int32_t> synthetic_batch(SyntheticKind kind, int32_t batch, int32_t mean, std::mt19937_64& rng);

}  // namespace lathe
