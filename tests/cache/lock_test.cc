// Locks save work and are never needed: where there are none, and where somebody planted something in their place, all goes on. And
// file systems of a network.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>

#include "lathe/cache/disk_cache.h"
#include "lathe/cache/key_lock.h"
#include "lathe/testing/temp_dir.h"
#include "support.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using testing::entry_for;
using testing::FaultyFs;
using testing::TempDir;
using testing::Warnings;

CacheOptions at(const fs::path& root, int wait_ms = 50) {
  CacheOptions options;
  options.root = root.string();
  options.lock_wait_ms = wait_ms;
  return options;
}

TEST(KeyLock, ThreadsAndCachesExcludeEachOtherByKey) {
  TempDir dir;
  DiskCache cache(at(dir / "root")), other(at(dir / "root"));
  KeyLock first, second, third;
  EXPECT_FALSE(cache.find_or_lock("a", first));
  EXPECT_TRUE(first);
  EXPECT_FALSE(other.find_or_lock("a", second));
  EXPECT_FALSE(second) << "held by the other";
  EXPECT_EQ(other.stats().waits, 1u);
  EXPECT_FALSE(other.find_or_lock("b", third));
  EXPECT_TRUE(third) << "another key is another lock";
  first = {};
  EXPECT_FALSE(other.find_or_lock("a", second));
  EXPECT_TRUE(second);
}

TEST(KeyLock, TheWaiterGetsWhatTheHolderStored) {
  TempDir dir;
  DiskCache cache(at(dir / "root", 20'000)), other(at(dir / "root", 20'000));
  KeyLock held;
  EXPECT_FALSE(cache.find_or_lock("k", held));
  std::thread holder([&] {
    std::this_thread::sleep_for(milliseconds(50));
    EXPECT_TRUE(cache.store(entry_for("k", 1, 100)));
    held = {};
  });
  KeyLock lock;
  EXPECT_TRUE(other.find_or_lock("k", lock));
  EXPECT_FALSE(lock) << "a hit needs none";
  holder.join();
  const CacheStats stats = other.stats();
  EXPECT_EQ(stats.hits, 1u);
  EXPECT_EQ(stats.misses, 0u);
}

TEST(KeyLock, AHitTakesNoLock) {
  TempDir dir;
  FaultyFs system;
  DiskCache cache(at(dir / "root"), {system});
  ASSERT_TRUE(cache.store(entry_for("k", 1, 100)));
  const int before = system.lock_calls();
  KeyLock lock;
  EXPECT_TRUE(cache.find_or_lock("k", lock));
  EXPECT_EQ(system.lock_calls(), before);
}

TEST(KeyLock, AForkedChildDoesNotKeepItsParentsLock) {
  TempDir dir;
  DiskCache cache(at(dir / "root"));
  KeyLock held;
  EXPECT_FALSE(cache.find_or_lock("k", held));
  int gone[2];
  ASSERT_EQ(pipe(gone), 0);
  const pid_t child = testing::start([&]() -> std::string {
    char byte = 0;
    close(gone[1]);
    return read(gone[0], &byte, 1) == 0 ? "" : "no end";
  });
  held = {};
  KeyLock lock;
  EXPECT_FALSE(cache.find_or_lock("k", lock));
  EXPECT_TRUE(lock) << "while the child lives";
  close(gone[1]);
  close(gone[0]);
  EXPECT_EQ(testing::wait_for(child), 0);
}

