// Lathe in a process of its own that is killed at every named point; the next one is served, and finds no corrupt entry.
#include "crash_points.h"

#include <fnmatch.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <sstream>
#include <string>

#include "lathe/cache/disk_cache.h"
#include "lathe/testing/seed.h"
#include "lathe/testing/temp_dir.h"
#include "run.h"

namespace lathe {
namespace {

using testing::CrashPoint;
using testing::FaultRule;
using testing::FaultRun;
using testing::TempDir;

constexpr int kKills = 200;

int times_in(const FaultRun& run, const CrashPoint& point) {
  return static_cast<int>(std::ranges::count_if(run.log, [&](const std::string& line) {
    std::istringstream words(line);
    std::string number, call, path;
    words >> number >> call >> path;
    return call == point.call && fnmatch(point.pattern, path.c_str(), 0) == 0;
  }));
}

class CrashPoints : public ::testing::TestWithParam<CrashPoint> {
 protected:
  static void SetUpTestSuite() { testing::prefer_memory_disk(); }
};

TEST_P(CrashPoints, TheNextProcessIsServed) {
  const CrashPoint point = GetParam();
  std::mt19937_64 random(testing::seed());
  int killed = 0;
  for (int trial = 0; killed < kKills; trial++) {
    ASSERT_LT(trial, 4 * kKills) << "a life rarely comes by here";
    SCOPED_TRACE("trial " + std::to_string(trial));
    const uint64_t seed = random();
    // Every other life begins with nothing there.
    const bool prepared = trial % 2 == 0;
    FaultRule rule{.most = 50 + static_cast<int>(random() % 1000)};
    TempDir dir;
    if (prepared) testing::prepare_root(dir.path());
    // How often it comes by depends on what is there; the first time is the likeliest.
    rule.kill =
        std::string(point.when) + " " + point.call + " " + point.pattern + " " + std::to_string(1 + random() % 3 * (random() % 2));
    const FaultRun run = testing::run_server(dir.path(), seed, &rule);
    if (!run.struck) {
      EXPECT_EQ(run.status, 0) << run.said;
      continue;
    }
    ASSERT_TRUE(WIFSIGNALED(run.status) && WTERMSIG(run.status) == SIGKILL);
    ASSERT_GE(times_in(run, point), 1);
    killed++;
    // A corrupt entry would be set aside, and so counted as damage; what was damaged before the life began may still be there.
    const FaultRun next = testing::run_server(dir.path(), seed + 1, nullptr);
    ASSERT_EQ(next.status, 0) << "the next process: " << next.said;
    CacheOptions options;
    options.root = dir / "root";
    const DiskCache cache(options);
    for (const DiskCache::Listing& item : cache.list()) ASSERT_TRUE(cache.read_file(item.name).ok()) << item.name;
  }
  std::printf("%d kills at %s: each time the next process was served\n", killed, point.name);
}

INSTANTIATE_TEST_SUITE_P(, CrashPoints, ::testing::ValuesIn(testing::kCrashPoints));

}  // namespace
}  // namespace lathe
