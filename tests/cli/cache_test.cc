#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "program.h"

namespace lathe::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

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
