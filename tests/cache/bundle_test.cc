// Bundles: what is in one is served, and nothing that is not exactly what its manifest says.
#include "lathe/cache/bundle.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <ostream>
#include <random>
#include <string>

#include "lathe/cache/bundle_transfer.h"
#include "lathe/cache/disk_cache.h"
#include "lathe/testing/seed.h"
#include "lathe/testing/temp_dir.h"
#include "support.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using testing::entry_for;
using ::testing::HasSubstr;
using testing::TempDir;
using testing::Warnings;

const Trust kUs{geteuid()};

CacheOptions at(const fs::path& root, std::vector<std::string> bundles = {}) {
  CacheOptions options;
  options.root = root.string();
  options.bundles = std::move(bundles);
  return options;
}

std::string key_of(int i) {
  return "key " + std::to_string(i);
}

// A bundle of `count` entries.
void make_bundle(const fs::path& path, int count, int version = 1) {
  CacheOptions options = at(path);
  options.lock_wait_ms = 0;
  DiskCache cache(options);
  for (int i = 0; i < count; i++) ASSERT_TRUE(cache.store(entry_for(key_of(i), version, 1000)));
  auto sealed = seal_bundle(real_fs(), path.string(), kUs);
  ASSERT_TRUE(sealed.ok()) << sealed.status().to_string();
  EXPECT_EQ(sealed->entries, static_cast<uint64_t>(count));
  EXPECT_TRUE(sealed->left_out.empty());
}

