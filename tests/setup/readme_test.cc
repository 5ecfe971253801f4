// The pages say what is there: README's list of knobs is the table's, its example is the one that is compiled and run, every page
// of docs/ is in its index, and no link between pages is dead.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

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

std::vector<std::string> pages() {
  std::vector<std::string> names{"README.md", "SECURITY.md", "CHANGELOG.md"};
  for (const auto& entry : std::filesystem::directory_iterator(LATHE_SOURCE_DIR "/docs")) {
    if (entry.path().extension() == ".md") names.push_back("docs/" + entry.path().filename().string());
  }
  return names;
}

TEST(Docs, IndexNamesEveryPage) {
  std::string index = read("docs/README.md");
  for (const std::string& page : pages()) {
    if (page.rfind("docs/", 0) != 0 || page == "docs/README.md") continue;
    EXPECT_NE(index.find("](" + page.substr(5) + ")"), std::string::npos) << page << " is not in docs/README.md";
  }
}

// Without its blocks of code, in which "](" begins no link.
std::string prose(const std::string& text) {
  std::string out;
  bool code = false;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("```", 0) == 0) code = !code;
    if (!code) out += line + "\n";
  }
  return out;
}

TEST(Docs, LinksLeadSomewhere) {
  int links = 0;
  for (const std::string& page : pages()) {
    std::string text = prose(read(page));
    for (size_t at = 0; (at = text.find("](", at)) != std::string::npos; ++at) {
      size_t end = text.find_first_of(")#", at);
      if (end == std::string::npos) break;
      std::string link = text.substr(at + 2, end - at - 2);
      if (link.empty() || link.find("://") != std::string::npos) continue;
      ++links;
      EXPECT_TRUE(std::filesystem::exists(std::filesystem::path(LATHE_SOURCE_DIR "/" + page).parent_path() / link))
          << page << " links to " << link;
    }
  }
  EXPECT_GT(links, 3);
}

}  // namespace
}  // namespace lathe
