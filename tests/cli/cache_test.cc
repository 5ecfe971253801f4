#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "program.h"

namespace lathe::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// The one entry below a cache root.
fs::path entry_below(const fs::path& root) {
  for (const auto& found : fs::recursive_directory_iterator(root)) {
    if (found.is_regular_file() && found.file_size() > 1000) return found.path();
  }
  return {};
}

// The first word of the second line: the name of the first entry.
std::string first_name(const std::string& listing) {
  const size_t at = listing.find('\n') + 1;
  return listing.substr(at, listing.find(' ', at) - at);
}

TEST(CacheCommand, ListsAndInspects) {
  Program lathe;
  ASSERT_EQ(lathe.run({"compile", "--spec", kSpec}).exit_code, 0);
  const Ran listed = lathe.run({"cache", "ls"});
  EXPECT_EQ(listed.exit_code, 0) << listed.err;
  EXPECT_THAT(listed.out, AllOf(HasSubstr("1 entry, "), HasSubstr("attention f16 64/64"), HasSubstr(lathe.cache().string())));
  const Ran inspected = lathe.run({"cache", "inspect", first_name(listed.out)});
  EXPECT_EQ(inspected.exit_code, 0) << inspected.err;
  EXPECT_THAT(inspected.out, AllOf(HasSubstr("family"), HasSubstr("metadata"), HasSubstr("payload: ")));
}

