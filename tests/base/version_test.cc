#include "lathe/base/version.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <string>

namespace lathe {
namespace {

TEST(Version, IsTheProjectsAndHeadsTheChangelog) {
  int major = 0, minor = 0, patch = 0, end = 0;
  ASSERT_EQ(std::sscanf(version(), "%d.%d.%d%n", &major, &minor, &patch, &end), 3) << version();
  EXPECT_EQ(version()[end], '\0') << version();

  std::ifstream changes(LATHE_SOURCE_DIR "/CHANGELOG.md");
  ASSERT_TRUE(changes) << "no CHANGELOG.md in " LATHE_SOURCE_DIR;
  std::string line;
  while (std::getline(changes, line) && line.rfind("## ", 0) != 0) {
  }
  EXPECT_EQ((line + " ").rfind("## " + std::string(version()) + " ", 0), 0u) << "newest heading: " << line;
}

}  // namespace
}  // namespace lathe
