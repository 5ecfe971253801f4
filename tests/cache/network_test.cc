// A network file system that has no locks and shows what one machine made to the others a minute late, by a clock of the test.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "lathe/cache/disk_cache.h"
#include "lathe/testing/temp_dir.h"
#include "support.h"

namespace lathe {
namespace {

using testing::entry_for;
using testing::FaultyFs;
using testing::TempDir;

constexpr int64_t kDelay = 60;

// What the machines of one network have in common.
struct Network {
  int64_t now = 1'700'000'000;
  struct File {
    explicit File(int64_t now) : since(now) {}
    int64_t since;
    std::set<const Fs*> writers;
  };
  std::map<std::string, File> files;  // by name
};

// One machine's view.
class Machine : public FaultyFs {
 public:
  explicit Machine(Network& shared) : shared_(shared) { network = no_locks = true; }

  int renameat(int dir, const char* from, const char* to) override {
    const int result = FaultyFs::renameat(dir, from, to);
    if (result == 0) shared_.files.try_emplace(to, shared_.now).first->second.writers.insert(this);
    return result;
  }
  int openat(int dir, const char* name, int flags, mode_t mode) override {
    const auto at = shared_.files.find(name);
    // Who wrote a file of that name sees one at once, be it replaced meanwhile.
    const bool late = at != shared_.files.end() && !at->second.writers.contains(this) && shared_.now < at->second.since + kDelay;
    if (!late) return FaultyFs::openat(dir, name, flags, mode);
    errno = lost_ ? ESTALE : ENOENT;
    lost_ = !lost_;  // in turn, as an NFS client does that has seen the directory and not the file
    return -1;
  }
  int64_t now() override { return shared_.now; }

 private:
  Network& shared_;
  bool lost_ = false;
};

// One machine asks for a kernel as an engine does; whether it had to compile.
bool compiles(DiskCache& cache, const std::string& key) {
  KeyLock lock;
  const auto found = cache.find_or_lock(key, lock);
  EXPECT_FALSE(lock) << "there are no locks";
  if (found) {
    EXPECT_EQ(found->key, key);
    EXPECT_TRUE(testing::is_genuine(*found));
    return false;
  }
  EXPECT_TRUE(cache.store(entry_for(key, 1, 5000)));
  return true;
}

class NetworkDelay : public ::testing::TestWithParam<int> {};  // how many machines

TEST_P(NetworkDelay, WhatIsSeenLateIsCompiledOnceOnEachMachine) {
  TempDir dir;
  testing::Warnings warnings;
  Network shared;
  CacheOptions options;
  options.root = dir / "root";
  std::vector<std::unique_ptr<Machine>> machines;
  std::vector<std::unique_ptr<DiskCache>> caches;
  for (int i = 0; i < GetParam(); i++) {
    machines.push_back(std::make_unique<Machine>(shared));
    caches.push_back(std::make_unique<DiskCache>(options, CacheSeams{*machines.back()}));
  }
  // Each asks for each key every second; one machine after the other starts.
  std::map<std::pair<size_t, std::string>, int> compiled;
  for (int64_t second = 0; second < 3 * kDelay; second++, shared.now++) {
    for (size_t i = 0; i < caches.size() && static_cast<int64_t>(i) <= second; i++) {
      for (const char* key : {"a", "b"}) compiled[{i, key}] += compiles(*caches[i], key) ? 1 : 0;
    }
  }
  int most = 0, all = 0;
  for (const auto& [who, times] : compiled) most = std::max(most, times), all += times;
  EXPECT_LE(most, 1);
  EXPECT_GT(all, 2) << "nothing was late";
  for (const auto& cache : caches) {
    EXPECT_EQ(cache->stats().errors + cache->stats().rejected + cache->stats().collisions, 0u);
    EXPECT_TRUE(cache->find("a"));
  }
  EXPECT_TRUE(warnings.all().empty());
  // One that comes after the delay has nothing to compile.
  Machine late(shared);
  DiskCache cache(options, {late});
  EXPECT_FALSE(compiles(cache, "a"));
  std::printf("%d machines, no locks, %lld s till others see a file: at most %d compile of a key on each, 0 failures\n", GetParam(),
              static_cast<long long>(kDelay), most);
}

INSTANTIATE_TEST_SUITE_P(, NetworkDelay, ::testing::Values(8, 64));

}  // namespace
}  // namespace lathe
