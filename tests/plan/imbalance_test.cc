// How even the schedules are on lengths that are hard to balance.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "lathe/testing/seed.h"
#include "plan_cases.h"
#include "plan_check.h"

namespace lathe::testing {
namespace {

// Decodes whose lengths fall as 1 / rank, with the given mean, in random order.
RandomBatch zipf(std::mt19937_64& rng, int32_t size, double mean) {
  double harmonic = 0;
  for (int32_t rank = 1; rank <= size; ++rank) harmonic += 1.0 / rank;
  std::vector<int32_t> kv_lens;
  for (int32_t rank = 1; rank <= size; ++rank) kv_lens.push_back(static_cast<int32_t>(mean * size / harmonic / rank) + 1);
  std::shuffle(kv_lens.begin(), kv_lens.end(), rng);
  RandomBatch batch;
  for (int32_t kv_len : kv_lens) batch.add(1, kv_len);
  return batch;
}

RandomBatch one_long(int32_t size) {
  RandomBatch batch;
  for (int32_t b = 0; b < size; ++b) batch.add(1, b == size / 2 ? 65536 : 1024);
  return batch;
}

// Prefill chunks among decodes.
RandomBatch chunked(std::mt19937_64& rng, int32_t size) {
  RandomBatch batch;
  for (int32_t b = 0; b < size; ++b) {
    int32_t kv_len = draw_int(rng, 200, 8000);
    batch.add(b % 16 == 0 ? std::min(kv_len, 512) : 1, kv_len);
  }
  return batch;
}

// The longest block over the mean; and over what the blocks would have if nothing were split, that is without the price of
// splitting.
void expect_even(const char* name, const RandomBatch& lengths) {
  PlanShape shape = llama_shape();
  OwnedBatch owned(lengths);
  Result<AttentionPlan> plan = plan_attention(shape, owned.view());
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  ASSERT_EQ(check_plan(shape, owned.view(), *plan), "");
  shape.spec.split_kv.mode = SplitMode::off;
  Result<AttentionPlan> unsplit = plan_attention(shape, owned.view());
  ASSERT_TRUE(unsplit.ok());
  const PlanLoad load = load_of(shape, *plan), whole = load_of(shape, *unsplit);
  const double ideal = static_cast<double>(whole.total) / static_cast<double>(shape.num_ctas);
  const auto over_ideal = [&](const PlanLoad& l) { return static_cast<double>(l.longest) / ideal; };
  std::printf("%-24s batch %4d: longest/mean %.3f, longest/ideal %.3f (without splitting %.2f), %d tiles split\n", name,
              lengths.size(), load.imbalance(), over_ideal(load), over_ideal(whole), plan->num_split_tiles);
  EXPECT_LE(load.imbalance(), 1.03) << name;
  EXPECT_LE(over_ideal(load), 1.12) << name;
}

TEST(Imbalance, Zipf) {
  std::mt19937_64 rng(seed());
  for (int32_t size : {16, 64, 256}) expect_even("zipf, mean 4096", zipf(rng, size, 4096));
}

TEST(Imbalance, OneLongRestShort) {
  for (int32_t size : {16, 64, 128}) expect_even("one 65536, rest 1024", one_long(size));
}

// Equal decodes are the hardest to even out when there are hardly more tiles than blocks.
TEST(Imbalance, Equal) {
  for (int32_t size : {3, 4, 8, 12, 16, 17, 20, 24, 33, 34, 64}) {
    RandomBatch batch;
    for (int32_t b = 0; b < size; ++b) batch.add(1, 8192);
    expect_even("all 8192", batch);
  }
}

TEST(Imbalance, ChunkedPrefill) {
  std::mt19937_64 rng(seed());
  for (int32_t size : {16, 64, 256}) expect_even("prefill chunks, decodes", chunked(rng, size));
}

}  // namespace
}  // namespace lathe::testing
