#include "lathe/cache/disk_cache.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <ostream>
#include <set>
#include <string>

#include "lathe/testing/temp_dir.h"
#include "support.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using testing::entry_for;
using ::testing::HasSubstr;
using testing::TempDir;
using testing::Warnings;

CacheOptions at(const fs::path& root, CacheMode mode = CacheMode::read_write, bool shared = false) {
  return {root.string(), mode, shared};
}

mode_t mode_of(const fs::path& path) {
  struct stat found {};
  EXPECT_EQ(lstat(path.c_str(), &found), 0) << path;
  return found.st_mode & 07777;
}

TEST(DiskCache, MissesThenStoresThenHits) {
  TempDir dir;
  DiskCache cache(at(dir / "root"));
  const Entry entry = entry_for(std::string("any\0bytes\xff", 10), 1, 5000);
  EXPECT_FALSE(cache.find(entry.key));
  EXPECT_TRUE(cache.store(entry));
  auto found = cache.find(entry.key);
  ASSERT_TRUE(found);
  EXPECT_TRUE(testing::equal(*found, entry));
  EXPECT_TRUE(DiskCache(at(dir / "root")).find(entry.key)) << "a later process";

  CacheStats stats = cache.stats();
  EXPECT_EQ(stats.misses, 1u);
  EXPECT_EQ(stats.stores, 1u);
  EXPECT_EQ(stats.hits, 1u);
  EXPECT_EQ(stats.rejected + stats.collisions + stats.errors, 0u);
  EXPECT_EQ(stats.bytes_written, encode(entry).size());
  EXPECT_EQ(stats.bytes_read, stats.bytes_written);
}

TEST(DiskCache, LaysFilesOutAsDocumentedAndForUsAlone) {
  TempDir dir;
  mode_t old = umask(0);
  DiskCache cache(at(dir / "root"));
  const Entry entry = entry_for("k", 1, 10);
  EXPECT_TRUE(cache.store(entry));
  umask(old);
  const std::string name = digest_of(std::as_bytes(std::span(entry.key))).hex();
  const fs::path shard = dir / "root" / "v1" / name.substr(0, 2);
  EXPECT_EQ(cache.path_of("k"), (shard / (name + ".lathe")).string());
  EXPECT_EQ(testing::file_bytes(cache.path_of("k")), encode(entry));
  EXPECT_EQ(mode_of(cache.path_of("k")), 0600u);
  EXPECT_EQ(mode_of(shard), 0700u);
  EXPECT_EQ(mode_of(dir / "root" / "v1"), 0700u);
  EXPECT_TRUE(testing::temporaries_in(dir.path()).empty());
}

TEST(DiskCache, AStoreReplacesTheEntryWhole) {
  TempDir dir;
  DiskCache cache(at(dir / "root"));
  EXPECT_TRUE(cache.store(entry_for("k", 1, 5000)));
  EXPECT_TRUE(cache.store(entry_for("k", 2, 10)));
  EXPECT_TRUE(testing::equal(*cache.find("k"), entry_for("k", 2, 10)));
  EXPECT_EQ(cache.list().size(), 1u);
}

// With four hash bits, 64 keys share 16 names: each find must give its own entry or none.
TEST(DiskCache, ACollisionIsAMiss) {
  TempDir dir;
  DiskCache cache(at(dir / "root"), {real_fs(), 4});
  for (int i = 0; i < 64; i++) {
    const Entry entry = entry_for("key " + std::to_string(i), i, 100);
    ASSERT_TRUE(cache.store(entry));
    ASSERT_TRUE(testing::equal(*cache.find(entry.key), entry));
  }
  EXPECT_LE(cache.list().size(), 16u);
  size_t hits = 0;
  for (int i = 0; i < 64; i++) {
    const std::string key = "key " + std::to_string(i);
    if (auto found = cache.find(key)) {
      hits++;
      ASSERT_EQ(found->key, key);
      ASSERT_TRUE(testing::is_genuine(*found));
    }
  }
  EXPECT_EQ(hits, cache.list().size());
  EXPECT_EQ(cache.stats().collisions, 64 - hits);
  EXPECT_EQ(cache.stats().misses, 64 - hits);
  std::printf("64 keys of %zu names: %zu collisions, all misses\n", hits, 64 - hits);
}