TEST(KeyLock, WhoCannotStoreDoesNotWait) {
  TempDir dir;
  DiskCache holder(at(dir / "root"));
  KeyLock held;
  EXPECT_FALSE(holder.find_or_lock("k", held));
  for (CacheMode mode : {CacheMode::read_only, CacheMode::off}) {
    CacheOptions options = at(dir / "root", 60'000);
    options.mode = mode;
    DiskCache cache(options);
    KeyLock lock;
    EXPECT_FALSE(cache.find_or_lock("k", lock));
    EXPECT_FALSE(lock);
    EXPECT_EQ(cache.stats().waits, 0u);
  }
}

struct Planted {
  const char* name;
  std::function<void(const fs::path&)> make;
  bool needs_superuser = false;
};

std::vector<Planted> planted() {
  return {
      {"LinkToACanary", [](const fs::path& file) { fs::create_symlink("../canary", file); }},
      {"LinkToNowhere", [](const fs::path& file) { fs::create_symlink("../nowhere", file); }},
      {"Fifo", [](const fs::path& file) { ASSERT_EQ(mkfifo(file.c_str(), 0600), 0); }},
      {"Directory", [](const fs::path& file) { fs::create_directory(file); }},
      {"WritableByAll",
       [](const fs::path& file) {
         testing::write_file(file, "");
         fs::permissions(file, fs::perms(0666));
       }},
      {"ForeignOwner",
       [](const fs::path& file) {
         testing::write_file(file, "");
         ASSERT_EQ(chown(file.c_str(), testing::kOtherUser, 0), 0);
       },
       true},
  };
}

TEST(KeyLock, WhatIsPlantedInItsPlaceIsLeftAlone) {
  for (const Planted& plant : planted()) {
    if (plant.needs_superuser && geteuid() != 0) continue;
    SCOPED_TRACE(plant.name);
    TempDir dir;
    testing::write_file(dir / "canary", "canary");
    fs::create_directory(dir / "root");
    fs::permissions(dir / "root", fs::perms(0700));
    plant.make(dir / "root" / "locks");
    DiskCache cache(at(dir / "root", 60'000));
    KeyLock lock;
    EXPECT_FALSE(cache.find_or_lock("k", lock));
    EXPECT_FALSE(lock);
    EXPECT_TRUE(cache.store(entry_for("k", 1, 100)));
    EXPECT_TRUE(cache.find("k"));
    EXPECT_EQ(testing::file_bytes(dir / "canary").size(), 6u);
    EXPECT_FALSE(fs::exists(dir / "nowhere"));
  }
}

TEST(KeyLock, TheFileStaysWhenTheLockGoes) {
  TempDir dir;
  DiskCache cache(at(dir / "root"));
  {
    KeyLock lock;
    cache.find_or_lock("k", lock);
    EXPECT_TRUE(lock);
  }
  EXPECT_TRUE(fs::exists(dir / "root" / "locks"));
  EXPECT_EQ(fs::file_size(dir / "root" / "locks"), 0u);
}

TEST(Network, SyncsUnlessToldNotTo) {
  struct Case {
    bool network;
    CacheSync sync;
    int syncs;
  };
  for (const Case& c : {Case{false, CacheSync::automatic, 0}, Case{true, CacheSync::automatic, 1},
                        Case{false, CacheSync::always, 1}, Case{true, CacheSync::never, 0}}) {
    TempDir dir;
    FaultyFs system;
    system.network = c.network;
    CacheOptions options = at(dir / "root");
    options.sync = c.sync;
    DiskCache cache(options, {system});
    EXPECT_TRUE(cache.store(entry_for("k", 1, 100)));
    EXPECT_EQ(system.syncs(), c.syncs);
  }
}

TEST(Network, LocksLieOnThisMachineOrNowhere) {
  EXPECT_TRUE(testing::in_child([]() -> std::string {
    TempDir dir;
    for (bool runtime : {false, true}) {
      FaultyFs system;
      system.network = true;
      runtime ? setenv("XDG_RUNTIME_DIR", dir.path().c_str(), 1) : unsetenv("XDG_RUNTIME_DIR");
      DiskCache cache(at(dir / "root"), {system});
      KeyLock lock;
      if (cache.find_or_lock("k", lock)) return "found";
      if (static_cast<bool>(lock) != runtime) return runtime ? "no lock" : "a lock";
      if (fs::exists(dir / "root" / "locks")) return "a lock on the network";
    }
    return fs::exists(dir / "lathe" / "locks") ? "" : "no lock file";
  }));
}

// The file was there when it was opened, and its server has dropped it since.
TEST(Network, AStaleFileIsAMissAndNoError) {
  struct : FaultyFs {
    ssize_t read(int, std::span<std::byte>) override {
      errno = ESTALE;
      return -1;
    }
  } system;
  system.network = true;
  TempDir dir;
  Warnings warnings;
  DiskCache cache(at(dir / "root"), {system});
  ASSERT_TRUE(cache.store(entry_for("k", 1, 100)));
  EXPECT_FALSE(cache.find("k"));
  EXPECT_TRUE(cache.store(entry_for("k", 1, 100)));
  const CacheStats stats = cache.stats();
  EXPECT_EQ(stats.misses, 1u);
  EXPECT_EQ(stats.errors + stats.rejected + stats.quarantined, 0u);
  EXPECT_TRUE(warnings.all().empty());
}

}  // namespace
}  // namespace lathe
