#include "lathe/cache/root.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <ostream>
#include <string>

#include "lathe/testing/temp_dir.h"
#include "support.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::kOtherUser;
using testing::TempDir;
using testing::Warnings;

bool superuser() {
  return geteuid() == 0;
}

void make_directory(const fs::path& path, mode_t mode) {
  ASSERT_EQ(mkdir(path.c_str(), 0700), 0) << path;
  ASSERT_EQ(chmod(path.c_str(), mode), 0) << path;
}

// Everything below `path`, with kind, mode and size, so that "nothing was touched" can be compared.
std::string picture_of(const fs::path& path) {
  std::string out;
  for (const auto& item : fs::recursive_directory_iterator(path)) {
    struct stat found {};
    if (lstat(item.path().c_str(), &found) != 0) continue;
    out += item.path().string() + " " + std::to_string(found.st_mode) + " " + std::to_string(found.st_uid) + " " +
           std::to_string(S_ISDIR(found.st_mode) ? 0 : found.st_size) + "\n";
  }
  return out;
}

// Makes the hostile thing in an empty folder and returns the root to ask for.
struct Hostile {
  const char* name;
  const char* says;  // part of the warning
  std::function<std::string(const fs::path&)> make;
  bool needs_superuser = false;
};

std::vector<Hostile> hostile_roots() {
  auto mode = [](mode_t bits) {
    return [bits](const fs::path& in) {
      make_directory(in / "root", bits);
      return (in / "root").string();
    };
  };
  auto owned_by = [](int user, mode_t bits) {
    return [user, bits](const fs::path& in) {
      make_directory(in / "root", bits);
      EXPECT_EQ(chown((in / "root").c_str(), static_cast<uid_t>(user), static_cast<gid_t>(user)), 0);
      return (in / "root").string();
    };
  };
  auto link_to_good = [](const char* suffix) {
    return [suffix](const fs::path& in) {
      make_directory(in / "good", 0700);
      fs::create_symlink("good", in / "root");
      return (in / "root").string() + suffix;
    };
  };
  return {
      {"EveryUserMayWrite", "every user may write", mode(0777)},
      {"Sticky", "every user may write", mode(01777)},
      {"GroupMayWrite", "LATHE_CACHE_SHARED", mode(0770)},
      {"SetgidGroupMayWrite", "LATHE_CACHE_SHARED", mode(02775)},
      {"OnlyOthersMayWrite", "every user may write", mode(0702)},
      {"ForeignOwner", "belongs to user 54321", owned_by(kOtherUser, 0700), true},
      {"ForeignOwnerReadable", "belongs to user 54321", owned_by(kOtherUser, 0755), true},
      {"Symlink", "symbolic link", link_to_good("")},
      {"SymlinkWithSlash", "symbolic link", link_to_good("/")},
      {"SymlinkWithDot", "symbolic link", link_to_good("/././/")},
      {"DanglingSymlink", "symbolic link",
       [](const fs::path& in) {
         fs::create_symlink("nowhere", in / "root");
         return (in / "root").string();
       }},
      {"SymlinkToItself", "symbolic link",
       [](const fs::path& in) {
         fs::create_symlink("root", in / "root");
         return (in / "root").string();
       }},
      {"RegularFile", "not a directory",
       [](const fs::path& in) {
         testing::write_file(in / "root", "canary");
         return (in / "root").string();
       }},
      {"BelowARegularFile", "Not a directory",
       [](const fs::path& in) {
         testing::write_file(in / "file", "canary");
         return (in / "file" / "root").string();
       }},
      {"Fifo", "not a directory",
       [](const fs::path& in) {
         EXPECT_EQ(mkfifo((in / "root").c_str(), 0600), 0);
         return (in / "root").string();
       }},
      {"BelowADanglingSymlink", "No such file",
       [](const fs::path& in) {
         fs::create_symlink("nowhere", in / "link");
         return (in / "link" / "root").string();
       }},
      {"RelativePath", "not an absolute path", [](const fs::path&) { return std::string("some/root"); }},
      {"NulByte", "NUL", [](const fs::path& in) { return (in / "root").string() + std::string("\0/x", 3); }},
      {"NameTooLong", "too long", [](const fs::path& in) { return (in / std::string(300, 'a')).string(); }},
      {"DeviceFile", "not a directory", [](const fs::path&) { return std::string("/dev/null"); }},
  };
}

