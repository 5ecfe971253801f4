// How many sources of failed compiles a cache keeps; tests of what is in them are in engine_test.cc.
#include "lathe/jit/keep_source.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "lathe/testing/temp_dir.h"
#include "support.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using testing::TempDir;

DiskCache cache_at(const fs::path& root) {
  CacheOptions options;
  options.root = root;
  return DiskCache(options);
}

std::string keep(const DiskCache& cache, int number) {
  return keep_source(cache, testing::tiny_request("sm_80"), "key " + std::to_string(number), "source", "log");
}

// As if it had been kept that long ago.
void age(const fs::path& folder, std::chrono::hours by) {
  fs::last_write_time(folder, fs::file_time_type::clock::now() - by);
}

size_t entries(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

TEST(KeepSource, TheNewestFoldersAreKept) {
  TempDir root;
  const DiskCache cache = cache_at(root / "cache");
  std::vector<std::string> folders;
  for (int i = 0; i < 200; ++i) {
    folders.push_back(keep(cache, i));
    ASSERT_NE(folders.back(), "");
    age(folders.back(), std::chrono::hours(1000 - i));
  }
  const fs::path failed = root / "cache/lathe-failed";
  EXPECT_EQ(entries(failed), 64u);
  for (size_t i = 0; i < folders.size(); ++i) EXPECT_EQ(fs::exists(folders[i]), i >= 200 - 64) << i;
  // Kept again, it is a new one; and one just made stays, though all others claim to be from the future.
  EXPECT_EQ(keep(cache, 136), folders[136]);
  for (size_t i = 137; i < folders.size(); ++i) age(folders[i], std::chrono::hours(-1000));
  const std::string last = keep(cache, 200);
  EXPECT_TRUE(fs::exists(last + "/kernel.cu"));
  EXPECT_FALSE(fs::exists(folders[136])) << "the oldest by its time";
  EXPECT_EQ(entries(failed), 64u);
}

TEST(KeepSource, OnlyWhatItMadeIsRemoved) {
  TempDir root;
  const DiskCache cache = cache_at(root / "cache");
  const fs::path failed = root / "cache/lathe-failed", elsewhere = root / "elsewhere";
  const std::string digits(32, '0');
  const fs::path annotated = keep(cache, -1);
  std::ofstream(annotated / "notes.txt") << "why it failed";
  fs::create_directory(elsewhere);
  std::ofstream(elsewhere / "kernel.cu") << "somebody's";
  const fs::path link = failed / ("tiny-sm_80-" + digits), file = failed / ("a-file-" + digits), mine = failed / "my own";
  fs::create_directory_symlink(elsewhere, link);
  std::ofstream(file) << "no folder";
  fs::create_directory(mine);
  const fs::path linked = keep(cache, -2);  // goes, with the link in it and not what that leads to
  fs::remove(linked / "log");
  fs::create_symlink(elsewhere / "kernel.cu", linked / "log");
  for (const fs::path& old : {annotated, mine, elsewhere, linked}) age(old, std::chrono::hours(5000));
  for (int i = 0; i < 80; ++i) keep(cache, i);
  for (const fs::path& there : {annotated / "notes.txt", annotated / "kernel.cu", link, file, mine, elsewhere / "kernel.cu"}) {
    EXPECT_TRUE(fs::exists(fs::symlink_status(there))) << there;
  }
  EXPECT_FALSE(fs::exists(linked));
}

TEST(KeepSource, AFolderOfTheUsersHasNoBound) {
  TempDir root;
  const testing::ScopedEnv env("LATHE_KEEP_DIR", (root / "kept").c_str());
  const DiskCache cache = cache_at(root / "cache");
  for (int i = 0; i < 70; ++i) keep(cache, i);
  EXPECT_EQ(entries(root / "kept"), 70u);
}

}  // namespace
}  // namespace lathe
