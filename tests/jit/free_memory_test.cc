#include "lathe/jit/worker/free_memory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "lathe/testing/temp_dir.h"

namespace lathe {
namespace {

// Folders that look as /proc and /sys/fs/cgroup do.
struct System {
  testing::TempDir dir;

  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((dir / name).parent_path());
    std::ofstream(dir / name) << text;
  }
  std::optional<int64_t> free() const { return free_memory(dir / "proc", dir / "groups"); }
};

constexpr const char* kMemInfo = "MemTotal:       24684084 kB\nMemFree:         1000 kB\nMemAvailable:   2000 kB\n";

TEST(FreeMemory, IsWhatTheSystemHasAvailable) {
  System s;
  EXPECT_EQ(s.free(), std::nullopt);
  s.write("proc/meminfo", kMemInfo);
  EXPECT_EQ(s.free(), 2000 * 1024);
}

TEST(FreeMemory, IsWhatTheGroupsLeave) {
  System s;
  s.write("proc/meminfo", kMemInfo);
  s.write("proc/self/cgroup", "0::/server/lathe\n");
  s.write("groups/server/lathe/memory.max", "max\n");
  s.write("groups/server/lathe/memory.current", "5000\n");
  EXPECT_EQ(s.free(), 2000 * 1024) << "a group without a limit";
  s.write("groups/server/memory.max", "900000\n");
  s.write("groups/server/memory.current", "800000\n");
  EXPECT_EQ(s.free(), 100'000) << "the group around it";
  s.write("groups/server/memory.stat", "anon 700000\ninactive_file 50000\nactive_file 1\n");
  EXPECT_EQ(s.free(), 150'000) << "cache that can be dropped";
  s.write("groups/server/memory.current", "2000000\n");
  EXPECT_EQ(s.free(), 0);
}

TEST(FreeMemory, ReadsVersionOneToo) {
  System s;
  s.write("proc/self/cgroup", "7:blkio:/\n4:memory:/api/x\n0::/\n");
  s.write("groups/memory/api/x/memory.limit_in_bytes", "70000\n");
  s.write("groups/memory/api/x/memory.usage_in_bytes", "60000\n");
  s.write("groups/memory/api/x/memory.stat", "inactive_file 1\ntotal_inactive_file 5000\n");
  EXPECT_EQ(s.free(), 15'000);
}

// In a container the path is the host's and the root is the container's own group.
TEST(FreeMemory, TakesTheRootForAGroupThatIsNotSeen) {
  System s;
  s.write("proc/self/cgroup", "0::/../../docker/abc\n");
  s.write("groups/memory.max", "4096\n");
  s.write("groups/memory.current", "96\n");
  EXPECT_EQ(s.free(), 4000);
}

TEST(FreeMemory, NonsenseCannotBeTold) {
  System s;
  s.write("proc/meminfo", "MemAvailable: much\nMemAvailable\n");
  s.write("proc/self/cgroup", "nonsense\n::\n0::\n0::/\n:memory:relative\n");
  s.write("groups/memory.max", "");
  s.write("groups/memory.current", "x");
  EXPECT_EQ(s.free(), std::nullopt);
}

TEST(FreeMemory, OfThisMachine) {
  const auto free = free_memory();
  ASSERT_TRUE(free);
  EXPECT_GT(*free, 0);
}

}  // namespace
}  // namespace lathe