std::string text_of(const fs::path& file) {
  const Bytes bytes = testing::file_bytes(file);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(Bundle, IsServedWhereverItLies) {
  TempDir dir;
  make_bundle(dir / "made", 3);
  fs::copy(dir / "made", dir / "copied here", fs::copy_options::recursive);
  fs::remove_all(dir / "made");
  DiskCache cache(at(dir / "root", {dir / "copied here"}));
  for (int i = 0; i < 3; i++) EXPECT_TRUE(testing::equal(*cache.find(key_of(i)), entry_for(key_of(i), 1, 1000)));
  EXPECT_FALSE(cache.find(key_of(3)));
  EXPECT_EQ(cache.stats().hits, 3u);
  EXPECT_TRUE(cache.list().empty()) << "nothing is copied into the root";
  EXPECT_EQ(cache.keys().size(), 3u);
  EXPECT_EQ(cache.find_prefix("key 2")->key, "key 2");
}

TEST(Bundle, GoesBeforeTheRootAndInOrder) {
  TempDir dir;
  make_bundle(dir / "a", 1, 1);
  make_bundle(dir / "b", 2, 2);
  DiskCache cache(at(dir / "root", {dir / "a", dir / "b"}));
  for (int i = 0; i < 3; i++) ASSERT_TRUE(cache.store(entry_for(key_of(i), 3, 1000)));
  for (int i = 0; i < 3; i++) EXPECT_TRUE(testing::equal(*cache.find(key_of(i)), entry_for(key_of(i), i + 1, 1000)));
  cache.reject(key_of(0), entry_for(key_of(0), 1, 1000).payload);
  EXPECT_TRUE(testing::equal(*cache.find(key_of(0)), entry_for(key_of(0), 2, 1000))) << "past one that a driver refused";
}

TEST(Bundle, ServesInEveryMode) {
  TempDir dir;
  make_bundle(dir / "a", 1);
  for (CacheMode mode : {CacheMode::read_write, CacheMode::read_only, CacheMode::off}) {
    CacheOptions options = at(dir / "root", {dir / "a"});
    options.mode = mode;
    EXPECT_TRUE(DiskCache(options).find(key_of(0)));
  }
}

TEST(Bundle, IsNeverWritten) {
  TempDir dir;
  make_bundle(dir / "a", 1);
  const std::string name = Bundle::open(real_fs(), (dir / "a").string(), kUs)->items()[0].name;
  const fs::path file = dir / "a" / "v1" / name.substr(0, 2) / (name + ".lathe");
  const timespec old[] = {{1000, 0}, {1000, 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, file.c_str(), old, 0), 0);
  {
    DiskCache cache(at(dir / "root", {dir / "a"}));
    EXPECT_TRUE(cache.find(key_of(0)));
    EXPECT_TRUE(cache.store(entry_for("other", 1, 100)));
    EXPECT_TRUE(cache.trim(1));
    cache.reject(key_of(0), entry_for(key_of(0), 1, 1000).payload);
  }
  struct stat found {};
  ASSERT_EQ(stat(file.c_str(), &found), 0);
  EXPECT_EQ(found.st_mtim.tv_sec, 1000);
  EXPECT_EQ(std::distance(fs::directory_iterator(dir / "a"), {}), 2) << "the manifest and the entries";
}

// What a hostile bundle does, and whether all of it is refused or the one entry. Entry 0 is the victim.
struct Hostile {
  const char* name;
  const char* says;
  std::function<void(const fs::path& bundle, const fs::path& entry)> make;
  bool whole = true;
  bool needs_superuser = false;
};

std::vector<Hostile> hostile_bundles() {
  auto manifest = [](std::function<void(std::string&, const std::string& name)> change) {
    return [change](const fs::path& bundle, const fs::path& entry) {
      std::string text = text_of(bundle / "manifest");
      change(text, entry.stem().string());
      testing::write_file(bundle / "manifest", text);
    };
  };
  auto named = [&](const std::string& other) {
    return manifest([other](std::string& text, const std::string& name) { text.replace(text.find(name), name.size(), other); });
  };
  auto sized = [&](const std::string& bytes) {
    return manifest([bytes](std::string& text, const std::string& name) {
      const size_t end = text.find(" " + name), begin = text.rfind(' ', end - 1) + 1;
      text.replace(begin, end - begin, bytes);
    });
  };
  auto entry_bytes = [](std::function<void(Bytes&)> change) {
    return [change](const fs::path&, const fs::path& entry) {
      Bytes bytes = testing::file_bytes(entry);
      change(bytes);
      testing::write_file(entry, bytes);
    };
  };
  auto moved_aside = [](const fs::path& what, const fs::path& to) {
    fs::rename(what, to);
    fs::create_symlink(to, what);
  };
  return {
      {"NameThatClimbs", "line", named("../../../../../../../../etc/pass")},
      {"NameThatIsAPath", "line", named("/etc/passwd")},
      {"NameWithASlash", "line", named("ab/cdef0123456789abcdef0123456789")},
      {"NameInCapitals", "line", named("ABCDEF0123456789ABCDEF0123456789")},
      {"NameEmpty", "line", named("")},
      {"NameTooLong", "line", named(std::string(33, 'a'))},
      {"SizeAbsurd", "at most", sized("18446744073709551615")},
      {"SizeOverflows", "line", sized("18446744073709551616")},
      {"SizeNegative", "line", sized("-1")},
      {"SizeWithZeros", "line", sized("0001056")},
      {"SumAbsurd", "at most",
       [](const fs::path& bundle, const fs::path&) {
         std::string text = text_of(bundle / "manifest");
         text.resize(text.find('\n') + 1);
         for (int i = 0; i < 100; i++) {
           std::string digits = std::to_string(100 + i);
           text += std::string(64, 'a') + " 268435456 " + std::string(32 - digits.size(), '0') + digits + "\n";
         }
         testing::write_file(bundle / "manifest", text);
       }},
      {"NotInOrder", "order", manifest([](std::string& text, const std::string&) {
         const size_t first = text.find('\n') + 1, second = text.find('\n', first) + 1;
         text += text.substr(first, second - first);
       })},
      {"NameTwice", "order", manifest([](std::string& text, const std::string&) {
         const size_t first = text.find('\n') + 1, second = text.find('\n', first) + 1;
         text.insert(second, text.substr(first, second - first));
       })},
      {"ManifestCutOff", "cut off", manifest([](std::string& text, const std::string&) { text.pop_back(); })},
      {"ManifestEmpty", "missing", manifest([](std::string& text, const std::string&) { text.clear(); })},
      {"ManifestOfAnotherVersion", "reads", manifest([](std::string& text, const std::string&) { text[13] = '2'; })},
      {"ManifestHuge", "at most",
       [](const fs::path& bundle, const fs::path&) { EXPECT_EQ(truncate((bundle / "manifest").c_str(), off_t{1} << 40), 0); }},
      {"ManifestMissing", "No such file", [](const fs::path& bundle, const fs::path&) { fs::remove(bundle / "manifest"); }},
      {"ManifestIsALink", "symbolic link",
       [&](const fs::path& bundle, const fs::path&) {
         fs::rename(bundle / "manifest", bundle / "moved");
         fs::create_symlink("moved", bundle / "manifest");
       }},
      {"ManifestIsAFifo", "regular",
       [](const fs::path& bundle, const fs::path&) {
         fs::remove(bundle / "manifest");
         EXPECT_EQ(mkfifo((bundle / "manifest").c_str(), 0600), 0);
       }},
      {"ManifestWritableByAll", "every user",
       [](const fs::path& bundle, const fs::path&) { fs::permissions(bundle / "manifest", fs::perms(0666)); }},
      {"FolderWritableByAll", "every user",
       [](const fs::path& bundle, const fs::path&) { fs::permissions(bundle, fs::perms(0777)); }},
      {"FolderIsALink", "symbolic link",
       [moved_aside](const fs::path& bundle, const fs::path&) { moved_aside(bundle, bundle.string() + " moved"); }},
      {"ForeignOwner", "belongs to",
       [](const fs::path& bundle, const fs::path&) { EXPECT_EQ(chown(bundle.c_str(), testing::kOtherUser, 0), 0); }, true, true},
      {"WrongDigest", "SHA-256", manifest([](std::string& text, const std::string& name) {
         char& digit = text[text.find(name) - 10 - 1];
         digit = digit == 'f' ? 'e' : 'f';
       }),
       false},
      {"FlippedBit", "SHA-256", entry_bytes([](Bytes& b) { b[b.size() / 2] ^= std::byte{4}; }), false},
      {"AnotherWholeEntry", "SHA-256",
       [](const fs::path&, const fs::path& entry) {
         const Entry forged = entry_for(key_of(0), 7, 1000);  // a right checksum, the right size, and not what was shipped
         testing::write_file(entry, encode(forged));
       },
       false},
      {"Truncated", "manifest says", entry_bytes([](Bytes& b) { b.resize(b.size() / 2); }), false},
      {"Sparse", "more than any entry",
       [](const fs::path&, const fs::path& entry) { EXPECT_EQ(truncate(entry.c_str(), off_t{1} << 40), 0); }, false},
      {"EntryMissing", "missing", [](const fs::path&, const fs::path& entry) { fs::remove(entry); }, false},
      {"EntryIsALink", "symbolic link",
       [moved_aside](const fs::path&, const fs::path& entry) { moved_aside(entry, entry.string() + ".moved"); }, false},
  };
}

// Names the case in ctest's list.
void PrintTo(const Hostile& hostile, std::ostream* out) {
  *out << hostile.name;
}

class HostileBundle : public ::testing::TestWithParam<Hostile> {};

TEST_P(HostileBundle, IsRefused) {
  const Hostile& hostile = GetParam();
  if (hostile.needs_superuser && geteuid() != 0) GTEST_SKIP() << "needs the superuser, to give files away";
  TempDir dir;
  make_bundle(dir / "bundle", 3);
  const std::string name = digest_of(std::as_bytes(std::span(std::string_view("key 0")))).hex();
  hostile.make(dir / "bundle", dir / "bundle" / "v1" / name.substr(0, 2) / (name + ".lathe"));

  auto opened = Bundle::open(real_fs(), (dir / "bundle").string(), kUs);
  EXPECT_EQ(opened.ok(), !hostile.whole);
  const Status status = opened ? opened->entry(name).status() : opened.status();
  EXPECT_THAT(status.to_string(), HasSubstr(hostile.says));

  Warnings warnings;
  DiskCache cache(at(dir / "root", {dir / "bundle"}));
  EXPECT_EQ(cache.bundles().size(), hostile.whole ? 0u : 1u);
  EXPECT_EQ(cache.bundle_troubles().size(), hostile.whole ? 1u : 0u);
  EXPECT_FALSE(cache.find(key_of(0)));
  EXPECT_FALSE(cache.find(key_of(0)));
  EXPECT_EQ(warnings.all().size(), 1u);
  EXPECT_EQ(cache.find(key_of(1)).has_value(), !hostile.whole) << "the others are as good as they were";
  EXPECT_TRUE(cache.store(entry_for(key_of(0), 5, 100)));
  EXPECT_TRUE(cache.find(key_of(0))) << "the root goes on";
}

INSTANTIATE_TEST_SUITE_P(, HostileBundle, ::testing::ValuesIn(hostile_bundles()));

// A sound file whose key belongs elsewhere: pinned by the manifest, and still not the entry that its name stands for.
TEST(Bundle, AnEntryUnderAnotherKeysNameIsNotTaken) {
  TempDir dir;
  make_bundle(dir / "bundle", 2);
  DiskCache view(at(dir / "bundle"));
  fs::copy_file(view.path_of(key_of(1)), view.path_of(key_of(0)), fs::copy_options::overwrite_existing);
  auto sealed = seal_bundle(real_fs(), (dir / "bundle").string(), kUs);
  ASSERT_TRUE(sealed.ok());
  EXPECT_EQ(sealed->entries, 1u);
  ASSERT_EQ(sealed->left_out.size(), 1u);
  EXPECT_THAT(sealed->left_out[0], HasSubstr("another entry"));
  DiskCache cache(at(dir / "root", {dir / "bundle"}));
  EXPECT_FALSE(cache.find(key_of(0)));
  EXPECT_TRUE(cache.find(key_of(1)));
}

TEST(Transfer, OutAndInAgain) {
  TempDir dir;
  DiskCache from(at(dir / "from"));
  for (int i = 0; i < 5; i++) ASSERT_TRUE(from.store(entry_for(key_of(i), i, 1000)));
  auto all = export_bundle(from, {}, dir / "bundle");
  ASSERT_TRUE(all.ok()) << all.status().to_string();
  EXPECT_EQ(all->entries, 5u);
  auto some = export_bundle(from, {from.list()[2].name}, dir / "small");
  ASSERT_TRUE(some.ok());
  EXPECT_EQ(some->entries, 1u);

  auto bundle = Bundle::open(real_fs(), dir / "bundle", kUs);
  ASSERT_TRUE(bundle.ok());
  EXPECT_EQ(bundle->digest(), all->digest);
  DiskCache into(at(dir / "into"));
  auto report = import_bundle(*bundle, into);
  ASSERT_TRUE(report.ok()) << report.status().to_string();
  EXPECT_EQ(report->entries, 5u);
  EXPECT_EQ(report->bytes, all->bytes);
  for (int i = 0; i < 5; i++) EXPECT_TRUE(testing::equal(*into.find(key_of(i)), entry_for(key_of(i), i, 1000)));
}

TEST(Transfer, TheSameEntriesGiveTheSameManifest) {
  TempDir dir;
  DiskCache one(at(dir / "one")), two(at(dir / "two"));
  for (int i = 0; i < 5; i++) ASSERT_TRUE(one.store(entry_for(key_of(i), i, 1000)));
  for (int i = 4; i >= 0; i--) ASSERT_TRUE(two.store(entry_for(key_of(i), i, 1000)));
  EXPECT_EQ(export_bundle(one, {}, dir / "a")->digest, export_bundle(two, {}, dir / "b")->digest);
}

TEST(Transfer, OneBadEntryKeepsAllOut) {
  TempDir dir;
  make_bundle(dir / "bundle", 5);
  auto bundle = Bundle::open(real_fs(), dir / "bundle", kUs);
  ASSERT_TRUE(bundle.ok());
  const fs::path file = DiskCache(at(dir / "bundle")).path_of(key_of(3));
  Bytes bytes = testing::file_bytes(file);
  bytes.back() ^= std::byte{1};
  testing::write_file(file, bytes);
  DiskCache into(at(dir / "into"));
  EXPECT_EQ(import_bundle(*bundle, into).status().code(), Code::invalid_argument);
  EXPECT_TRUE(into.list().empty());

  DiskCache from(at(dir / "from"));
  ASSERT_TRUE(from.store(entry_for("good", 1, 100)));
  ASSERT_TRUE(from.store(entry_for("bad", 1, 100)));
  std::ofstream(from.path_of("bad"), std::ios::app) << "grown";
  EXPECT_EQ(export_bundle(from, {}, dir / "out").status().code(), Code::invalid_argument);
  EXPECT_FALSE(fs::exists(dir / "out"));
  EXPECT_EQ(export_bundle(from, {"../../x"}, dir / "out").status().code(), Code::invalid_argument);
}

TEST(Transfer, NeedsACacheThatMayBeWritten) {
  TempDir dir;
  make_bundle(dir / "bundle", 1);
  auto bundle = Bundle::open(real_fs(), dir / "bundle", kUs);
  CacheOptions options = at(dir / "root");
  options.mode = CacheMode::off;
  DiskCache off(options);
  EXPECT_EQ(import_bundle(*bundle, off).status().code(), Code::unavailable);
}

TEST(Manifest, ReadsWhatItPrints) {
  std::mt19937_64 random(testing::seed());
  for (int trial = 0; trial < 100; trial++) {
    std::vector<BundleItem> items;
    for (uint64_t i = 0, count = random() % 20; i < count; i++) {
      BundleItem item{Digest{random(), random()}.hex(), random() % 1'000'000, {}};
      for (uint8_t& byte : item.digest.bytes) byte = static_cast<uint8_t>(random());
      items.push_back(item);
    }
    std::ranges::sort(items, {}, &BundleItem::name);
    auto parsed = parse_manifest(manifest_text(items));
    ASSERT_TRUE(parsed.ok()) << parsed.status().to_string();
    EXPECT_EQ(*parsed, items);
  }
}

// Whatever a change of the text does, it is refused or says something else: no two texts mean the same bundle.
TEST(Manifest, NoTwoTextsMeanTheSame) {
  std::mt19937_64 random(testing::seed());
  std::vector<BundleItem> items;
  for (uint64_t i = 0; i < 5; i++) items.push_back({Digest{i, random()}.hex(), random() % 1000, {}});
  const std::string text = manifest_text(items);
  int accepted = 0;
  for (int trial = 0; trial < 20'000; trial++) {
    std::string other = text;
    for (uint64_t i = 0, changes = 1 + random() % 3; i < changes; i++) {
      const size_t at = random() % other.size();
      switch (random() % 4) {
        case 0:
          other[at] = static_cast<char>(random());
          break;
        case 1:
          other[at] = "0123456789abcdef \n"[random() % 18];
          break;
        case 2:
          other.erase(at, 1 + random() % 3);
          break;
        default:
          other.insert(at, other.substr(random() % other.size(), random() % 80));
      }
    }
    auto parsed = parse_manifest(other);
    if (!parsed) continue;
    accepted++;
    ASSERT_EQ(manifest_text(*parsed), other);
  }
  EXPECT_GT(accepted, 0) << "some changes of a digit are sound";
}

}  // namespace
}  // namespace lathe
