// What is found in an entry's place and is no entry.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <ostream>
#include <string>

#include "lathe/cache/disk_cache.h"
#include "lathe/testing/temp_dir.h"
#include "support.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using testing::entry_for;
using testing::TempDir;
using testing::Warnings;

CacheOptions at(const fs::path& root) {
  CacheOptions options;
  options.root = root.string();
  return options;
}

// What stands in the entry's place: set aside by the first find, or, where its directory is not to be trusted, left alone.
struct Damage {
  const char* name;
  std::function<void(const fs::path&)> make;
  bool directory = false;  // the damage is to a directory: counted as a failed call, and the next store does not mend it
  bool needs_superuser = false;
};

std::vector<Damage> damages() {
  auto changed = [](std::function<void(Bytes&)> change) {
    return [change](const fs::path& file) {
      Bytes bytes = testing::file_bytes(file);
      change(bytes);
      testing::write_file(file, bytes);
    };
  };
  return {
      {"FlippedBit", changed([](Bytes& b) { b[b.size() / 2] ^= std::byte{1}; })},
      {"Truncated", changed([](Bytes& b) { b.pop_back(); })},
      {"Empty", changed([](Bytes& b) { b.clear(); })},
      {"Grown", changed([](Bytes& b) { b.push_back(std::byte{0}); })},
      {"ZeroFilled", changed([](Bytes& b) { std::fill(b.begin(), b.end(), std::byte{0}); })},
      {"OtherSchema", changed([](Bytes& b) { b[8] = std::byte{2}; })},
      {"HugeAndSparse", [](const fs::path& file) { ASSERT_EQ(truncate(file.c_str(), off_t{1} << 40), 0); }},
      {"WritableByAll", [](const fs::path& file) { ASSERT_EQ(chmod(file.c_str(), 0666), 0); }},
      {"ForeignOwner", [](const fs::path& file) { ASSERT_EQ(chown(file.c_str(), testing::kOtherUser, 0), 0); }, false, true},
      {"Fifo",
       [](const fs::path& file) {
         fs::remove(file);
         ASSERT_EQ(mkfifo(file.c_str(), 0600), 0);
       }},
      {"Symlink",
       [](const fs::path& file) {
         fs::rename(file, file.string() + ".moved");
         fs::create_symlink(file.string() + ".moved", file);
       }},
      {"Directory",
       [](const fs::path& file) {
         fs::remove(file);
         fs::create_directory(file);
         fs::permissions(file, fs::perms(0700));
       }},
      {"ShardIsASymlink",
       [](const fs::path& file) {
         fs::path shard = file.parent_path();
         fs::rename(shard, shard.string() + ".moved");
         fs::create_directory_symlink(shard.string() + ".moved", shard);
       },
       true},
      {"ShardIsWritableByAll", [](const fs::path& file) { ASSERT_EQ(chmod(file.parent_path().c_str(), 0777), 0); }, true},
      {"SchemaDirectoryIsASymlink",
       [](const fs::path& file) {
         fs::path schema = file.parent_path().parent_path();
         fs::rename(schema, schema.string() + ".moved");
         fs::create_directory_symlink(schema.string() + ".moved", schema);
       },
       true},
  };
}

// Names the case in ctest's list.
void PrintTo(const Damage& damage, std::ostream* out) {
  *out << damage.name;
}

class DamagedEntry : public ::testing::TestWithParam<Damage> {};

TEST_P(DamagedEntry, IsSetAsideWithOneWarningUntilStoredAgain) {
  const Damage& damage = GetParam();
  if (damage.needs_superuser && geteuid() != 0) GTEST_SKIP() << "needs the superuser, to give files away";
  TempDir dir;
  DiskCache cache(at(dir / "root"));
  const Entry entry = entry_for("k", 1, 1000);
  ASSERT_TRUE(cache.store(entry));
  damage.make(cache.path_of("k"));

  Warnings warnings;
  EXPECT_FALSE(cache.find("k"));
  EXPECT_FALSE(cache.find("k"));
  EXPECT_EQ(warnings.all().size(), 1u);
  EXPECT_EQ(cache.stats().misses, 2u);
  EXPECT_EQ(cache.stats().rejected, damage.directory ? 0u : 1u);
  EXPECT_EQ(cache.stats().quarantined, damage.directory ? 0u : 1u);
  EXPECT_EQ(cache.stats().errors, damage.directory ? 2u : 0u);
  EXPECT_FALSE(cache.read_file(digest_of(std::as_bytes(std::span(entry.key))).hex()).ok());
  const fs::path aside = fs::path(cache.path_of("k")).replace_extension(".bad");
  EXPECT_EQ(fs::exists(fs::symlink_status(aside)), !damage.directory) << "kept, to be looked at";

  EXPECT_EQ(cache.store(entry), !damage.directory);
  auto found = cache.find("k");
  EXPECT_EQ(found.has_value(), !damage.directory);
  if (found) {
    EXPECT_TRUE(testing::equal(*found, entry));
  }
  EXPECT_TRUE(testing::temporaries_in(dir.path()).empty());
}

INSTANTIATE_TEST_SUITE_P(, DamagedEntry, ::testing::ValuesIn(damages()));

}  // namespace
}  // namespace lathe
