// Threads and processes on one root. Every entry follows from its key and version, so each reader can tell by itself whether it is
// right.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>
#include <string>
#include <thread>
#include <vector>

#include "lathe/cache/disk_cache.h"
#include "lathe/testing/seed.h"
#include "lathe/testing/temp_dir.h"
#include "loops.h"
#include "support.h"

namespace lathe {
namespace {

using testing::entry_for;
using testing::start;
using testing::TempDir;
using testing::wait_for;

constexpr int kKeys = 6;

std::string key_of(unsigned i) {
  return "key " + std::to_string(i % kKeys);
}

// Stores and finds at random; the complaint, or nothing.
std::string work(DiskCache& cache, uint64_t seed, int steps) {
  std::mt19937_64 random(seed);
  for (int i = 0; i < steps; i++) {
    const std::string key = key_of(static_cast<unsigned>(random()));
    if (random() % 2 == 0) {
      if (!cache.store(entry_for(key, static_cast<int>(random() % 1000), 1 + random() % 20000))) return "a store failed";
    } else if (auto found = cache.find(key); found && (found->key != key || !testing::is_genuine(*found))) {
      return "a wrong entry for " + key;
    }
  }
  CacheStats stats = cache.stats();
  if (stats.rejected + stats.collisions + stats.errors != 0) return "damage was seen";
  return "";
}

TEST(Threads, ShareOneCache) {
  TempDir dir;
  DiskCache cache({(dir / "root").string(), CacheMode::read_write, false});
  std::vector<std::string> complaints(4);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < complaints.size(); t++) {
    threads.emplace_back([&, t] { complaints[t] = work(cache, testing::seed() + t, 150); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& complaint : complaints) EXPECT_EQ(complaint, "");
  CacheStats stats = cache.stats();
  EXPECT_EQ(stats.hits + stats.misses + stats.stores, 4u * 150u);
  EXPECT_TRUE(testing::temporaries_in(dir.path()).empty());
}

// Half of them open the root themselves, at once, while it is being made; half go on with the cache that they were forked with.
TEST(Processes, ShareOneRoot) {
  TempDir dir;
  const CacheOptions options{(dir / "a/root").string(), CacheMode::read_write, false};
  std::vector<pid_t> children;
  auto own = [&](uint64_t seed) {
    return start([&options, seed] {
      DiskCache cache(options);
      return work(cache, seed, 150);
    });
  };
  const uint64_t seed = testing::seed();
  for (uint64_t i = 0; i < 4; i++) children.push_back(own(seed + i));
  DiskCache inherited(options);
  for (uint64_t i = 4; i < 8; i++) children.push_back(start([&inherited, seed, i] { return work(inherited, seed + i, 150); }));
  for (pid_t child : children) {
    ASSERT_GT(child, 0);
    EXPECT_EQ(wait_for(child), 0);
  }
  EXPECT_TRUE(testing::temporaries_in(dir.path()).empty());
}

TEST(Processes, KilledWhileStoringLeaveNoCorruptEntry) {
  testing::kill_writers(1000);
}

TEST(Processes, KilledAndStoppedAtRandomServeNothingCorrupt) {
  testing::kill_and_stop(500);
}

TEST(Processes, EightThatMissOneKeyCompileOnce) {
  testing::cold_start(8, 50, /*locks=*/true);
}

TEST(Processes, SixtyFourThatMissOneKeyCompileOnce) {
  testing::cold_start(64, 50, /*locks=*/true);
}

TEST(Processes, WithoutLocksEachCompilesAtMostOnce) {
  testing::cold_start(8, 10, /*locks=*/false);
}

TEST(Processes, GoOnWhenTheHolderOfALockIsGone) {
  testing::lose_lock_holder(10);
}

TEST(Processes, ReadersAreNotDisturbedByTheTrimmer) {
  testing::trim_against_readers(std::chrono::minutes(2));
}

TEST(Processes, OfTwoVersionsNeverReadEachOthers) {
  testing::share_between_versions(10'000);
}

// At each call to the system in turn, on the way from no root at all to a replaced entry.
TEST(Processes, KilledAtEachCallLeaveNoCorruptEntry) {
  testing::prefer_memory_disk();
  bool killed = true;
  int calls = 0;
  for (int n = 1; killed; n++) {
    TempDir dir;
    const CacheOptions options{(dir / "a/root").string(), CacheMode::read_write, false};
    int status = wait_for(start([&]() -> std::string {
      testing::FaultyFs system;
      system.log_to = dir.path();
      system.fail_at = n;
      system.kills = true;
      system.most = 700;
      DiskCache cache(options, {system});
      return cache.store(entry_for("k", 1, 2000)) && cache.store(entry_for("k", 2, 1000)) ? "" : "a store failed";
    }));
    killed = WIFSIGNALED(status);
    if (killed) {
      calls = n;
    } else {
      EXPECT_EQ(status, 0);
    }
    DiskCache next(options);
    auto found = next.find("k");
    EXPECT_TRUE(!found || testing::is_genuine(*found)) << "killed at call " << n;
    EXPECT_EQ(next.stats().rejected, 0u) << "killed at call " << n;
    EXPECT_TRUE(next.store(entry_for("other", 1, 10)));
    EXPECT_TRUE(next.find("other"));
  }
  EXPECT_GT(calls, 30);
}

}  // namespace
}  // namespace lathe
