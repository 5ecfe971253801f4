#include "lathe/plan/balance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

TEST(Balance, CostliestFirstToTheLeastLoaded) {
  std::vector<JobRun> runs{{3, 2}, {5, 1}, {4, 1}};
  Balance b = balance(runs, 2);
  EXPECT_EQ(b.order, (std::vector<int32_t>{1, 2, 0}));
  // 5 to machine 0, 4 to 1, 3 to 1 (load 4 against 5), 3 to 0 (load 5 against 7).
  EXPECT_EQ(b.machine_of, (std::vector<int32_t>{0, 1, 1, 0}));
  EXPECT_EQ(b.load, (std::vector<int64_t>{8, 7}));
  EXPECT_EQ(b.longest, 8);
}

TEST(Balance, TiesGoByIndex) {
  Balance b = balance(std::vector<JobRun>{{1, 1}, {1, 1}, {1, 1}}, 3);
  EXPECT_EQ(b.order, (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(b.machine_of, (std::vector<int32_t>{0, 1, 2}));
}

TEST(Balance, NothingToDo) {
  Balance b = balance({}, 3);
  EXPECT_TRUE(b.machine_of.empty());
  EXPECT_EQ(b.load, (std::vector<int64_t>{0, 0, 0}));
  EXPECT_EQ(b.longest, 0);
}

TEST(Balance, AsThePlainAlgorithm) {
  std::mt19937_64 rng(seed());
  for (int trial = 0; trial < 2000; ++trial) {
    std::vector<JobRun> runs(rng() % 20);
    for (JobRun& run : runs) run = {static_cast<int64_t>(rng() % 50), static_cast<int64_t>(rng() % 6)};
    int32_t machines = 1 + static_cast<int32_t>(rng() % 9);
    Balance b = balance(runs, machines);

    std::vector<int64_t> load(machines, 0);
    std::vector<int32_t> machine_of;
    std::vector<JobRun> sorted = runs;
    std::stable_sort(sorted.begin(), sorted.end(), [](const JobRun& x, const JobRun& y) { return x.cost > y.cost; });
    for (const JobRun& run : sorted) {
      for (int64_t i = 0; i < run.count; ++i) {
        auto least = std::min_element(load.begin(), load.end());
        machine_of.push_back(static_cast<int32_t>(least - load.begin()));
        *least += run.cost;
      }
    }
    ASSERT_EQ(b.machine_of, machine_of);
    ASSERT_EQ(b.load, load);
    ASSERT_EQ(b.longest, *std::max_element(load.begin(), load.end()));
  }
}

}  // namespace
}  // namespace lathe::testing
