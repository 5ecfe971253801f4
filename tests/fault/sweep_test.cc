// Lathe in a process of its own whose Nth call to the file system fails, for every N: every kernel is served, with the right bytes,
// and the next process finds a sound cache.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ostream>
#include <string>

#include "lathe/cache/disk_cache.h"
#include "lathe/testing/seed.h"
#include "lathe/testing/temp_dir.h"
#include "run.h"

namespace lathe {
namespace {

using testing::FaultRule;
using testing::FaultRun;
using testing::TempDir;

struct Fault {
  int error;
  bool always;
};

// Names the case in ctest's list.
void PrintTo(const Fault& fault, std::ostream* out) {
  *out << strerrorname_np(fault.error) << (fault.always ? "_Always" : "_Once");
}

std::vector<Fault> faults() {
  std::vector<Fault> out;
  for (int error : {EIO, ENOSPC, EINTR, EACCES, EMFILE, ESTALE}) {
    for (bool always : {false, true}) out.push_back({error, always});
  }
  return out;
}

size_t damaged_entries(const TempDir& dir) {
  CacheOptions options;
  options.root = dir / "root";
  size_t damaged = 0;
  const DiskCache cache(options);
  for (const DiskCache::Listing& item : cache.list()) {
    const Result<Entry> entry = cache.read_file(item.name);
    damaged += !entry.ok() && entry.status().code() == Code::invalid_argument ? 1 : 0;
  }
  return damaged;
}

class FaultSweep : public ::testing::TestWithParam<Fault> {
 protected:
  static void SetUpTestSuite() { testing::prefer_memory_disk(); }
};

TEST_P(FaultSweep, EveryCallOfAProcessMayFail) {
  const Fault fault = GetParam();
  const uint64_t seed = testing::seed();
  FaultRun run;
  int served = 0;
  for (int n = 1; n == 1 || run.struck; n++) {
    SCOPED_TRACE("call " + std::to_string(n));
    TempDir dir;
    testing::prepare_root(dir.path());
    const FaultRule rule{.fail_at = n, .error = fault.error, .always = fault.always, .most = 500};
    run = testing::run_server(dir.path(), seed, &rule);
    EXPECT_EQ(run.status, 0) << run.said << (WIFSIGNALED(run.status) ? "killed by a signal" : "");
    served++;
    // One was damaged before it began, and a failing rename may have left it in its place.
    EXPECT_LE(damaged_entries(dir), 1u);
    const FaultRun next = testing::run_server(dir.path(), seed, nullptr);
    EXPECT_EQ(next.status, 0) << "the next process: " << next.said;
    EXPECT_EQ(damaged_entries(dir), 0u);
    if (HasFailure()) return;
  }
  EXPECT_GT(served, 150) << "fewer calls than a life has";
  std::printf("%d runs, each with another call that failed (%s, %s), then one untouched: all served\n", served - 1,
              strerrorname_np(fault.error), fault.always ? "always" : "once");
}

INSTANTIATE_TEST_SUITE_P(, FaultSweep, ::testing::ValuesIn(faults()));

}  // namespace
}  // namespace lathe
