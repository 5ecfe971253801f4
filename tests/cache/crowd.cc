// Writers, readers and a trimmer in processes of their own on one root, over its size limit.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <new>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "lathe/cache/disk_cache.h"
#include "lathe/testing/seed.h"
#include "lathe/testing/temp_dir.h"
#include "loops.h"
#include "support.h"

namespace lathe::testing {
namespace {

namespace fs = std::filesystem;
using std::chrono::duration_cast;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr uint64_t kManyKeys = 400;
constexpr uint64_t kAroundPayload = 200;  // at most, of an entry's file

std::string any_key(std::mt19937_64& random) {
  return "key " + std::to_string(random() % kManyKeys);
}

enum class Role { writer, reader, trimmer };
constexpr const char* kRoles[] = {"writers", "readers", "trimmer"};

// In memory that the processes share: what a killed one had done still counts.
struct Tally {
  std::atomic<uint64_t> stores, hits, trims;
  std::atomic<bool> end;
};

class Crowd {
 public:
  Crowd(CacheOptions options, uint64_t payload)
      : options_(std::move(options)),
        payload_(payload),
        tally_(new (mmap(nullptr, sizeof(Tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) Tally()) {}
  Crowd(const Crowd&) = delete;
  ~Crowd() {
    tally_->end = true;
    munmap(tally_, sizeof(Tally));
  }

  size_t writers_most = SIZE_MAX;  // bytes that they read or write at once
  bool readers_must_hit = false;   // each of them

  Tally& tally() const { return *tally_; }
  // One more, which works until it is killed, finds fault, or all are to end.
  pid_t add(Role role, uint64_t seed) const {
    return start([this, role, seed]() -> std::string {
      prctl(PR_SET_PDEATHSIG, SIGKILL);  // one that is stopped when the test gives up would stay for ever
      FaultyFs system;
      if (role == Role::writer) system.most = writers_most;
      DiskCache cache(options_, {system});
      std::mt19937_64 random(seed);
      while (!tally_->end) {
        const std::string complaint = step(role, cache, random);
        if (!complaint.empty()) return complaint;
        const CacheStats stats = cache.stats();
        if (stats.errors + stats.rejected + stats.collisions != 0) return "errors were counted";
      }
      return role == Role::reader && readers_must_hit && cache.stats().hits == 0 ? "nothing was found" : "";
    });
  }

 private:
  std::string step(Role role, DiskCache& cache, std::mt19937_64& random) const {
    if (role == Role::trimmer) {
      tally_->trims += cache.trim(options_.max_bytes / 2 + random() % (options_.max_bytes / 2)) ? 1 : 0;
      return "";
    }
    const std::string key = any_key(random);
    KeyLock lock;
    const auto found = role == Role::reader ? cache.find(key) : cache.find_or_lock(key, lock);
    if (found && (found->key != key || !is_genuine(*found))) return "a wrong entry for " + key;
    if (role == Role::reader) {
      tally_->hits += found ? 1 : 0;
      return "";
    }
    if (!cache.store(entry_for(key, static_cast<int>(random() % 1000), payload_))) return "a store failed";
    tally_->stores++;
    return "";
  }

  const CacheOptions options_;
  const uint64_t payload_;
  Tally* const tally_;
};

CacheOptions small(const fs::path& root, uint64_t bytes) {
  CacheOptions options;
  options.root = root.string();
  options.max_bytes = bytes;
  options.lock_wait_ms = 20;
  return options;
}

uint64_t size_of(const std::vector<DiskCache::Listing>& files) {
  uint64_t bytes = 0;
  for (const DiskCache::Listing& file : files) bytes += file.bytes;
  return bytes;
}

// The size at one moment. A listing takes a while, in which entries come and go: two that are alike tell of the moment between.
std::optional<uint64_t> size_now(const DiskCache& cache) {
  const auto first = cache.list(), second = cache.list();
  return std::ranges::equal(first, second, {}, &DiskCache::Listing::name, &DiskCache::Listing::name) ? std::optional(size_of(first))
                                                                                                     : std::nullopt;
}

// The sizes that were seen while a crowd worked.
struct Sizes {
  uint64_t largest = 0, samples = 0;
};

Sizes watch(const Crowd& crowd, const std::vector<pid_t>& members, const DiskCache& cache, milliseconds time) {
  Sizes sizes;
  for (const auto end = steady_clock::now() + time; steady_clock::now() < end; usleep(1000)) {
    const auto size = size_now(cache);
    if (!size) continue;
    sizes.largest = std::max(sizes.largest, *size);
    sizes.samples++;
  }
  crowd.tally().end = true;
  for (pid_t member : members) EXPECT_EQ(wait_for(member), 0);
  return sizes;
}

}  // namespace

void trim_against_readers(std::chrono::seconds seconds) {
  prefer_memory_disk();
  constexpr uint64_t kLimit = 400'000, kPayload = 20'000, kMost = kLimit + kPayload + kAroundPayload;
  TempDir dir;
  const CacheOptions options = small(dir / "root", kLimit);
  const DiskCache watcher(options);
  uint64_t next_seed = seed(), hits = 0;
  auto work = [&](int writers, int trimmers) {
    Crowd crowd(options, kPayload);
    crowd.readers_must_hit = true;
    std::vector<pid_t> members;
    for (int i = 0; i < writers; i++) members.push_back(crowd.add(Role::writer, next_seed++));
    for (int i = 0; i < 3; i++) members.push_back(crowd.add(Role::reader, next_seed++));
    for (int i = 0; i < trimmers; i++) members.push_back(crowd.add(Role::trimmer, next_seed++));
    const Sizes sizes = watch(crowd, members, watcher, duration_cast<milliseconds>(seconds) / 2);
    EXPECT_GT(sizes.samples, static_cast<uint64_t>(seconds.count()));
    EXPECT_GT(crowd.tally().stores * kPayload, 2 * kLimit) << "there was nothing to trim";
    hits += crowd.tally().hits;
    return sizes;
  };
  const Sizes alone = work(1, 0);
  EXPECT_LE(alone.largest, kMost);
  const Sizes crowded = work(2, 1);  // a trimmer that never rests, so that a store cannot count on the lock
  EXPECT_LE(crowded.largest, kMost);
  EXPECT_TRUE(temporaries_in(dir.path()).empty());
  auto number = [](uint64_t n) { return static_cast<unsigned long long>(n); };
  std::printf(
      "%lld s of writers and readers: 0 errors, %llu hits; limit %llu and one entry of %llu; largest size %llu in %llu samples "
      "with one "
      "writer, %llu in %llu with two and a trimmer that never rests\n",
      static_cast<long long>(seconds.count()), number(hits), number(kLimit), number(kPayload), number(alone.largest),
      number(alone.samples), number(crowded.largest), number(crowded.samples));
}

void kill_and_stop(int events) {
  prefer_memory_disk();
  constexpr uint64_t kLimit = 2'000'000, kPayload = 20'000;
  struct Member {
    Role role;
    pid_t process = -1;
    bool stopped = false;
  };
  std::array<Member, 5> members{{{Role::writer}, {Role::writer}, {Role::reader}, {Role::reader}, {Role::trimmer}}};
  std::array<int, std::size(kRoles)> kills{}, stops{};
  TempDir dir;
  const CacheOptions options = small(dir / "root", kLimit);
  Crowd crowd(options, kPayload);
  crowd.writers_most = 2;  // most of a writer's time goes to writing
  std::mt19937_64 random(seed());
  for (Member& member : members) member.process = crowd.add(member.role, random());
  for (int event = 0; event < events; event++) {
    usleep(static_cast<useconds_t>(random() % 30'000));
    Member& member = members[random() % members.size()];
    const auto role = static_cast<size_t>(member.role);
    if (random() % 2 == 0) {
      kill(member.process, SIGKILL);
      ASSERT_TRUE(WIFSIGNALED(wait_for(member.process))) << "one of the " << kRoles[role] << " had ended, event " << event;
      kills[role]++;
      member = {member.role, crowd.add(member.role, random())};
    } else {
      kill(member.process, member.stopped ? SIGCONT : SIGSTOP);
      stops[role] += member.stopped ? 0 : 1;
      member.stopped = !member.stopped;
    }
  }
  crowd.tally().end = true;
  for (const Member& member : members) {
    kill(member.process, SIGCONT);
    EXPECT_EQ(wait_for(member.process), 0);
  }

  // What the killed ones left is litter an hour later.
  const std::vector<std::string> left = temporaries_in(dir.path());
  for (const std::string& file : left) fs::last_write_time(file, fs::file_time_type::clock::now() - std::chrono::hours(2));
  DiskCache cache(options);
  const auto report = cache.trim(kLimit);
  ASSERT_TRUE(report) << "a lock outlived its holder";
  EXPECT_EQ(report->removed_litter, left.size());
  auto check_files = [&] {
    EXPECT_LE(size_of(cache.list()), kLimit + kPayload + kAroundPayload);
    for (const DiskCache::Listing& file : cache.list()) {
      const Result<Entry> entry = cache.read_file(file.name);
      EXPECT_TRUE(entry && is_genuine(*entry)) << file.name;
    }
    for (const auto& file : fs::recursive_directory_iterator(options.root)) {
      EXPECT_NE(file.path().extension(), ".tmp");
      EXPECT_NE(file.path().extension(), ".bad");
    }
  };
  check_files();
  for (uint64_t i = 0; i < kManyKeys; i++) {
    const Entry entry = entry_for("key " + std::to_string(i), -1, kPayload);
    ASSERT_TRUE(cache.store(entry));
    const auto found = cache.find(entry.key);
    EXPECT_TRUE(found && equal(*found, entry));
  }
  check_files();
  EXPECT_EQ(cache.stats().errors + cache.stats().rejected, 0u);

  const Tally& done = crowd.tally();
  EXPECT_GT(left.size(), 0u) << "no writer was killed in the middle of a store";
  EXPECT_GT(done.stores, 0u);
  EXPECT_GT(done.hits, 0u);
  EXPECT_GT(done.trims, 0u);
  for (size_t role = 0; role < std::size(kRoles); role++) {
    EXPECT_GT(kills[role], 0) << kRoles[role];
    EXPECT_GT(stops[role], 0) << kRoles[role];
  }
  std::printf(
      "%d kills and %d stops of writers, %d and %d of readers, %d and %d of the trimmer, %zu kills in the middle of a store; "
      "%llu stores, %llu hits, %llu trims: 0 corrupt, size within the limit\n",
      kills[0], stops[0], kills[1], stops[1], kills[2], stops[2], left.size(), static_cast<unsigned long long>(done.stores),
      static_cast<unsigned long long>(done.hits), static_cast<unsigned long long>(done.trims));
}

}  // namespace lathe::testing
