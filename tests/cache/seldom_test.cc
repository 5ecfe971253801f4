// What seldom happens to a cache, each way once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "lathe/cache/bundle_transfer.h"
#include "lathe/cache/disk_cache.h"
#include "lathe/testing/temp_dir.h"
#include "support.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using testing::entry_for;
using testing::FaultyFs;
using ::testing::HasSubstr;
using testing::TempDir;
using testing::Warnings;

CacheOptions at(const fs::path& root) {
  CacheOptions options;
  options.root = root.string();
  return options;
}

// A system that says who runs the process.
struct OtherUserFs : FaultyFs {
  uid_t getuid() override { return geteuid() + 1; }
};

TEST(Seldom, TheRootIsTheEnvironmentsOrNone) {
  TempDir dir;
  EXPECT_TRUE(testing::in_child([&]() -> std::string {
    Warnings warnings;
    setenv("LATHE_CACHE_DIR", (dir / "chosen").c_str(), 1);
    const DiskCache cache(CacheOptions{});
    if (!cache.on_disk() || cache.root() != (dir / "chosen").string()) return "not the chosen one";
    OtherUserFs raised;
    const DiskCache none(CacheOptions{}, {raised});
    if (none.on_disk() || none.why_off().find("another user's privileges") == std::string::npos) return "raised privileges";
    if (!none.path_of("k").empty() || none.list().size() != 0) return "it has files";
    return none.read_file(std::string(32, '0')).status().code() == Code::unavailable ? "" : "it reads files";
  }));
}

// Such a root belongs to the superuser and is no place for a cache; it is refused or read, and never a crash.
TEST(Seldom, TheRootOfAllIsARootToo) {
  Warnings warnings;
  CacheOptions options = at("//.//");
  options.mode = CacheMode::read_only;
  DiskCache cache(options);
  EXPECT_FALSE(cache.find("k"));
}

TEST(Seldom, ARelativeRuntimeFolderHoldsNoLocks) {
  TempDir dir;
  EXPECT_TRUE(testing::in_child([&]() -> std::string {
    FaultyFs network;
    network.network = true;
    for (const std::string& folder : {std::string("relative"), (dir / "missing").string() + "/x/y", std::string("/dev/null")}) {
      setenv("XDG_RUNTIME_DIR", folder.c_str(), 1);
      DiskCache cache(at(dir / "root"), {network});
      KeyLock lock;
      if (cache.find_or_lock("k", lock)) return "found";
      if (lock && folder != (dir / "missing").string() + "/x/y") return "a lock in " + folder;
    }
    return "";
  }));
}

TEST(Seldom, AFileThatIsRefusedIsReadByNoName) {
  TempDir dir;
  Warnings warnings;
  DiskCache cache(at(dir / "root"));
  ASSERT_TRUE(cache.store(entry_for("k", 1, 100)));
  const fs::path file = cache.path_of("k");
  const std::string name = file.stem().string();
  fs::permissions(file, fs::perms::others_write, fs::perm_options::add);
  EXPECT_EQ(cache.read_file(name).status().code(), Code::invalid_argument);
  fs::remove(file);
  fs::create_symlink("elsewhere", file);
  EXPECT_EQ(cache.read_file(name).status().code(), Code::invalid_argument);
  // A file whose name says nothing is left out of the list.
  std::ofstream(file.parent_path() / (name + ".txt")) << "x";
  std::ofstream(file.parent_path() / "short.tmp") << "x";
  EXPECT_EQ(cache.list().size(), 0u);
}

TEST(Seldom, ManyPayloadsMayBeRefusedAndAnotherEntryIsNot) {
  TempDir dir;
  Warnings warnings;
  DiskCache cache(at(dir / "root"));
  const Entry entry = entry_for("k", 1, 100);
  ASSERT_TRUE(cache.store(entry));
  // Another process has put a better one there: it stays.
  cache.reject("k", entry_for("k", 2, 100).payload);
  EXPECT_TRUE(cache.find("k"));
  cache.reject("k", entry_for("k", 2, 100).payload);  // once more is no more
  for (int i = 3; i < 80; i++) cache.reject("other", entry_for("other", i, 50).payload);
  EXPECT_TRUE(cache.find("k"));
  fs::resize_file(cache.path_of("k"), 20);
  cache.reject("k", entry.payload);  // what lies there is no entry
  EXPECT_FALSE(cache.find("k"));
}

TEST(Seldom, WhatCannotBeSetAsideStaysAMiss) {
  TempDir dir;
  Warnings warnings;
  struct : FaultyFs {
    int renameat(int, const char*, const char*) override {
      errno = EBUSY;
      return -1;
    }
  } stuck;
  {
    DiskCache cache(at(dir / "root"));
    ASSERT_TRUE(cache.store(entry_for("k", 1, 100)));
    fs::resize_file(cache.path_of("k"), 20);
  }
  DiskCache cache(at(dir / "root"), {stuck});
  EXPECT_FALSE(cache.find("k"));
  EXPECT_EQ(cache.stats().quarantined, 0u);
  EXPECT_EQ(cache.stats().rejected, 1u);
}

TEST(Seldom, WhatCannotBeRemovedIsLeftByTheTrimmer) {
  TempDir dir;
  struct : FaultyFs {
    int unlinkat(int, const char*) override {
      errno = error;
      return -1;
    }
    int error = EBUSY;
  } stuck;
  DiskCache cache(at(dir / "root"), {stuck});
  for (int i = 0; i < 4; i++) ASSERT_TRUE(cache.store(entry_for("k" + std::to_string(i), 1, 1000)));
  auto report = cache.trim(1000);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->removed_entries, 0u);
  stuck.error = ENOENT;  // another has removed them meanwhile
  report = cache.trim(1000);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->removed_entries, 3u);
}