// Names the case in ctest's list.
void PrintTo(const Hostile& hostile, std::ostream* out) {
  *out << hostile.name;
}

class HostileRoot : public ::testing::TestWithParam<Hostile> {};

TEST_P(HostileRoot, IsMemoryOnlyWithOneWarningAndUntouched) {
  const Hostile& hostile = GetParam();
  if (hostile.needs_superuser && !superuser()) GTEST_SKIP() << "needs the superuser, to give files away";
  TempDir dir;
  const std::string root = hostile.make(dir.path());
  const std::string before = picture_of(dir.path());

  Warnings warnings;
  for (CacheMode mode : {CacheMode::read_write, CacheMode::read_only}) {
    DiskCache cache({root, mode, false});
    EXPECT_FALSE(cache.on_disk());
    EXPECT_FALSE(cache.writable());
    EXPECT_THAT(cache.why_off(), HasSubstr(hostile.says));
    EXPECT_FALSE(cache.store(testing::entry_for("k", 1, 10)));
    EXPECT_FALSE(cache.find("k"));
    EXPECT_EQ(cache.path_of("k"), "");
    EXPECT_TRUE(cache.list().empty());
    EXPECT_EQ(cache.read_file(std::string(32, '0')).status().code(), Code::unavailable);
    EXPECT_EQ(cache.stats().misses, 1u);
    EXPECT_EQ(cache.stats().stores, 0u);
  }
  ASSERT_EQ(warnings.all().size(), 1u);
  EXPECT_THAT(warnings.all()[0], HasSubstr(hostile.says));
  EXPECT_EQ(picture_of(dir.path()), before);
  if (!HasFailure()) std::printf("1 root refused, with one warning, and untouched\n");
}

INSTANTIATE_TEST_SUITE_P(, HostileRoot, ::testing::ValuesIn(hostile_roots()));

TEST(Root, IsMadeWithItsParentsForUsAlone) {
  TempDir dir;
  mode_t old = umask(0);
  DiskCache cache({dir / "a/b//c/", CacheMode::read_write, false});
  umask(old);
  EXPECT_TRUE(cache.on_disk()) << cache.why_off();
  EXPECT_TRUE(cache.writable());
  for (const char* made : {"a", "a/b", "a/b/c"}) {
    struct stat found {};
    ASSERT_EQ(stat((dir / made).c_str(), &found), 0) << made;
    EXPECT_EQ(found.st_mode & 07777, 0700u) << made;
  }
}

TEST(Root, IsNotMadeForReading) {
  TempDir dir;
  Warnings warnings;
  DiskCache cache({dir / "root", CacheMode::read_only, false});
  EXPECT_FALSE(cache.on_disk());
  EXPECT_THAT(cache.why_off(), HasSubstr("No such file"));
  EXPECT_FALSE(fs::exists(dir / "root"));
  EXPECT_EQ(warnings.all().size(), 1u);
}

TEST(Root, HarmlessModesAreTrusted) {
  for (mode_t mode : {0700, 0755, 01755, 02755, 02750}) {
    TempDir dir;
    make_directory(dir / "root", mode);
    DiskCache cache({dir / "root", CacheMode::read_write, false});
    EXPECT_TRUE(cache.writable()) << std::oct << mode << ": " << cache.why_off();
  }
}

