// lathe doctor, where everything is there and where nothing is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "program.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;
using Env = std::vector<std::pair<std::string, std::string>>;

// The findings by part; the last, where a part has several.
std::map<std::string, Json> findings(const Ran& ran) {
  std::map<std::string, Json> out;
  const Json all = Json::parse(ran.out);
  for (const Json& finding : all.at("findings")) {
    EXPECT_EQ(finding.at("health") == "ok", !finding.contains("todo")) << finding;
    out[finding.at("part")] = finding;
  }
  return out;
}

TEST(Doctor, FindsAllThatIsThere) {
  Program lathe;
  const Env fake{{"LATHE_NVRTC", LATHE_TEST_FAKE_NVRTC}, {"LATHE_CUDA_DRIVER", "/nonexistent"}};
  const Ran ran = lathe.run({"doctor", "--json"}, fake);
  EXPECT_EQ(ran.exit_code, 0) << ran.out << ran.err;
  auto found = findings(ran);
  for (const char* part : {"NVRTC", "compile worker", "host compiler", "kernel cache"}) {
    EXPECT_EQ(found[part].value("health", ""), "ok") << part << ran.out;
  }
  EXPECT_THAT(found["NVRTC"].at("found").get<std::string>(), AllOf(HasSubstr("NVRTC 13.0"), HasSubstr("a kernel for sm_80 in")));
  EXPECT_EQ(found["GPU"].at("health"), "missing");
  EXPECT_EQ(lathe.run({"doctor", "--target", "cuda"}, fake).exit_code, 1) << "there is no GPU";
  const Ran text = lathe.run({"doctor"}, fake);
  EXPECT_THAT(text.out, AllOf(HasSubstr("ok       kernel cache: "), HasSubstr("missing  GPU: "), HasSubstr("         -> "),
                              HasSubstr("on the host executor: yes")));
}

TEST(Doctor, WorksWhereNothingIsThere) {
  Program lathe;
  std::ofstream(lathe.cache()) << "in the way";
  const Env nothing{{"LATHE_NVRTC", "/nonexistent"},      {"LATHE_CXX", "/nonexistent"},    {"LATHE_CUDA_DRIVER", "/nonexistent"},
                    {"LATHE_WORKER", "/nonexistent"},     {"LATHE_BUNDLE", "/nonexistent"}, {"LATHE_JIT", "off"},
                    {"LATHE_CAHCE_DIR", "\xff not UTF-8"}};
  const Ran ran = lathe.run({"doctor", "--json"}, nothing);
  EXPECT_EQ(ran.exit_code, 1) << ran.out << ran.err;
  EXPECT_EQ(ran.err, "");
  auto found = findings(ran);
  for (const char* part : {"NVRTC", "compile worker", "host compiler", "GPU", "kernel cache", "bundle"}) {
    EXPECT_EQ(found[part].value("health", ""), "missing") << part << ran.out;
  }
  EXPECT_THAT(found["kernel cache"].at("found").get<std::string>(), HasSubstr("is not a directory"));
  EXPECT_EQ(found["compiling"].at("health"), "note");
  EXPECT_THAT(found["knobs"].at("found").get<std::string>(), HasSubstr("LATHE_CAHCE_DIR"));
  EXPECT_EQ(lathe.run({"doctor"}, nothing).exit_code, 1);
}

TEST(Doctor, SaysWhatAToolsWordsAre) {
  Program lathe;
  const Ran ran = lathe.run({"doctor", "--json"}, {{"LATHE_NVRTC", "/etc/passwd"}, {"LATHE_CXX", "/bin/false"}});
  auto found = findings(ran);
  EXPECT_EQ(found["NVRTC"].value("health", ""), "missing") << ran.out;
  EXPECT_THAT(found["NVRTC"].at("found").get<std::string>(), HasSubstr("/etc/passwd"));
  EXPECT_THAT(found["host compiler"].at("found").get<std::string>(), HasSubstr("is it a C++ compiler?"));
}

TEST(Doctor, TakesNoOtherTarget) {
  EXPECT_EQ(Program().run({"doctor", "--target", "tpu"}).exit_code, 2);
}

}  // namespace
}  // namespace lathe::testing
