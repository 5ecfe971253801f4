// The root's size, what goes first, and what is litter.
#include "lathe/cache/trim.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <random>
#include <string>

#include "lathe/cache/disk_cache.h"
#include "lathe/testing/seed.h"
#include "lathe/testing/temp_dir.h"
#include "support.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using testing::entry_for;
using testing::TempDir;

constexpr int64_t kHour = 3600, kYears = 10LL * 365 * 24 * kHour;

CacheOptions limited(const fs::path& root, uint64_t bytes) {
  CacheOptions options;
  options.root = root.string();
  options.max_bytes = bytes;
  return options;
}

void set_age(const fs::path& file, int64_t seconds) {
  const timespec then{time(nullptr) - seconds, 0};
  const timespec times[] = {then, then};
  ASSERT_EQ(utimensat(AT_FDCWD, file.c_str(), times, 0), 0) << file;
}

int64_t age_of(const fs::path& file) {
  struct stat found {};
  EXPECT_EQ(stat(file.c_str(), &found), 0);
  return time(nullptr) - found.st_mtim.tv_sec;
}

uint64_t size_of(const DiskCache& cache) {
  uint64_t bytes = 0;
  for (const DiskCache::Listing& item : cache.list()) bytes += item.bytes;
  return bytes;
}

std::string key_of(int i) {
  return "key " + std::to_string(i);
}

TEST(Trim, TheLongestUnusedGoFirst) {
  TempDir dir;
  constexpr uint64_t kLimit = 100'000;
  DiskCache cache(limited(dir / "root", kLimit));
  for (int i = 0; i < 60; i++) {
    ASSERT_TRUE(cache.store(entry_for(key_of(i), 1, 5000)));
    EXPECT_LE(size_of(cache), kLimit);
    set_age(cache.path_of(key_of(i)), 1000 - i);
    if (i >= 5) {
      EXPECT_TRUE(cache.find(key_of(i - 5))) << "one of the last is there";
    }
  }
  EXPECT_FALSE(cache.find(key_of(0)));
  EXPECT_GT(cache.stats().evicted, 30u);
  EXPECT_GT(size_of(cache), kLimit / 2) << "no more goes than must";
}

