// Names of files are anybody's: they are opened or refused, and nothing of them reaches source, pictures or JSON.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "lathe/expr_testing/hostile_texts.h"
#include "program.h"

namespace lathe::testing {
namespace {

using expr::testing::kMark;
using ::testing::HasSubstr;
using ::testing::Not;

/// Hostile strings that are names of files, a sample that has each beginning.
std::vector<std::string> hostile_names() {
  std::vector<std::string> out;
  const std::vector<std::string> strings = expr::testing::hostile_strings();
  for (size_t i = 0; i < strings.size(); i += 25) {
    if (strings[i].size() <= 255 && strings[i].find_first_of(std::string("/\0", 2)) == std::string::npos) out.push_back(strings[i]);
  }
  return out;
}

bool is_plain(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c == '\n' || (static_cast<uint8_t>(c) >= 0x20 && c != 0x7f); });
}

TEST(FileNames, ReachNoSourceAndNoPicture) {
  Program lathe;
  const std::vector<std::string> names = hostile_names();
  ASSERT_GE(names.size(), 30u);
  int pictures = 0;
  for (const std::string& name : names) {
    const std::string spec = lathe.file(name, R"({"hooks":"tensor t: i32[4]; mask = kv < t[1]"})");
    const Ran source = lathe.run({"source", "--spec", spec});
    EXPECT_EQ(source.exit_code, 0) << source.err;
    EXPECT_THAT(source.out, Not(HasSubstr(std::string(kMark))));
    const std::string numbers = lathe.file("t" + name, "1 2 3 4"), svg = lathe.file("s" + name, "");
    const Ran mask = lathe.run({"mask", "--json", "--expr", "tensor t: i32[4]; kv < t[1]", "--q-len", "8", "--kv-len", "8",
                                "--tensor", "t=" + numbers, "--svg", svg});
    EXPECT_EQ(mask.exit_code, 0) << mask.err;
    EXPECT_TRUE(nlohmann::json::accept(mask.out)) << mask.out;
    EXPECT_THAT(mask.out, Not(HasSubstr(std::string(kMark))));
    std::ifstream stream(svg);
    const std::string picture{std::istreambuf_iterator<char>(stream), {}};
    pictures += picture.ends_with("</svg>\n") ? 1 : 0;
    EXPECT_THAT(picture, Not(HasSubstr(std::string(kMark))));
    // Refused names are shown without what a terminal would obey.
    for (const auto& args :
         {std::vector<std::string>{"source", "--spec", "no-" + name},
          {"mask", "--expr", "tensor t: i32[4]; kv < t[1]", "--q-len", "8", "--kv-len", "8", "--tensor", "t=no-" + name},
          {"mask", "--expr", "kv < 1", "--q-len", "8", "--kv-len", "8", "--tensor", name},
          {"mask", "--expr", "kv < 1", "--q-len", "8", "--kv-len", "8", "--param", name},
          {"mask", "--expr", "kv < 1", "--q-len", "8", "--kv-len", "8", "--param", name + "=1"},
          {"mask", "--expr", "kv < 1", "--q-len", "8", "--kv-len", "8", "--svg", "/nonexistent/" + name}}) {
      const Ran ran = lathe.run(args);
      if (args[0] == "mask" && args[args.size() - 2] == "--param" && ran.exit_code == 0) continue;  // a sound name
      EXPECT_EQ(ran.exit_code, 2) << ran.err;
      EXPECT_EQ(ran.out, "");
      EXPECT_TRUE(is_plain(ran.err)) << ran.err;
    }
  }
  EXPECT_EQ(static_cast<size_t>(pictures), names.size());
}

}  // namespace
}  // namespace lathe::testing
