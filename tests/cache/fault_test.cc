// The cache on a system whose Nth call fails: never a wrong byte, never a crash, never a leaked descriptor.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <ostream>
#include <string>
#include <vector>

#include "lathe/cache/disk_cache.h"
#include "lathe/testing/temp_dir.h"
#include "support.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using testing::entry_for;
using testing::FaultyFs;
using testing::TempDir;
using testing::Warnings;

struct Fault {
  int error;
  bool persistent;
  bool shared;
};

// One life of a cache: everything it can do, on a root that holds "old" already. Checks every answer; returns how much succeeded.
int live(FaultyFs& system, const fs::path& root, bool shared) {
  int done = 0;
  DiskCache cache({root.string(), CacheMode::read_write, shared}, {system});
  EXPECT_EQ(cache.on_disk(), cache.why_off().empty());
  for (const char* key : {"old", "new"}) {
    if (auto found = cache.find(key)) {
      EXPECT_EQ(found->key, key);
      EXPECT_TRUE(testing::is_genuine(*found));
      done++;
    }
    if (cache.store(entry_for(key, 2, 3000))) done++;
    if (auto found = cache.find(key)) {
      EXPECT_EQ(found->key, key);
      EXPECT_TRUE(testing::is_genuine(*found));
      done++;
    }
  }
  {
    KeyLock lock;
    if (auto found = cache.find_or_lock("locked", lock)) {
      EXPECT_TRUE(testing::is_genuine(*found));
    } else if (cache.store(entry_for("locked", 1, 3000))) {
      done++;
    }
  }
  if (cache.find_prefix("lock")) done++;
  for (const DiskCache::Listing& item : cache.list()) {
    Result<Entry> entry = cache.read_file(item.name);
    if (entry) {
      EXPECT_TRUE(testing::is_genuine(*entry));
      done++;
    }
  }
  cache.reject("locked", entry_for("locked", 1, 3000).payload);
  EXPECT_FALSE(cache.find("locked"));
  if (auto report = cache.trim(4000); report && report->entries == 1) done++;
  EXPECT_EQ(cache.stats().rejected, 0u) << "a failing call must not pass for a damaged file, nor make one";
  return done;
}

// Of a life without a fault on an empty root: 3 stores, 3 finds after them, 3 files read, one trimming. One that holds "old" gives
// one more.
constexpr int kAllDone = 10;

class FaultSweep : public ::testing::TestWithParam<Fault> {
 protected:
  static void SetUpTestSuite() { testing::prefer_memory_disk(); }
};

TEST_P(FaultSweep, EveryCallMayFail) {
  const Fault fault = GetParam();
  Warnings warnings;
  int done = 0;
  bool tripped = true;
  int runs = 0;
  for (int n = 1; tripped; n++, runs++) {
    SCOPED_TRACE("call " + std::to_string(n));
    TempDir dir;
    const fs::path root = dir / "a/root";
    ASSERT_TRUE(DiskCache({root.string(), CacheMode::read_write, fault.shared}).store(entry_for("old", 1, 3000)));
    if (n % 2 == 0) fs::remove_all(dir / "a");  // also with everything still to be made
    FaultyFs system;
    system.log_to = dir.path();
    system.fail_at = n;
    system.error = fault.error;
    system.persistent = fault.persistent;
    system.most = 1000;
    done = live(system, root, fault.shared);
    tripped = system.tripped();
    EXPECT_EQ(system.open_descriptors(), 0);
    // A temporary file that could not be removed is left for the trimmer.
    const size_t left = testing::temporaries_in(dir.path()).size();
    if (!fault.persistent || !tripped) {
      EXPECT_LE(left, tripped ? 1u : 0u);
    }

    // Whatever happened, the next process is served.
    DiskCache next({root.string(), CacheMode::read_write, fault.shared});
    ASSERT_TRUE(next.writable());
    for (const char* key : {"old", "new"}) {
      auto found = next.find(key);
      EXPECT_TRUE(!found || testing::is_genuine(*found));
    }
    EXPECT_TRUE(next.store(entry_for("next", 1, 100)));
    EXPECT_TRUE(next.find("next"));
    EXPECT_EQ(next.stats().rejected, 0u);
    if (HasFailure()) return;
  }
  EXPECT_GE(done, kAllDone) << "the last run, which no fault reached";
  std::printf("%d runs, each with another call that failed: all served\n", runs);
}