TEST(Root, SharedAcceptsTheGroupButNotEveryone) {
  TempDir dir;
  make_directory(dir / "group", 02770);
  make_directory(dir / "all", 0777);
  EXPECT_TRUE(DiskCache({dir / "group", CacheMode::read_write, true}).writable());
  Warnings warnings;
  EXPECT_FALSE(DiskCache({dir / "all", CacheMode::read_write, true}).on_disk());
}

// A parent may be a symlink, as /home often is: the trust check is on the directory that was opened.
TEST(Root, AParentMayBeASymlink) {
  TempDir dir;
  make_directory(dir / "real", 0700);
  fs::create_symlink("real", dir / "link");
  EXPECT_TRUE(DiskCache({dir / "link/root", CacheMode::read_write, false}).writable());
  EXPECT_TRUE(fs::exists(dir / "real/root"));
}

TEST(Root, OfTheSuperuserIsReadOnlyForOthers) {
  if (!superuser()) GTEST_SKIP() << "needs the superuser, to act as another user";
  TempDir dir;
  ASSERT_EQ(chmod(dir.path().c_str(), 0755), 0);
  make_directory(dir / "root", 0755);
  const Entry entry = testing::entry_for("k", 1, 100);
  ASSERT_TRUE(DiskCache({dir / "root", CacheMode::read_write, false}).store(entry));
  // As an image builder would leave it: readable, and nobody else's to write.
  for (const auto& item : fs::recursive_directory_iterator(dir / "root")) {
    fs::permissions(item.path(), item.is_directory() ? fs::perms(0755) : fs::perms(0644));
  }
  EXPECT_TRUE(testing::in_child(
      [&]() -> std::string {
        Warnings warnings;
        DiskCache cache({dir / "root", CacheMode::read_write, false});
        if (!cache.on_disk()) return cache.why_off();
        if (cache.writable()) return "is writable";
        for (int i = 0; i < 3; i++) {
          auto found = cache.find("k");
          if (!found || !testing::equal(*found, entry)) return "no hit";
          if (cache.store(testing::entry_for("other", 1, 10))) return "stored";
        }
        if (cache.stats().errors != 0) return "errors";
        return warnings.all().size() == 1 ? "" : "not one warning";
      },
      kOtherUser));
}

// A process may hold the capability to write anywhere without being the superuser.
TEST(Root, OfTheSuperuserIsReadOnlyEvenWhereWeCouldWrite) {
  if (!superuser()) GTEST_SKIP() << "needs the superuser, to own a root as the superuser";
  struct : testing::FaultyFs {
    uid_t getuid() override { return kOtherUser; }
    uid_t geteuid() override { return kOtherUser; }
  } capable;
  TempDir dir;
  make_directory(dir / "root", 0755);
  Warnings warnings;
  DiskCache cache({dir / "root", CacheMode::read_write, false}, {capable});
  EXPECT_TRUE(cache.on_disk());
  EXPECT_FALSE(cache.writable());
  EXPECT_EQ(warnings.all().size(), 1u);
}

TEST(Root, ThatWeMayNotWriteIsForReading) {
  TempDir dir;
  ASSERT_EQ(chmod(dir.path().c_str(), 0755), 0);
  make_directory(dir / "root", 0555);
  const int user = superuser() ? kOtherUser : -1;
  if (superuser()) {
    ASSERT_EQ(chown((dir / "root").c_str(), kOtherUser, kOtherUser), 0);
  }
  EXPECT_TRUE(testing::in_child(
      [&]() -> std::string {
        Warnings warnings;
        DiskCache cache({dir / "root", CacheMode::read_write, false});
        if (!cache.on_disk()) return cache.why_off();
        if (cache.writable() || cache.store(testing::entry_for("k", 1, 10))) return "writable";
        return warnings.all().size() == 1 ? "" : "not one warning";
      },
      user));
}

