// README says what the code says: its list of knobs is the table's, its example is the one that is compiled and run.

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "lathe/base/knobs.h"

namespace lathe {
namespace {

std::string read(const std::string& name) {
  std::ifstream file(LATHE_SOURCE_DIR "/" + name);
  EXPECT_TRUE(file) << "cannot read " << name;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// The text between the first line `from` and the next line `to`, both left out.
std::string between(const std::string& text, const std::string& from, const std::string& to) {
  size_t begin = text.find("\n" + from + "\n");
  if (begin == std::string::npos) return "(no line " + from + ")";
  begin += from.size() + 2;
  size_t end = text.find("\n" + to + "\n", begin);
  return end == std::string::npos ? "(no line " + to + ")" : text.substr(begin, end + 1 - begin);
}

std::string cell(std::string text) {
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.insert(at, "\\");
  return text;
}

TEST(Readme, KnobsAreTheTable) {
  std::string rows;
  for (const Knob& knob : knobs()) {
    rows +=
        "| `" + std::string(knob.name) + "` | " + cell(knob.values) + " | " + cell(knob.preset) + " | " + cell(knob.doc) + " |\n";
  }
  EXPECT_EQ(between(read("README.md"), "|---|---|---|---|", ""), rows) << "README.md's list of knobs should be:\n" << rows;
}

TEST(Readme, ExampleIsTheOneThatIsTested) {
  std::string source = read("examples/start.cc");
  size_t begin = source.find("int main() {");
  ASSERT_NE(begin, std::string::npos);
  EXPECT_EQ(between(read("README.md"), "```cpp", "```"), source.substr(begin));
}

}  // namespace
}  // namespace lathe