TEST(Seldom, WhileAnotherTrimsAStoreMakesItsOwnRoom) {
  TempDir dir;
  EXPECT_TRUE(testing::in_child([&]() -> std::string {
    DiskCache first(at(dir / "root"));
    struct : FaultyFs {
      int try_lock(int, off_t) override {
        errno = EAGAIN;
        return -1;
      }
    } busy;
    CacheOptions options = at(dir / "root");
    options.max_bytes = 100;
    DiskCache cache(options, {busy});
    for (int i = 0; i < 3; i++) {
      if (!cache.store(entry_for("k" + std::to_string(i), 1, 1000))) return "not stored";
    }
    return cache.stats().evicted == 2 && cache.list().size() == 1 ? "" : "no room was made beside it";
  }));
}

TEST(Seldom, KeysOfManyPlacesAndOfNone) {
  TempDir dir;
  CacheOptions maker = at(dir / "bundle");
  maker.lock_wait_ms = 0;
  for (const char* key : {"a 1", "a 2"}) ASSERT_TRUE(DiskCache(maker).store(entry_for(key, 1, 100)));
  ASSERT_TRUE(seal_bundle(real_fs(), dir / "bundle", Trust{geteuid()}).ok());
  CacheOptions options = at(dir / "root");
  options.bundles = {dir / "bundle"};
  DiskCache cache(options);
  ASSERT_TRUE(cache.store(entry_for("a 3", 1, 100)));
  ASSERT_TRUE(cache.store(entry_for("b", 1, 100)));
  ASSERT_TRUE(cache.store(entry_for(std::string(70'000, 'l'), 1, 100)));  // longer than what is looked through
  EXPECT_EQ(cache.keys().size(), 4u);
  EXPECT_EQ(cache.find_prefix("a")->key, "a 2") << "the bundle's greatest";
  EXPECT_EQ(cache.find_prefix("b")->key, "b");
  EXPECT_FALSE(cache.find_prefix("c"));
  const Bundle& bundle = cache.bundles().at(0);
  EXPECT_EQ(bundle.read_start(std::string(32, '0'), 10).outcome, FileRead::Outcome::refused);
}

TEST(Seldom, ASealLeavesOutWhatIsNoEntryAndTakesNoLitter) {
  TempDir dir;
  CacheOptions options = at(dir / "bundle");
  {
    DiskCache cache(options);
    for (const char* key : {"a", "b"}) ASSERT_TRUE(cache.store(entry_for(key, 1, 100)));
    std::ofstream(fs::path(cache.path_of("a")).parent_path() / "0123456789abcdef.tmp") << "litter";
    fs::resize_file(cache.path_of("b"), 30);
  }
  const auto sealed = seal_bundle(real_fs(), dir / "bundle", Trust{geteuid()});
  ASSERT_TRUE(sealed.ok());
  EXPECT_EQ(sealed->entries, 1u);
  ASSERT_EQ(sealed->left_out.size(), 1u);
  EXPECT_THAT(sealed->left_out[0], HasSubstr("fewer than"));
}

// A manifest that speaks for a file which is no entry.
TEST(Seldom, AManifestDoesNotMakeAnEntry) {
  TempDir dir;
  const std::string name(32, 'a');
  DiskCache maker(at(dir / "bundle"));
  ASSERT_TRUE(maker.store(entry_for("a", 1, 100)));
  const std::string text = "no entry at all, though the manifest knows its digest";
  const Bytes bytes(reinterpret_cast<const std::byte*>(text.data()), reinterpret_cast<const std::byte*>(text.data()) + text.size());
  fs::create_directory(dir / "bundle/v1/aa");
  fs::permissions(dir / "bundle/v1/aa", fs::perms::owner_all);
  testing::write_file(dir / "bundle/v1/aa" / (name + ".lathe"), bytes);
  testing::write_file(dir / "bundle/manifest", manifest_text({{name, bytes.size(), sha256_of(bytes)}}));
  chmod((dir / "bundle/manifest").c_str(), 0600);
  chmod((dir / "bundle/v1/aa" / (name + ".lathe")).c_str(), 0600);
  const auto bundle = Bundle::open(real_fs(), dir / "bundle", Trust{geteuid()});
  ASSERT_TRUE(bundle.ok()) << bundle.status().to_string();
  EXPECT_EQ(bundle->read(name).outcome, FileRead::Outcome::whole);
  EXPECT_EQ(bundle->entry(name).status().code(), Code::invalid_argument);
}

TEST(Seldom, TransfersSayWhyTheyCannot) {
  TempDir dir;
  Warnings warnings;
  DiskCache from(at(dir / "root"));
  ASSERT_TRUE(from.store(entry_for("a", 1, 3000)));
  std::ofstream(dir / "file") << "in the way";
  EXPECT_EQ(export_bundle(from, {}, dir / "file").status().code(), Code::unavailable);
  ASSERT_TRUE(export_bundle(from, {}, dir / "bundle").ok());
  const auto bundle = Bundle::open(real_fs(), dir / "bundle", Trust{geteuid()});
  ASSERT_TRUE(bundle.ok());
  CacheOptions off;
  off.mode = CacheMode::off;
  DiskCache nowhere(off);
  EXPECT_THAT(import_bundle(*bundle, nowhere).status().message(), HasSubstr("off"));
  FaultyFs full;
  DiskCache into(at(dir / "into"), {full});
  full.fail_at = full.calls() + 1;
  full.error = ENOSPC;
  full.persistent = true;
  EXPECT_THAT(import_bundle(*bundle, into).status().message(), HasSubstr("could not be written"));
}

}  // namespace
}  // namespace lathe
