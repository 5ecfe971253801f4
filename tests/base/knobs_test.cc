#include "lathe/base/knobs.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <string>

namespace lathe {
namespace {

// Sets an environment variable for one scope.
class ScopedEnv {
 public:
  ScopedEnv(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~ScopedEnv() { unsetenv(name_); }

 private:
  const char* name_;
};

TEST(Knobs, TableIsSortedAndComplete) {
  auto table = knobs();
  EXPECT_TRUE(
      std::is_sorted(table.begin(), table.end(), [](const Knob& a, const Knob& b) { return std::string(a.name) < b.name; }));
  for (const Knob& knob : table) {
    EXPECT_EQ(std::string(knob.name).rfind("LATHE_", 0), 0u) << knob.name;
    EXPECT_NE(std::string(knob.values), "") << knob.name;
    EXPECT_EQ(std::string(knob.doc).back(), '.') << knob.name;
  }
}

TEST(Knobs, UnsetAndEmptyAreTheSame) {
  unsetenv("LATHE_TEMPLATE_DIR");
  EXPECT_EQ(knob("LATHE_TEMPLATE_DIR"), std::nullopt);
  ScopedEnv env("LATHE_TEMPLATE_DIR", "");
  EXPECT_EQ(knob("LATHE_TEMPLATE_DIR"), std::nullopt);
}

TEST(Knobs, ReadsTheValueNow) {
  ScopedEnv first("LATHE_TEMPLATE_DIR", "/a");
  EXPECT_EQ(knob("LATHE_TEMPLATE_DIR"), "/a");
  ScopedEnv second("LATHE_TEMPLATE_DIR", "/b");
  EXPECT_EQ(knob("LATHE_TEMPLATE_DIR"), "/b");
}

TEST(Knobs, WholeNumbersOnly) {
  for (const char* bad : {"x", "1x", " 1", "1 ", "0x10", "1.5", "99999999999999999999", "-", "+1"}) {
    ScopedEnv env("LATHE_SIMT_SEED", bad);
    EXPECT_EQ(knob_int("LATHE_SIMT_SEED"), std::nullopt) << bad;
  }
  ScopedEnv env("LATHE_SIMT_SEED", "-42");
  EXPECT_EQ(knob_int("LATHE_SIMT_SEED"), -42);
}

TEST(Knobs, OnAndOff) {
  for (const char* off : {"0", "off", "false", "no", ""}) {
    ScopedEnv env("LATHE_SIMT_CHECK", off);
    EXPECT_FALSE(knob_on("LATHE_SIMT_CHECK")) << off;
  }
  ScopedEnv env("LATHE_SIMT_CHECK", "1");
  EXPECT_TRUE(knob_on("LATHE_SIMT_CHECK"));
}

TEST(KnobsDeathTest, AnUnknownNameIsABug) {
  EXPECT_DEATH(knob("LATHE_NO_SUCH_KNOB"), "LATHE_NO_SUCH_KNOB is not in the table");
}

}  // namespace
}  // namespace lathe