TEST(Trim, AHitKeepsAnEntry) {
  TempDir dir;
  DiskCache cache(limited(dir / "root", 0));
  for (int i = 0; i < 20; i++) {
    ASSERT_TRUE(cache.store(entry_for(key_of(i), 1, 5000)));
    set_age(cache.path_of(key_of(i)), 10 * kHour - i);
  }
  ASSERT_TRUE(cache.find(key_of(0)));
  ASSERT_TRUE(cache.trim(20'000));
  EXPECT_TRUE(cache.find(key_of(0)));
  EXPECT_FALSE(cache.find(key_of(1)));
}

TEST(Trim, HitsAreNotedOnceAnHour) {
  TempDir dir;
  DiskCache cache(limited(dir / "root", 0));
  ASSERT_TRUE(cache.store(entry_for("k", 1, 100)));
  const fs::path file = cache.path_of("k");
  set_age(file, kHour / 2);
  ASSERT_TRUE(cache.find("k"));
  EXPECT_GE(age_of(file), kHour / 2);
  set_age(file, 2 * kHour);
  ASSERT_TRUE(cache.find("k"));
  EXPECT_LT(age_of(file), 60);
}

TEST(Trim, ReadersWhoMayNotWriteNoteNothing) {
  TempDir dir;
  ASSERT_TRUE(DiskCache(limited(dir / "root", 0)).store(entry_for("k", 1, 100)));
  CacheOptions options = limited(dir / "root", 1);
  options.mode = CacheMode::read_only;
  DiskCache cache(options);
  const fs::path file = cache.path_of("k");
  set_age(file, 5 * kHour);
  ASSERT_TRUE(cache.find("k"));
  EXPECT_GE(age_of(file), 5 * kHour);
  EXPECT_FALSE(cache.trim(1));
}

TEST(Trim, TheLastEntryStaysWhateverItsSize) {
  TempDir dir;
  DiskCache cache(limited(dir / "root", 1000));
  for (int i = 0; i < 5; i++) {
    ASSERT_TRUE(cache.store(entry_for(key_of(i), 1, 50'000)));
    EXPECT_EQ(cache.list().size(), 1u);
    EXPECT_TRUE(cache.find(key_of(i)));
  }
}

TEST(Trim, ZeroIsNoLimit) {
  TempDir dir;
  DiskCache cache(limited(dir / "root", 0));
  for (int i = 0; i < 50; i++) ASSERT_TRUE(cache.store(entry_for(key_of(i), 1, 5000)));
  EXPECT_EQ(cache.list().size(), 50u);
}

TEST(Trim, OldLitterGoesAndLiveFilesStay) {
  for (int64_t clock_error : {int64_t{0}, kYears, -kYears}) {
    TempDir dir;
    testing::FaultyFs system;
    system.clock_error = clock_error;
    DiskCache cache(limited(dir / "root", 0), {system});
    ASSERT_TRUE(cache.store(entry_for("k", 1, 100)));
    const fs::path entry = cache.path_of("k"), shard = entry.parent_path();
    const fs::path live = shard / "0000000000000001.tmp", left = shard / "0000000000000002.tmp";
    const fs::path bad = fs::path(entry).replace_extension(".bad"), other = shard / "notes.txt";
    for (const fs::path& file : {live, left, bad, other}) testing::write_file(file, "x");
    set_age(left, 2 * kHour);
    set_age(other, 1000 * kHour);
    set_age(bad, 2 * kHour);
    auto report = cache.trim(0);
    ASSERT_TRUE(report);
    EXPECT_EQ(report->removed_litter, 1u);
    EXPECT_TRUE(fs::exists(live)) << "may be in use, whatever this machine's clock says";
    EXPECT_FALSE(fs::exists(left));
    EXPECT_TRUE(fs::exists(bad));
    EXPECT_TRUE(fs::exists(other)) << "not ours";
    set_age(bad, 25 * kHour);
    EXPECT_EQ(cache.trim(0)->removed_litter, 1u);
    EXPECT_TRUE(cache.find("k")) << "a wrong clock does not make a miss";
    EXPECT_EQ(cache.stats().errors, 0u);
  }
}

TEST(Trim, ANewProcessRemovesWhatAKilledOneLeft) {
  TempDir dir;
  ASSERT_TRUE(DiskCache(limited(dir / "root", 0)).store(entry_for("k", 1, 100)));
  DiskCache cache(limited(dir / "root", 0));
  const fs::path left = fs::path(cache.path_of("k")).parent_path() / "0000000000000002.tmp";
  testing::write_file(left, "half");
  set_age(left, 2 * kHour);
  ASSERT_TRUE(cache.store(entry_for("other", 1, 100)));
  EXPECT_FALSE(fs::exists(left));
}

// At each call to the system in turn: an hour later the next one finds all that it left.
TEST(Trim, AKilledTrimmerLeavesNothingForEver) {
  testing::prefer_memory_disk();
  bool killed = true;
  int calls = 0;
  for (int n = 1; killed; n++) {
    SCOPED_TRACE("killed at call " + std::to_string(n));
    TempDir dir;
    const CacheOptions options = limited(dir / "root", 0);
    {
      DiskCache cache(options);
      for (int i = 0; i < 3; i++) ASSERT_TRUE(cache.store(entry_for(key_of(i), 1, 5000)));
      const fs::path litter = fs::path(cache.path_of(key_of(0))).parent_path() / "0000000000000002.tmp";
      testing::write_file(litter, "half");
      set_age(litter, 2 * kHour);
    }
    const int status = testing::wait_for(testing::start([&]() -> std::string {
      testing::FaultyFs system;
      system.log_to = dir.path();
      system.fail_at = n;
      system.kills = true;
      DiskCache cache(options, {system});
      return cache.trim(6000) ? "" : "not trimmed";
    }));
    killed = WIFSIGNALED(status);
    if (killed) calls = n;
    EXPECT_TRUE(killed || status == 0);
    for (const std::string& left : testing::temporaries_in(dir.path())) set_age(left, 2 * kHour);
    DiskCache next(options);
    EXPECT_TRUE(next.trim(6000)) << "a lock outlived its holder";
    EXPECT_TRUE(testing::temporaries_in(dir.path()).empty());
    EXPECT_EQ(next.list().size(), 1u);
    if (HasFailure()) return;
  }
  EXPECT_GT(calls, 20);
  std::printf("%d kills of a trimmer, one at each of its calls: an hour later nothing is left of them\n", calls);
}

// What a process saw when it last stored says nothing of the root now.
TEST(Trim, EachStoreLooks) {
  TempDir dir;
  constexpr uint64_t kLimit = 1'000'000;
  DiskCache idle(limited(dir / "root", kLimit)), busy(limited(dir / "root", kLimit));
  ASSERT_TRUE(idle.store(entry_for("first", 1, 100)));
  for (int i = 0; i < 19; i++) ASSERT_TRUE(busy.store(entry_for(key_of(i), 1, 50'000)));
  ASSERT_EQ(busy.stats().evicted, 0u) << "nearly full";
  ASSERT_TRUE(idle.store(entry_for("second", 1, 100'000)));
  EXPECT_LE(size_of(busy), kLimit);
  EXPECT_TRUE(busy.find("second"));
}

// Another that looks before the new file has its name would find room that is taken.
TEST(Trim, RoomIsHeldUntilTheFileHasItsName) {
  TempDir dir;
  struct Watch : testing::FaultyFs {
    bool is_held() {
      auto root = open_root(real_fs(), path, Trust{geteuid()}, true);
      return root.ok() && !KeyLock::take(real_fs(), root->dir.get(), Trust{geteuid()}, kTrimmerByte, std::chrono::milliseconds(0));
    }
    int renameat(int at, const char* from, const char* to) override {
      renames++;
      held += is_held() ? 1 : 0;
      return FaultyFs::renameat(at, from, to);
    }
    std::string path;
    int renames = 0, held = 0;
  } watch;
  watch.path = (dir / "root").string();
  DiskCache cache(limited(watch.path, 100'000), {watch});
  for (int i = 0; i < 5; i++) ASSERT_TRUE(cache.store(entry_for(key_of(i), 1, 30'000)));
  EXPECT_EQ(watch.renames, 5);
  EXPECT_EQ(watch.held, 5);
  EXPECT_FALSE(watch.is_held());
}

TEST(Trim, WhatIsReplacedStaysUntilThen) {
  TempDir dir;
  struct : testing::FaultyFs {
    int renameat(int at, const char* from, const char* to) override {
      if (!full) return FaultyFs::renameat(at, from, to);
      errno = ENOSPC;
      return -1;
    }
    bool full = false;
  } system;
  DiskCache cache(limited(dir / "root", 100'000), {system});
  for (int i = 0; i < 3; i++) {
    ASSERT_TRUE(cache.store(entry_for(key_of(i), 1, 30'000)));
    set_age(cache.path_of(key_of(i)), kHour / 2 - i);
  }
  EXPECT_TRUE(cache.store(entry_for(key_of(0), 2, 32'000)));
  EXPECT_EQ(cache.stats().evicted, 0u) << "it takes the room of what it replaces";
  set_age(cache.path_of(key_of(0)), kHour / 2);
  system.full = true;
  EXPECT_FALSE(cache.store(entry_for(key_of(0), 3, 60'000)));
  const auto found = cache.find(key_of(0));
  ASSERT_TRUE(found);
  EXPECT_TRUE(testing::equal(*found, entry_for(key_of(0), 2, 32'000)));
}

TEST(Trim, OneAtATime) {
  TempDir dir;
  DiskCache cache(limited(dir / "root", 0));
  ASSERT_TRUE(cache.store(entry_for("k", 1, 100)));
  auto root = open_root(real_fs(), (dir / "root").string(), Trust{geteuid()}, true);
  ASSERT_TRUE(root.ok());
  {
    KeyLock other = KeyLock::take(real_fs(), root->dir.get(), Trust{geteuid()}, kTrimmerByte, std::chrono::milliseconds(0));
    ASSERT_TRUE(other);
    EXPECT_FALSE(cache.trim(1));
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_TRUE(DiskCache(limited(dir / "root", 500)).store(entry_for("meanwhile", 1, 300)));
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5)) << "no longer than a moment";
    EXPECT_EQ(cache.list().size(), 1u) << "room was made beside whoever has the lock";
  }
  EXPECT_TRUE(cache.trim(1));
}

}  // namespace
}  // namespace lathe