TEST(DiskCache, AnEntryUnderAnotherKeysNameIsAMiss) {
  TempDir dir;
  DiskCache cache(at(dir / "root"));
  EXPECT_TRUE(cache.store(entry_for("a", 1, 10)));
  EXPECT_TRUE(cache.store(entry_for("b", 1, 10)));
  fs::copy_file(cache.path_of("a"), cache.path_of("b"), fs::copy_options::overwrite_existing);
  EXPECT_FALSE(cache.find("b"));
  EXPECT_EQ(cache.stats().collisions, 1u);
  EXPECT_TRUE(cache.find("a"));
}

TEST(DiskCache, PlantedLinksLeaveTheirTargetAlone) {
  TempDir dir;
  testing::write_file(dir / "canary", "canary");
  testing::FaultyFs zeros;
  zeros.fixed_random = true;
  DiskCache cache(at(dir / "root"), {zeros});
  const Entry entry = entry_for("k", 1, 100);
  const fs::path file = cache.path_of("k");
  fs::create_directories(file.parent_path());
  for (const fs::path& made : {file.parent_path(), file.parent_path().parent_path()}) fs::permissions(made, fs::perms(0700));

  // At the entry's name, to a file: replaced, not followed.
  fs::create_symlink(dir / "canary", file);
  EXPECT_TRUE(cache.store(entry));
  EXPECT_FALSE(fs::is_symlink(file));
  EXPECT_TRUE(cache.find("k"));

  // At the temporary name that the next store will draw: a link to a file, a link to a name that O_CREAT would make, a hard link.
  Warnings warnings;
  const fs::path temp = file.parent_path() / "0000000000000000.tmp";
  auto store_over = [&] {
    EXPECT_FALSE(cache.store(entry_for("k", 2, 100)));
    EXPECT_TRUE(fs::exists(fs::symlink_status(temp))) << "what others made is not ours to remove";
    fs::remove(temp);
  };
  fs::create_symlink(dir / "canary", temp);
  store_over();
  fs::create_symlink(dir / "absent", temp);
  store_over();
  fs::create_hard_link(dir / "canary", temp);
  store_over();
  EXPECT_TRUE(testing::equal(*cache.find("k"), entry));
  EXPECT_EQ(testing::file_bytes(dir / "canary").size(), 6u);
  EXPECT_FALSE(fs::exists(dir / "absent"));
  EXPECT_EQ(cache.stats().errors, 3u);
}

TEST(DiskCache, WhatADriverRefusesIsFoundAndKeptNoMore) {
  TempDir dir;
  DiskCache cache(at(dir / "root")), other(at(dir / "root"));
  const Entry entry = entry_for("k", 1, 100), better = entry_for("k", 2, 100);
  ASSERT_TRUE(cache.store(entry));
  cache.reject("k", entry.payload);
  EXPECT_EQ(cache.stats().quarantined, 1u);
  EXPECT_FALSE(other.find("k")) << "nor by other processes";
  EXPECT_FALSE(cache.store(entry)) << "the same bytes again are of no use";
  ASSERT_TRUE(other.store(entry));
  EXPECT_FALSE(cache.find("k")) << "whoever stored them";
  ASSERT_TRUE(other.store(better));
  cache.reject("k", entry.payload);
  ASSERT_TRUE(cache.find("k")) << "what another has put in its place stays";
  EXPECT_TRUE(testing::equal(*cache.find("k"), better));
}

TEST(DiskCache, FindsByTheBeginningOfAKey) {
  TempDir dir;
  DiskCache cache(at(dir / "root"));
  for (const char* key : {"a 1", "b 1", "b 3", "b 2", "c 1"}) ASSERT_TRUE(cache.store(entry_for(key, 1, 100)));
  EXPECT_EQ(cache.keys().size(), 5u);
  EXPECT_EQ(cache.find_prefix("b ")->key, "b 3");
  EXPECT_FALSE(cache.find_prefix("d "));
  ASSERT_TRUE(cache.store(entry_for("d 1", 1, 100)));
  EXPECT_EQ(cache.find_prefix("d ")->key, "d 1") << "stored since the keys were read";
  std::ofstream(cache.path_of("b 3"), std::ios::app) << "grown";
  EXPECT_EQ(cache.find_prefix("b ")->key, "b 2") << "what is found is verified";
}

