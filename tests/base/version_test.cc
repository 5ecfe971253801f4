#include "lathe/base/version.h"

#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <sstream>
#include <string>

namespace lathe {
namespace {

TEST(Version, IsTheProjectsAndHeadsTheChangelog) {
  EXPECT_TRUE(std::regex_match(version(), std::regex("[0-9]+\\.[0-9]+\\.[0-9]+"))) << version();
  std::ifstream file(LATHE_SOURCE_DIR "/CHANGELOG.md");
  ASSERT_TRUE(file) << "no CHANGELOG.md in " LATHE_SOURCE_DIR;
  std::stringstream text;
  text << file.rdbuf();
  std::smatch heading;
  std::string changes = text.str();
  ASSERT_TRUE(std::regex_search(changes, heading, std::regex("\n## ([0-9.]+)"))) << "CHANGELOG.md has no version heading";
  EXPECT_EQ(heading[1].str(), version());
}

}  // namespace
}  // namespace lathe
