#include "lathe/replay/summary.h"

#include <gtest/gtest.h>

namespace lathe {
namespace {

TEST(Samples, QuantilesAreValuesThatWereAdded) {
  Samples samples;
  EXPECT_EQ(samples.quantile(0.5), 0);
  for (int i = 100; i >= 1; --i) samples.add(i);
  EXPECT_EQ(samples.quantile(0.5), 50);
  EXPECT_EQ(samples.quantile(0.99), 99);
  EXPECT_EQ(samples.quantile(0.991), 100);
  EXPECT_EQ(samples.quantile(1), 100);
  EXPECT_EQ(samples.quantile(0), 1);
}

TEST(Figures, FullIsDecodeAndMixed) {
  PolicyFigures figures;
  figures[StepKind::decode].add({.longest_us = 2, .mean_us = 1, .ideal_us = 1, .kv_bytes = 10}, 5, 100);
  figures[StepKind::mixed].add({.longest_us = 3, .mean_us = 2, .ideal_us = 1, .kv_bytes = 20}, 7, 50);
  figures[StepKind::drain].add({.longest_us = 9, .mean_us = 1, .ideal_us = 1, .kv_bytes = 40}, 9, 500);
  const Figures full = figures.full();
  EXPECT_EQ(full.steps(), 2);
  EXPECT_EQ(full.kv_bytes, 30);
  EXPECT_EQ(full.workspace_bytes, 100);
  EXPECT_EQ(full.imbalance.quantile(1), 2);
  EXPECT_EQ(full.efficiency_loss.quantile(1), 3);
  EXPECT_EQ(full.plan_us.quantile(0), 5);
}

}  // namespace
}  // namespace lathe