TEST(DiskCache, ListsTheKeysUsedLast) {
  TempDir dir;
  DiskCache cache(at(dir / "root"));
  for (int i = 0; i < 20; i++) {
    const std::string key = "key " + std::to_string(i);
    ASSERT_TRUE(cache.store(entry_for(key, 1, 100)));
    const timespec used{1'700'000'000 + (i * 7 % 20) * 1000, 0}, times[] = {used, used};
    ASSERT_EQ(utimensat(AT_FDCWD, cache.path_of(key).c_str(), times, 0), 0);
  }
  std::set<std::string> last;
  for (const KeyPlace& place : cache.keys(3)) last.insert(place.key);
  EXPECT_EQ(last, (std::set<std::string>{"key 17", "key 14", "key 11"}));  // i * 7 is 19, 18, 17 modulo 20
  EXPECT_EQ(cache.keys(100).size(), 20u);
}

// Half of the keys are there: as many are found as by a cache that may write.
TEST(DiskCache, ReadOnlyHitsAsOftenAsReadWrite) {
  TempDir dir;
  {
    DiskCache maker(at(dir / "root"));
    for (int i = 0; i < 100; i += 2) ASSERT_TRUE(maker.store(entry_for("key " + std::to_string(i), 1, 500)));
  }
  Warnings warnings;
  DiskCache rw(at(dir / "root")), ro(at(dir / "root", CacheMode::read_only));
  for (int i = 0; i < 100; i++) {
    const std::string key = "key " + std::to_string(i);
    EXPECT_EQ(rw.find(key).has_value(), ro.find(key).has_value()) << key;
    EXPECT_FALSE(ro.store(entry_for(key, 1, 500)));
  }
  EXPECT_EQ(ro.stats().hits, 50u);
  EXPECT_EQ(ro.stats().hits, rw.stats().hits);
  EXPECT_EQ(ro.stats().errors, 0u);
  EXPECT_LE(warnings.all().size(), 1u);
  std::printf("%d of 100 found, as read-write; %zu warnings\n", static_cast<int>(ro.stats().hits), warnings.all().size());
}

TEST(DiskCache, ReadOnlyModeReadsAndWritesNothing) {
  TempDir dir;
  ASSERT_TRUE(DiskCache(at(dir / "root")).store(entry_for("k", 1, 100)));
  Warnings warnings;
  DiskCache cache(at(dir / "root", CacheMode::read_only));
  EXPECT_TRUE(cache.on_disk());
  EXPECT_FALSE(cache.writable());
  EXPECT_TRUE(cache.find("k"));
  EXPECT_FALSE(cache.find("other"));
  EXPECT_FALSE(cache.store(entry_for("other", 1, 100)));
  EXPECT_EQ(cache.list().size(), 1u);
  EXPECT_EQ(cache.stats().errors, 0u);
  EXPECT_TRUE(warnings.all().empty());
}

TEST(DiskCache, OffTouchesNothingAndDoesNotWarn) {
  TempDir dir;
  Warnings warnings;
  DiskCache cache(at(dir / "root", CacheMode::off));
  EXPECT_FALSE(cache.on_disk());
  EXPECT_FALSE(cache.store(entry_for("k", 1, 100)));
  EXPECT_FALSE(cache.find("k"));
  EXPECT_THAT(cache.why_off(), HasSubstr("off"));
  EXPECT_FALSE(fs::exists(dir / "root"));
  EXPECT_TRUE(warnings.all().empty());
}

TEST(DiskCache, OptionsComeFromTheEnvironment) {
  EXPECT_TRUE(testing::in_child([]() -> std::string {
    Warnings warnings;
    for (auto [text, mode] : {std::pair{"rw", CacheMode::read_write}, std::pair{"ro", CacheMode::read_only},
                              std::pair{"off", CacheMode::off}, std::pair{"", CacheMode::read_write}}) {
      setenv("LATHE_CACHE_MODE", text, 1);
      if (CacheOptions::from_environment().mode != mode) return std::string("LATHE_CACHE_MODE=") + text;
    }
    if (!warnings.all().empty()) return "warned";
    setenv("LATHE_CACHE_MODE", "readonly", 1);
    if (CacheOptions::from_environment().mode != CacheMode::off) return "an unknown mode is not off";
    if (warnings.all().size() != 1 || warnings.all()[0].find("readonly") == std::string::npos) return "no warning with the value";
    for (auto [text, bytes] : {std::pair{"5000", uint64_t{5000}}, std::pair{"3K", uint64_t{3072}},
                               std::pair{"2G", uint64_t{2} << 30}, std::pair{"0", uint64_t{0}}}) {
      setenv("LATHE_CACHE_SIZE", text, 1);
      if (CacheOptions::from_environment().max_bytes != bytes) return std::string("LATHE_CACHE_SIZE=") + text;
    }
    for (const char* text : {"-1", "K", "3 G", "1.5G", "99999999999G", "2g", "1GG"}) {
      if (parse_bytes(text)) return std::string(text) + " is a size";
    }
    setenv("LATHE_CACHE_FSYNC", "on", 1);
    if (CacheOptions::from_environment().sync != CacheSync::always) return "LATHE_CACHE_FSYNC=on";
    setenv("LATHE_CACHE_FSYNC", "off", 1);
    if (CacheOptions::from_environment().sync != CacheSync::never) return "LATHE_CACHE_FSYNC=off";
    setenv("LATHE_BUNDLE", ":/a::/b c:", 1);
    if (CacheOptions::from_environment().bundles != std::vector<std::string>{"/a", "/b c"}) return "LATHE_BUNDLE";
    unsetenv("LATHE_CACHE_SHARED");
    if (CacheOptions::from_environment().shared) return "shared by default";
    setenv("LATHE_CACHE_SHARED", "1", 1);
    return CacheOptions::from_environment().shared ? "" : "not shared";
  }));
}

TEST(DiskCache, OddNamesOfTheRootAreJustNames) {
  TempDir dir;
  for (const char* name : {"a b;touch made_by_a_shell", "$(touch made_by_a_shell)", "-rf", "new\nline", "%s%n", "{}"}) {
    DiskCache cache(at(dir / name));
    ASSERT_TRUE(cache.store(entry_for("k", 1, 100))) << name;
    ASSERT_TRUE(cache.find("k")) << name;
    ASSERT_TRUE(fs::exists(cache.path_of("k"))) << name;
  }
  EXPECT_FALSE(fs::exists(dir / "made_by_a_shell"));
  EXPECT_FALSE(fs::exists(fs::current_path() / "made_by_a_shell"));
  EXPECT_EQ(std::distance(fs::directory_iterator(dir.path()), {}), 6);
}

TEST(DiskCache, ListsEntriesAndNothingElse) {
  TempDir dir;
  DiskCache cache(at(dir / "root"));
  EXPECT_TRUE(cache.list().empty());
  std::set<std::string> expected;
  for (int i = 0; i < 20; i++) {
    const Entry entry = entry_for("key " + std::to_string(i), 1, 10);
    ASSERT_TRUE(cache.store(entry));
    expected.insert(digest_of(std::as_bytes(std::span(entry.key))).hex());
  }
  const fs::path shard = fs::path(cache.path_of("key 0")).parent_path();
  testing::write_file(shard / "0123456789abcdef.tmp", "half");
  testing::write_file(shard / "notes.txt", "x");
  const std::string other_shard = shard.filename() == "00" ? "01" : "00";
  testing::write_file(shard / (other_shard + std::string(30, '0') + ".lathe"), "an entry's name, in another's shard");
  testing::write_file(shard / (std::string(32, 'Z') + ".lathe"), "x");
  fs::create_symlink("/dev/null", shard / (shard.filename().string() + std::string(30, '0') + ".lathe"));
  testing::write_file(dir / "root" / "v1" / "README", "x");

  std::set<std::string> names;
  for (const DiskCache::Listing& item : cache.list()) {
    names.insert(item.name);
    EXPECT_GT(item.bytes, kEntryHeaderBytes + kEntryTrailerBytes);
    EXPECT_NEAR(static_cast<double>(item.mtime), static_cast<double>(time(nullptr)), 600);
    Result<Entry> entry = cache.read_file(item.name);
    ASSERT_TRUE(entry.ok()) << entry.status().to_string();
    EXPECT_TRUE(testing::is_genuine(*entry));
  }
  EXPECT_EQ(names, expected);
}

TEST(DiskCache, ReadFileTakesOnlyEntryNames) {
  TempDir dir;
  DiskCache cache(at(dir / "root"));
  const Entry entry = entry_for("k", 1, 10);
  ASSERT_TRUE(cache.store(entry));
  const std::string good = digest_of(std::as_bytes(std::span(entry.key))).hex();
  fs::copy_file(cache.path_of("k"), dir / "outside.lathe");
  EXPECT_TRUE(cache.read_file(good).ok());
  std::string nul = good;
  nul[10] = '\0';
  for (const std::string& name : {std::string(), std::string("../../outside"), "../" + good.substr(3), "/" + good.substr(1),
                                  good + "0", good.substr(1), std::string(32, 'A'), std::string(32, '.'), nul, good + ".lathe"}) {
    EXPECT_EQ(cache.read_file(name).status().code(), Code::invalid_argument) << name;
  }
  EXPECT_EQ(cache.read_file(std::string(32, '0')).status().code(), Code::unavailable);
}

TEST(DiskCache, AnEntryOutsideTheLimitsIsNotStored) {
  TempDir dir;
  DiskCache cache(at(dir / "root"));
  Warnings warnings;
  EXPECT_FALSE(cache.store({"k", std::string(kMaxMetadataBytes + 1, ' '), {}}));
  EXPECT_FALSE(cache.store({"k", std::string(kMaxMetadataBytes + 1, ' '), {}}));
  EXPECT_EQ(cache.stats().errors, 2u);
  EXPECT_EQ(warnings.all().size(), 1u);
  EXPECT_FALSE(fs::exists(cache.path_of("k")));
}

TEST(DiskCache, OutlivesTheRemovalOfItsRoot) {
  TempDir dir;
  Warnings warnings;
  DiskCache cache(at(dir / "root"));
  ASSERT_TRUE(cache.store(entry_for("k", 1, 10)));
  fs::remove_all(dir / "root" / "v1");
  EXPECT_FALSE(cache.find("k"));
  EXPECT_TRUE(cache.store(entry_for("k", 1, 10))) << "an emptied root fills again";
  fs::remove_all(dir / "root");
  EXPECT_FALSE(cache.find("k"));
  EXPECT_FALSE(cache.store(entry_for("k", 1, 10)));
  EXPECT_TRUE(cache.list().empty());
}

// The descriptor stays with the directory that was checked, whatever is put in its place.
TEST(DiskCache, ARootSwappedUnderneathIsNotFollowed) {
  TempDir dir;
  DiskCache cache(at(dir / "root"));
  fs::rename(dir / "root", dir / "moved");
  fs::create_directory(dir / "other");
  fs::create_directory_symlink(dir / "other", dir / "root");
  EXPECT_TRUE(cache.store(entry_for("k", 1, 10)));
  EXPECT_TRUE(cache.find("k"));
  EXPECT_TRUE(fs::is_empty(dir / "other"));
  EXPECT_TRUE(fs::exists(dir / "moved" / "v1"));
}

TEST(DiskCache, SharedGivesTheGroupItsRights) {
  TempDir dir;
  mode_t old = umask(077);
  fs::create_directory(dir / "root");
  ASSERT_EQ(chmod((dir / "root").c_str(), 02770), 0);
  DiskCache cache(at(dir / "root", CacheMode::read_write, true));
  EXPECT_TRUE(cache.store(entry_for("k", 1, 10)));
  umask(old);
  const fs::path file = cache.path_of("k");
  EXPECT_EQ(mode_of(file), 0640u);
  EXPECT_EQ(mode_of(file.parent_path()), 02770u);
  EXPECT_EQ(mode_of(file.parent_path().parent_path()), 02770u);
  EXPECT_TRUE(cache.find("k"));
  EXPECT_EQ(mode_of(dir / "root" / "locks"), 0660u) << "others of the group take locks too";
  if (geteuid() == 0) {
    ASSERT_EQ(chown(file.c_str(), testing::kOtherUser, 0), 0);
    EXPECT_TRUE(cache.find("k")) << "an entry of another member of the group";
    Warnings warnings;
    EXPECT_FALSE(DiskCache(at(dir / "root")).on_disk()) << "not without being told";
  }
}

}  // namespace
}  // namespace lathe