TEST(CacheCommand, ADamagedEntryIsSaidToBe) {
  Program lathe;
  ASSERT_EQ(lathe.run({"compile", "--spec", kSpec}).exit_code, 0);
  const std::string name = first_name(lathe.run({"cache", "ls"}).out);
  const fs::path entry = entry_below(lathe.cache());
  ASSERT_FALSE(entry.empty());
  {
    std::fstream file(entry, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(500);
    file.put('\x7f');
    file.put('\x01');
  }
  const Ran listed = lathe.run({"cache", "ls"});
  EXPECT_EQ(listed.exit_code, 0);
  EXPECT_THAT(listed.out, AllOf(HasSubstr("not usable"), HasSubstr("1 entry, ")));
  const Ran inspected = lathe.run({"cache", "inspect", name});
  EXPECT_EQ(inspected.exit_code, 1);
  EXPECT_EQ(inspected.out, "");
  EXPECT_NE(inspected.err, "");
}

TEST(CacheCommand, VerifyReadsEverything) {
  Program lathe;
  EXPECT_EQ(lathe.run({"cache", "verify"}).exit_code, 1) << "there is none yet";
  ASSERT_EQ(lathe.run({"compile", "--spec", kSpec}).exit_code, 0);
  const Ran good = lathe.run({"cache", "verify"});
  EXPECT_EQ(good.exit_code, 0) << good.err;
  EXPECT_THAT(good.out, AllOf(HasSubstr("1 sound"), HasSubstr("0 not")));
  std::ofstream(entry_below(lathe.cache()), std::ios::app) << "x";
  const Ran bad = lathe.run({"cache", "verify"});
  EXPECT_EQ(bad.exit_code, 1);
  EXPECT_THAT(bad.out, AllOf(HasSubstr("its header says"), HasSubstr("1 not")));
}

TEST(CacheCommand, Trims) {
  Program lathe;
  EXPECT_EQ(lathe.run({"cache", "trim"}).exit_code, 1) << "there is none yet";
  EXPECT_FALSE(fs::exists(lathe.cache()));
  ASSERT_EQ(lathe.run({"compile", "--spec", kSpec}).exit_code, 0);
  ASSERT_EQ(lathe.run({"compile", "--spec", R"({"op":"merge"})"}).exit_code, 0);
  for (const char* size : {"x", "-1", "2T", ""}) {
    if (*size != 0) {
      EXPECT_EQ(lathe.run({"cache", "trim", "--to", size}).exit_code, 2) << size;
    }
  }
  EXPECT_THAT(lathe.run({"cache", "trim", "--to", "1G"}).out, HasSubstr("removed 0 entries"));
  const Ran trimmed = lathe.run({"cache", "trim", "--to", "1"});
  EXPECT_EQ(trimmed.exit_code, 0) << trimmed.err;
  EXPECT_THAT(trimmed.out, AllOf(HasSubstr("removed 1 entry"), HasSubstr("left 1 entry")));
}

TEST(CacheCommand, WhyNamesWhatDiffers) {
  Program lathe;
  const Ran none = lathe.run({"cache", "why", "--spec", kSpec});
  EXPECT_EQ(none.exit_code, 0) << none.err;
  EXPECT_THAT(none.out, AllOf(HasSubstr("it is not there"), HasSubstr("nothing of this family")));
  EXPECT_FALSE(fs::exists(lathe.cache()));
  ASSERT_EQ(lathe.run({"compile", "--spec", kSpec}).exit_code, 0);
  EXPECT_THAT(lathe.run({"cache", "why", "--spec", kSpec}).out, HasSubstr("it is there"));
  std::string other = kSpec;
  other.replace(other.find("\"group_size\":2"), 14, "\"group_size\":4");
  const Ran ran = lathe.run({"cache", "why", "--spec", other});
  EXPECT_THAT(ran.out,
              AllOf(HasSubstr("it is not there"), HasSubstr("nearest: "), HasSubstr("\n  group_size: asked for 4, kept 2\n"),
                    HasSubstr("source_xxh3: asked for "), HasSubstr("attention f16 64/64"), Not(HasSubstr("canonical"))));
  EXPECT_THAT(ran.out, Not(HasSubstr("compiler: "))) << "the same for both";
  EXPECT_EQ(lathe.run({"cache", "why", lathe.file("other.json", other)}).out, ran.out) << "without --spec";
  const Ran without = lathe.run({"cache", "why", "--spec", kSpec}, {{"LATHE_CXX", "/nonexistent/c++"}});
  EXPECT_THAT(without.out, AllOf(HasSubstr("by any compiler"), HasSubstr("it is there")));
  EXPECT_EQ(lathe.run({"cache", "why", "--spec", "{}x"}).exit_code, 2);
}

TEST(CacheCommand, WhyShowsHooksAndTheLogNamesFields) {
  Program lathe;
  ASSERT_EQ(lathe.run({"compile", "--spec", kSpec}).exit_code, 0);
  std::string other = kSpec;
  other.insert(1, R"("hooks":"param c: f32 in [1, 64]; logits = c * score",)");
  EXPECT_THAT(lathe.run({"cache", "why", other}).out,
              AllOf(HasSubstr("  hooks.params: asked for param p0: f32 in [1.0, 64.0], kept nothing\n"),
                    HasSubstr("  hooks.logits: asked for "), HasSubstr(", kept nothing\n")));
  EXPECT_THAT(lathe.run({"compile", "--spec", other}).err,
              HasSubstr("differs in canonical (hooks.params, hooks.logits), source_bytes, source_xxh3"));
}

// What a cache's file says of its key is anybody's: the digest of the key's name is checked where a kernel is used, not here.
TEST(CacheCommand, WhySurvivesGarbledCanonicalBytes) {
  Program lathe;
  ASSERT_EQ(lathe.run({"compile", "--spec", R"({"op":"merge"})"}).exit_code, 0);
  const fs::path entry = entry_below(lathe.cache());
  std::string bytes;
  {
    std::ifstream in(entry, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  const size_t at = bytes.find(std::string("merge\0\1\0\1", 9));
  ASSERT_NE(at, std::string::npos);
  for (const auto& [place, byte] : {std::pair{8, '\x4d'}, {9, '\xff'}, {12, '\xff'}, {13, '\x63'}}) {
    std::string garbled = bytes;
    garbled[at + static_cast<size_t>(place)] = byte;
    std::ofstream(entry, std::ios::binary) << garbled;
    const Ran ran = lathe.run({"cache", "why", R"({"op":"merge","head_dim":64})"});
    EXPECT_EQ(ran.exit_code, 0) << place << ran.err;
    EXPECT_THAT(ran.out, HasSubstr("it is not there")) << place;
  }
}

TEST(CacheCommand, ExportsAndImports) {
  Program lathe, other;
  ASSERT_EQ(lathe.run({"compile", "--spec", kSpec}).exit_code, 0);
  const std::string bundle = (lathe.cache().parent_path() / "a bundle").string();
  const Ran out = lathe.run({"cache", "export", bundle});
  ASSERT_EQ(out.exit_code, 0) << out.err;
  const size_t at = out.out.find("SHA-256 ");
  ASSERT_NE(at, std::string::npos);
  const std::string digest = out.out.substr(at + 8, 64);
  EXPECT_EQ(other.run({"cache", "import", bundle, "--sha256", std::string(64, '0')}).exit_code, 2);
  EXPECT_FALSE(fs::exists(other.cache()));
  const Ran in = other.run({"cache", "import", bundle, "--sha256", digest});
  ASSERT_EQ(in.exit_code, 0) << in.err;
  EXPECT_THAT(other.run({"compile", "--spec", kSpec}).out, HasSubstr("disk cache"));
  const fs::path entry = entry_below(bundle + "/v1");
  std::ofstream(entry, std::ios::app) << "x";
  Program third;
  EXPECT_EQ(third.run({"cache", "import", bundle}).exit_code, 2);
  EXPECT_EQ(third.run({"cache", "import", "/nonexistent"}).exit_code, 1);
}

TEST(CacheCommand, BadNamesAndNoCache) {
  Program lathe;
  EXPECT_EQ(lathe.run({"cache", "ls"}).exit_code, 1);  // there is none yet
  EXPECT_FALSE(fs::exists(lathe.cache()));
  ASSERT_EQ(lathe.run({"compile", "--spec", kSpec}).exit_code, 0);
  for (const char* name : {"x", "../../etc/passwd", "00000000000000000000000000000000", "ABCDEF"}) {
    const Ran ran = lathe.run({"cache", "inspect", name});
    EXPECT_EQ(ran.exit_code, 1) << name;
    EXPECT_NE(ran.err, "") << name;
  }
}

}  // namespace
}  // namespace lathe::testing