TEST(Root, InAnUnwritableParentIsMemoryOnly) {
  TempDir dir;
  ASSERT_EQ(chmod(dir.path().c_str(), 0555), 0);
  EXPECT_TRUE(testing::in_child(
      [&]() -> std::string {
        Warnings warnings;
        DiskCache cache({dir / "a/root", CacheMode::read_write, false});
        if (cache.on_disk()) return "is on disk";
        return warnings.all().size() == 1 ? "" : "not one warning";
      },
      superuser() ? kOtherUser : -1));
  ASSERT_EQ(chmod(dir.path().c_str(), 0700), 0);
}

// One process per case, as the environment belongs to the process.
std::string root_in(std::vector<std::pair<const char*, const char*>> environment) {
  for (const char* name : {"LATHE_CACHE_DIR", "XDG_CACHE_HOME", "HOME"}) unsetenv(name);
  for (auto [name, value] : environment) setenv(name, value, 1);
  Result<std::string> root = default_root(real_fs());
  return root ? *root : "none: " + root.status().message();
}

void expect_root(const std::string& expected, const std::vector<std::pair<const char*, const char*>>& environment, int user = -1) {
  EXPECT_TRUE(testing::in_child(
      [&]() -> std::string {
        std::string root = root_in(environment);
        return root == expected ? "" : "got " + root + ", expected " + expected;
      },
      user));
}

TEST(DefaultRoot, FollowsItsOrder) {
  expect_root("/c", {{"LATHE_CACHE_DIR", "/c"}, {"XDG_CACHE_HOME", "/x"}, {"HOME", "/h"}});
  expect_root("/x/lathe", {{"XDG_CACHE_HOME", "/x"}, {"HOME", "/h"}});
  expect_root("/h/.cache/lathe", {{"HOME", "/h"}});
}

TEST(DefaultRoot, PassesOverEmptyAndRelativeValues) {
  expect_root("/h/.cache/lathe", {{"LATHE_CACHE_DIR", ""}, {"XDG_CACHE_HOME", ""}, {"HOME", "/h"}});
  expect_root("/h/.cache/lathe", {{"XDG_CACHE_HOME", "rel"}, {"HOME", "/h"}});
  // A relative LATHE_CACHE_DIR was meant: it is refused when opened, not passed over.
  expect_root("rel", {{"LATHE_CACHE_DIR", "rel"}, {"HOME", "/h"}});
}

TEST(DefaultRoot, FallsBackToTheUserDatabase) {
  const passwd* us = getpwuid(geteuid());
  if (us == nullptr || us->pw_dir[0] != '/') GTEST_SKIP() << "this user has no home directory in the user database";
  const std::string expected = std::string(us->pw_dir) + "/.cache/lathe";
  expect_root(expected, {});
  expect_root(expected, {{"HOME", ""}});
  expect_root(expected, {{"HOME", "relative"}});
}

TEST(DefaultRoot, IsNoneForAUserWithoutHome) {
  if (!superuser()) GTEST_SKIP() << "needs the superuser, to become a user who is not in the user database";
  expect_root("none: no home directory: XDG_CACHE_HOME and HOME are unset, and the user database has none", {}, kOtherUser);
  EXPECT_TRUE(testing::in_child(
      [&]() -> std::string {
        root_in({});
        Warnings warnings;
        DiskCache cache(CacheOptions::from_environment());
        if (cache.on_disk() || !cache.root().empty() || cache.store(testing::entry_for("k", 1, 1))) return "is on disk";
        return warnings.all().size() == 1 ? "" : "not one warning";
      },
      kOtherUser));
}

TEST(DefaultRoot, IsNoneWithRaisedPrivileges) {
  if (!superuser()) GTEST_SKIP() << "needs the superuser, to differ in real and effective user";
  EXPECT_TRUE(testing::in_child([]() -> std::string {
    if (seteuid(kOtherUser) != 0) return "cannot change";
    std::string root = root_in({{"LATHE_CACHE_DIR", "/c"}, {"HOME", "/h"}});
    return root.starts_with("none: the process runs with another user's privileges") ? "" : root;
  }));
}

}  // namespace
}  // namespace lathe