// A bundle's life: its manifest is written, and it is served from. Its entries are "a" and "b".
TEST_P(FaultSweep, EveryCallOfABundleMayFail) {
  const Fault fault = GetParam();
  Warnings warnings;
  const Trust us{geteuid()};
  bool tripped = true;
  int served = 0;
  int runs = 0;
  for (int n = 1; tripped; n++, runs++) {
    SCOPED_TRACE("call " + std::to_string(n));
    TempDir dir;
    const std::string path = dir / "bundle";
    CacheOptions options;
    options.root = path;
    options.lock_wait_ms = 0;
    {
      DiskCache maker(options);
      for (const char* key : {"a", "b"}) ASSERT_TRUE(maker.store(entry_for(key, 1, 2000)));
    }
    // Every other time a manifest is there already.
    if (n % 2 == 0) {
      ASSERT_TRUE(seal_bundle(real_fs(), path, us).ok());
    }
    FaultyFs system;
    system.log_to = dir.path();
    system.fail_at = n;
    system.error = fault.error;
    system.persistent = fault.persistent;
    system.most = 700;
    served = 0;
    {
      auto sealed = seal_bundle(system, path, us);
      // A call that fails with ENOENT is a file that is gone.
      if (sealed && fault.error != ENOENT) {
        EXPECT_EQ(sealed->entries + sealed->left_out.size(), 2u);
      }
      CacheOptions user;
      user.mode = CacheMode::off;
      user.bundles = {path};
      DiskCache cache(user, {system});
      for (const char* key : {"a", "b"}) {
        if (auto found = cache.find(key)) {
          EXPECT_TRUE(testing::is_genuine(*found));
          EXPECT_EQ(found->key, key);
          served++;
        }
      }
      tripped = system.tripped();
    }
    EXPECT_EQ(system.open_descriptors(), 0);
    // Whatever happened, what is there now is a whole bundle, or none until the next try.
    if (auto bundle = Bundle::open(real_fs(), path, us)) {
      for (const BundleItem& item : bundle->items()) EXPECT_TRUE(bundle->entry(item.name).ok());
    }
    ASSERT_TRUE(seal_bundle(real_fs(), path, us).ok());
    EXPECT_EQ(Bundle::open(real_fs(), path, us)->items().size(), 2u);
    if (HasFailure()) return;
  }
  EXPECT_EQ(served, 2) << "the last run, which no fault reached";
  std::printf("%d runs, each with another call that failed: all served\n", runs);
}

std::vector<Fault> faults() {
  std::vector<Fault> out;
  for (bool persistent : {false, true}) {
    for (int error : {ENOSPC, EIO, EINTR, ENOENT, EEXIST, EROFS}) out.push_back({error, persistent, false});
    out.push_back({EIO, persistent, true});
  }
  return out;
}

// Names the case in ctest's list.
void PrintTo(const Fault& fault, std::ostream* out) {
  *out << strerrorname_np(fault.error) << (fault.persistent ? "_Persistent" : "_Once") << (fault.shared ? "_Shared" : "");
}

INSTANTIATE_TEST_SUITE_P(, FaultSweep, ::testing::ValuesIn(faults()));

TEST(Faults, SignalsAreNotNoticed) {
  TempDir dir;
  FaultyFs system;
  system.interrupts = true;
  DiskCache cache({(dir / "root").string(), CacheMode::read_write, false}, {system});
  const Entry entry = entry_for("k", 1, 5000);
  ASSERT_TRUE(cache.store(entry)) << cache.why_off();
  ASSERT_TRUE(cache.find("k"));
  EXPECT_EQ(cache.stats().errors, 0u);
}

TEST(Faults, ShortReadsAndWritesGoOn) {
  TempDir dir;
  for (size_t most : {1, 2, 7, 4096}) {
    FaultyFs system;
    system.most = most;
    DiskCache cache({(dir / std::to_string(most)).string(), CacheMode::read_write, false}, {system});
    const Entry entry = entry_for("k", 1, 5000);
    ASSERT_TRUE(cache.store(entry));
    auto found = cache.find("k");
    ASSERT_TRUE(found);
    EXPECT_TRUE(testing::equal(*found, entry));
  }
}

TEST(Faults, AFileThatTakesNothingIsGivenUp) {
  TempDir dir;
  Warnings warnings;
  FaultyFs system;
  DiskCache cache({(dir / "root").string(), CacheMode::read_write, false}, {system});
  system.most = 0;
  EXPECT_FALSE(cache.store(entry_for("k", 1, 100)));
  EXPECT_FALSE(fs::exists(cache.path_of("k")));
  EXPECT_TRUE(testing::temporaries_in(dir.path()).empty());
}

// A network file system may hold a failed write back until close.
TEST(Faults, AnErrorAtCloseIsAnErrorOfTheWrite) {
  struct : FaultyFs {
    int close(int fd) override {
      FaultyFs::close(fd);
      errno = ENOSPC;
      return -1;
    }
  } system;
  TempDir dir;
  Warnings warnings;
  DiskCache cache({(dir / "root").string(), CacheMode::read_write, false}, {system});
  EXPECT_FALSE(cache.store(entry_for("k", 1, 100)));
  EXPECT_FALSE(fs::exists(cache.path_of("k")));
  EXPECT_TRUE(testing::temporaries_in(dir.path()).empty());
}

