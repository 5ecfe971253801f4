#include "loops.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "lathe/cache/disk_cache.h"
#include "lathe/testing/seed.h"
#include "lathe/testing/temp_dir.h"
#include "support.h"

namespace lathe::testing {
namespace {

using std::chrono::duration;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int kKeys = 6;

std::string key_of(uint64_t i) {
  return "key " + std::to_string(i % kKeys);
}

CacheOptions at(const std::filesystem::path& root) {
  CacheOptions options;
  options.root = root.string();
  return options;
}

// One end for a line of bytes between processes.
class Pipe {
 public:
  Pipe() { EXPECT_EQ(pipe(ends_), 0); }
  Pipe(const Pipe&) = delete;
  ~Pipe() {
    close(ends_[0]);
    close(ends_[1]);
  }
  bool send() const { return write(ends_[1], "r", 1) == 1; }
  bool receive() const {
    char byte = 0;
    return read(ends_[0], &byte, 1) == 1;
  }

 private:
  int ends_[2] = {-1, -1};
};

// A compiler that leaves a mark for each compile.
Entry compile(const std::filesystem::path& marks, const std::string& key) {
  const int fd = open(marks.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (write(fd, "c", 1) != 1) _exit(3);
  close(fd);
  std::this_thread::sleep_for(milliseconds(20));
  return entry_for(key, 1, 20'000);
}

// A network file system as it can be: without locks, and with what other processes made out of sight.
class BlindFs : public FaultyFs {
 public:
  BlindFs() { network = no_locks = true; }
  int renameat(int dir, const char* from, const char* to) override {
    const int result = FaultyFs::renameat(dir, from, to);
    if (result == 0) mine_.insert(to);
    return result;
  }
  int openat(int dir, const char* name, int flags, mode_t mode) override {
    if (!std::string_view(name).ends_with(".lathe") || mine_.contains(name)) return FaultyFs::openat(dir, name, flags, mode);
    errno = ENOENT;
    return -1;
  }

 private:
  std::set<std::string> mine_;
};

double seconds_since(steady_clock::time_point start) {
  return duration<double>(steady_clock::now() - start).count();
}

}  // namespace

void kill_writers(int kills) {
  prefer_memory_disk();
  TempDir dir;
  const CacheOptions options = at(dir / "root");
  std::mt19937_64 random(seed());
  std::vector<Entry> entries;
  for (uint64_t i = 0; i < 2 * kKeys; i++) entries.push_back(entry_for(key_of(i), static_cast<int>(i), 20'000 + 3'000 * i));
  DiskCache reader(options);
  size_t in_store = 0;
  const auto wanted = static_cast<size_t>(kills) / 2;
  int round = 0;
  // On a busy machine a writer may wait for its turn between two stores when it is killed: then it takes more kills.
  for (; round < kills || (in_store < wanted && round < 4 * kills); round++) {
    Pipe ready;
    const pid_t writer = start([&]() -> std::string {
      FaultyFs system;
      system.most = 16;  // most of a writer's time goes to writing, on a slow disk too
      DiskCache cache(options, {system});
      for (size_t i = static_cast<size_t>(round);; i++) {
        cache.store(entries[i % entries.size()]);
        if (i == static_cast<size_t>(round) && !ready.send()) return "nobody listens";
      }
    });
    ASSERT_GT(writer, 0);
    EXPECT_TRUE(ready.receive());
    usleep(static_cast<useconds_t>(random() % 2000));
    kill(writer, SIGKILL);
    EXPECT_TRUE(WIFSIGNALED(wait_for(writer)));
    for (uint64_t k = 0; k < kKeys; k++) {
      auto found = reader.find(key_of(k));
      ASSERT_TRUE(!found || is_genuine(*found)) << "round " << round;
    }
    const std::vector<std::string> left = temporaries_in(dir.path());
    in_store += left.size();
    for (const std::string& file : left) std::filesystem::remove(file);
  }
  const CacheStats stats = reader.stats();
  EXPECT_EQ(stats.rejected, 0u) << "rename publishes whole files only";
  EXPECT_EQ(stats.errors, 0u);
  EXPECT_GT(stats.hits, 0u);
  EXPECT_GE(in_store, wanted) << "too few kills came in the middle of a store";
  std::printf("%d kills, %zu of them between making a temporary file and its rename; %llu hits, 0 corrupt\n", round, in_store,
              static_cast<unsigned long long>(stats.hits));
}

void cold_start(int processes, int trials, bool locks) {
  constexpr int kAsks = 5;
  prefer_memory_disk();
  size_t most = 0;
  for (int trial = 0; trial < trials; trial++) {
    TempDir dir;
    const auto marks = dir / "marks";
    Pipe gate;
    std::vector<pid_t> children;
    for (int i = 0; i < processes; i++) {
      children.push_back(start([&]() -> std::string {
        BlindFs blind;
        Warnings warnings;
        if (!gate.receive()) return "no start";
        DiskCache cache(at(dir / "root"), {locks ? real_fs() : blind});
        int compiles = 0;
        for (int ask = 0; ask < kAsks; ask++) {
          KeyLock lock;
          auto entry = cache.find_or_lock("the key", lock);
          if (!entry) {
            entry = compile(marks, "the key");
            if (++compiles > 1) return "compiled again what it had stored";
            if (!cache.store(*entry)) return "not stored";
          }
          if (entry->key != "the key" || !is_genuine(*entry)) return "a wrong entry";
        }
        return warnings.all().empty() ? "" : warnings.all()[0];
      }));
    }
    for (int i = 0; i < processes; i++) EXPECT_TRUE(gate.send());
    for (pid_t child : children) EXPECT_EQ(wait_for(child), 0);
    const size_t compiles = std::filesystem::file_size(marks);
    most = std::max(most, compiles);
    if (locks) {
      ASSERT_EQ(compiles, 1u) << "trial " << trial;
    } else {
      ASSERT_LE(compiles, static_cast<size_t>(processes));
    }
    EXPECT_TRUE(temporaries_in(dir.path()).empty());
  }
  std::printf("%d processes that ask %d times, %d trials, %s locks: at most %zu compiles a trial%s\n", processes, kAsks, trials,
              locks ? "with" : "without", most, locks ? "" : ", 1 a process");
}

void lose_lock_holder(int trials) {
  prefer_memory_disk();
  constexpr milliseconds kBound{200};
  double slowest_killed = 0, slowest_stopped = 0;
  for (int trial = 0; trial < trials; trial++) {
    for (int signal : {SIGKILL, SIGSTOP}) {
      TempDir dir;
      CacheOptions options = at(dir / "root");
      Pipe held;
      const pid_t holder = start([&]() -> std::string {
        DiskCache cache(options);
        KeyLock lock;
        cache.find_or_lock("k", lock);
        if (!lock || !held.send()) return "no lock";
        for (;;) pause();
      });
      ASSERT_TRUE(held.receive());
      options.lock_wait_ms = signal == SIGKILL ? 30'000 : static_cast<int>(kBound.count());
      FaultyFs system;
      DiskCache cache(options, {system});
      const auto start = steady_clock::now();
      std::thread killer([&] {
        while (system.lock_calls() < 2) std::this_thread::yield();  // the first found the lock taken
        kill(holder, signal);
      });
      KeyLock lock;
      EXPECT_FALSE(cache.find_or_lock("k", lock));
      const double took = seconds_since(start);
      killer.join();
      EXPECT_EQ(static_cast<bool>(lock), signal == SIGKILL);
      EXPECT_EQ(cache.stats().waits, 1u);
      EXPECT_LT(took, signal == SIGKILL ? 1.0 : 1.0 + duration<double>(kBound).count());
      double& slowest = signal == SIGKILL ? slowest_killed : slowest_stopped;
      slowest = std::max(slowest, took);
      EXPECT_TRUE(cache.store(entry_for("k", 1, 100))) << "without the lock too";
      kill(holder, SIGKILL);
      wait_for(holder);
    }
    if (::testing::Test::HasFailure()) return;
  }
  std::printf("%d trials: holder killed, waiter on after %.3f s at most; stopped, %.3f s (bound %.3f s)\n", trials, slowest_killed,
              slowest_stopped, duration<double>(kBound).count());
}

void share_between_versions(int operations) {
  prefer_memory_disk();
  TempDir dir;
  const uint64_t first = seed();
  std::vector<pid_t> children;
  for (uint32_t schema : {kCacheSchema, kCacheSchema + 1}) {
    children.push_back(start([&, schema]() -> std::string {
      DiskCache cache(at(dir / "root"), {.schema = schema});
      std::mt19937_64 random(first + schema);
      // Each version's entries tell whose they are.
      const int mine = static_cast<int>(schema) * 1000;
      for (int i = 0; i < operations / 2; i++) {
        const std::string key = key_of(random());
        if (random() % 2 == 0) {
          if (!cache.store(entry_for(key, mine + static_cast<int>(random() % 1000), random() % 2000))) return "a store failed";
        } else if (auto found = cache.find(key)) {
          if (!is_genuine(*found)) return "a wrong entry";
          if (found->metadata.find("\"version\":" + std::to_string(schema)) == std::string::npos)
            return "the other version's entry";
        }
      }
      const CacheStats stats = cache.stats();
      if (stats.hits == 0) return "nothing was found";
      return stats.errors + stats.rejected + stats.collisions == 0 ? "" : "errors were counted";
    }));
  }
  for (pid_t child : children) EXPECT_EQ(wait_for(child), 0);
  std::printf("%d operations of two versions: 0 cross reads\n", operations);
}

}  // namespace lathe::testing
