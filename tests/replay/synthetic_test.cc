#include "lathe/replay/synthetic.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace lathe {
namespace {

TEST(Synthetic, DrawnLengthsHaveTheQuantiles) {
  std::mt19937_64 rng(1);
  for (const TraceQuantiles& quantiles : published_quantiles()) {
    std::vector<TraceRequest> requests = draw_requests(quantiles, 20000, rng);
    std::ranges::sort(requests, {}, &TraceRequest::input);
    const double ranks[] = {0.10, 0.25, 0.50, 0.75, 0.90};
    for (size_t i = 0; i < std::size(ranks); ++i) {
      EXPECT_NEAR(requests[static_cast<size_t>(ranks[i] * 20000)].input / static_cast<double>(quantiles.points[i].input), 1, 0.08)
          << quantiles.name << ranks[i];
    }
    EXPECT_EQ(requests.front().input, quantiles.points.front().input);
    EXPECT_EQ(requests.back().input, quantiles.points.back().input);
  }
}

TEST(Synthetic, ZipfHasItsMean) {
  std::mt19937_64 rng(1);
  std::vector<int32_t> kv = synthetic_batch(SyntheticKind::zipf, 64, 4096, rng);
  EXPECT_EQ(kv.size(), 64u);
  EXPECT_NEAR(std::accumulate(kv.begin(), kv.end(), 0.0) / 64, 4096, 1);
  std::ranges::sort(kv, std::greater<>{});
  EXPECT_NEAR(kv[0] / 55000.0, 1, 0.3);
  EXPECT_NE(kv, synthetic_batch(SyntheticKind::zipf, 64, 4096, rng));
  EXPECT_EQ(synthetic_batch(SyntheticKind::zipf, 1, 1, rng), std::vector<int32_t>{1});
}

TEST(Synthetic, OneLong) {
  std::mt19937_64 rng(1);
  const std::vector<int32_t> kv = synthetic_batch(SyntheticKind::one_long, 64, 1, rng);
  EXPECT_EQ(std::ranges::count(kv, 65536), 1);
  EXPECT_EQ(std::ranges::count(kv, 1024), 63);
  EXPECT_EQ(synthetic_named("one-long"), SyntheticKind::one_long);
  EXPECT_EQ(synthetic_named("zipf"), SyntheticKind::zipf);
  EXPECT_EQ(synthetic_named("flat"), std::nullopt);
}

}  // namespace
}  // namespace lathe