TEST(Faults, ALongTroubleIsOneWarning) {
  TempDir dir;
  Warnings warnings;
  FaultyFs system;
  DiskCache cache({(dir / "root").string(), CacheMode::read_write, false}, {system});
  system.fail_at = system.calls() + 1;
  system.error = ENOSPC;
  system.persistent = true;
  for (int i = 0; i < 100; i++) EXPECT_FALSE(cache.store(entry_for("k", i, 100)));
  EXPECT_EQ(cache.stats().errors, 100u);
  ASSERT_EQ(warnings.all().size(), 1u);
  EXPECT_NE(warnings.all()[0].find("No space left on device"), std::string::npos);
}

void write_text(const char* path, const std::string& text) {
  std::ofstream(path) << text;
}

// A file system of 64 KiB of our own, where the system allows one.
bool mount_small_disk(const fs::path& where) {
  const unsigned user = geteuid();
  const unsigned group = getegid();
  if (unshare(CLONE_NEWNS | (user == 0 ? 0 : CLONE_NEWUSER)) != 0) return false;
  if (user != 0) {
    write_text("/proc/self/setgroups", "deny");
    write_text("/proc/self/uid_map", "0 " + std::to_string(user) + " 1");
    write_text("/proc/self/gid_map", "0 " + std::to_string(group) + " 1");
  }
  return mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         mount("tmpfs", where.c_str(), "tmpfs", 0, "size=64k,mode=0700") == 0;
}

// Whoever asks gets the bytes, be it that they can be kept or not: what an engine does with a cache.
Entry serve(DiskCache& cache, const std::string& key, int* compiles) {
  KeyLock lock;
  if (auto found = cache.find_or_lock(key, lock)) return *found;
  ++*compiles;
  const Entry entry = entry_for(key, 1, 9000);
  cache.store(entry);
  return entry;
}

TEST(Faults, AFullDiskKeepsNoPartialFile) {
  TempDir dir;
  if (!testing::in_child([&] { return mount_small_disk(dir.path()) ? "" : "no mount"; })) {
    GTEST_SKIP() << "this system lets us mount nothing, not even in a namespace of our own";
  }
  EXPECT_TRUE(testing::in_child([&]() -> std::string {
    constexpr int kKeys = 40, kRounds = 3;
    if (!mount_small_disk(dir.path())) return "cannot mount";
    Warnings warnings;
    DiskCache cache({(dir / "root").string(), CacheMode::read_write, false});
    int served = 0, compiles = 0;
    for (int i = 0; i < kRounds * kKeys; i++) {
      const std::string key = "key " + std::to_string(i % kKeys);
      const Entry entry = serve(cache, key, &compiles);
      served += entry.key == key && testing::is_genuine(entry) ? 1 : 0;
    }
    if (served != kRounds * kKeys) return "served " + std::to_string(served);
    const CacheStats stats = cache.stats();
    const int stored = static_cast<int>(stats.stores);
    if (stored == 0 || stored == kKeys) return "stored " + std::to_string(stored);
    if (!testing::temporaries_in(dir.path()).empty()) return "a partial file is left";
    int hits = 0;
    for (int i = 0; i < kKeys; i++) {
      auto found = cache.find("key " + std::to_string(i));
      if (found && !testing::is_genuine(*found)) return "a wrong entry";
      hits += found ? 1 : 0;
    }
    if (hits != stored || stats.rejected != 0) return std::to_string(hits) + " hits of " + std::to_string(stored);
    // What was kept is compiled once, what was not each time.
    if (compiles != stored + kRounds * (kKeys - stored)) return std::to_string(compiles) + " compiles";
    if (warnings.all().size() != 1) return "not one warning";
    std::printf("%d requests of %d keys on a full disk that holds %d of them: all served, 0 partial files\n", served, kKeys,
                stored);
    return "";
  }));
}

// As a sweep that fails does; in a child, whose failure is its own.
TEST(Faults, AFailedTestKeepsALogOfItsFaults) {
  for (bool fails : {true, false}) {
    TempDir dir;
    EXPECT_TRUE(testing::in_child([&]() -> std::string {
      Warnings warnings;
      FaultyFs system;
      system.log_to = dir.path();
      DiskCache cache({(dir / "root").string(), CacheMode::read_write, false}, {system});
      system.fail_at = system.calls() + 1;
      system.error = EIO;
      if (cache.find("k")) return "found";
      if (freopen("/dev/null", "w", stdout) == nullptr) return "no /dev/null";
      if (fails) ADD_FAILURE();
      return "";
    }));
    const fs::path log = dir / "faults.log";
    ASSERT_EQ(fs::exists(log), fails);
    if (!fails) continue;
    std::ifstream in(log);
    int lines = 0, struck = 0;
    for (std::string line; std::getline(in, line);) {
      lines++;
      if (line.find("<- ") == std::string::npos) continue;
      struck++;
      EXPECT_GT(lines, 5) << "what was done before is there too";
      EXPECT_EQ(line, std::to_string(lines) + " openat " + (dir / "root/v1").string() + " <- failed: EIO");
    }
    EXPECT_EQ(struck, 1);
  }
}

}  // namespace
}  // namespace lathe
