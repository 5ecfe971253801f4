#include "lathe/arch/traits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lathe {
namespace {

TEST(ArchTraits, SharedMemoryIsTheDocumentedLimit) {
  const std::pair<const char*, int> wanted[] = {{"sm_80", 163},  {"sm_86", 99},   {"sm_87", 163},   {"sm_89", 99},
                                                {"sm_90", 227},  {"sm_90a", 227}, {"sm_100a", 227}, {"sm_103f", 227},
                                                {"sm_110", 227}, {"sm_120a", 99}, {"sm_121f", 99},  {"host", 163}};
  for (auto [name, kib] : wanted) {
    auto traits = arch_traits(name);
    ASSERT_TRUE(traits.ok()) << traits.status().to_string();
    EXPECT_EQ(traits->max_shared_bytes, kib * 1024) << name;
    EXPECT_EQ(traits->name, name);
  }
}

TEST(ArchTraits, ArchsOffTheTableGetItsSmallestLimit) {
  for (const char* name : {"sm_88", "sm_130", "sm_200a", "sm_999f"}) {
    auto traits = arch_traits(name);
    ASSERT_TRUE(traits.ok()) << traits.status().to_string();
    EXPECT_EQ(traits->max_shared_bytes, 99 * 1024) << name;
    EXPECT_GT(traits->num_sms, 0) << name;
  }
}

TEST(ArchTraits, EveryRowIsWhole) {
  std::vector<std::string> names = known_archs();
  ASSERT_GE(names.size(), 2u);
  EXPECT_EQ(names[0], "host");
  for (const std::string& name : names) {
    auto traits = arch_traits(name);
    ASSERT_TRUE(traits.ok()) << traits.status().to_string();
    EXPECT_EQ(traits->is_host(), name == "host");
    EXPECT_GT(traits->num_sms, 0) << name;
    EXPECT_THAT(traits->device_folders, ::testing::ElementsAre(name == "host" ? "device/host" : "device/sm_80"));
    if (!traits->is_host()) {
      EXPECT_EQ(name, "sm_" + std::to_string(traits->compute_capability));
    }
  }
}

TEST(ArchTraits, RefusesEverythingElseAndSaysWhatIsAllowed) {
  for (const char* name :
       {"",       "sm",      "sm_",    "sm_a",       "sm_75",   "sm_79",  "sm_8",    "sm_080",
        "sm_80a", "sm_89f",  "sm_90f", "sm_90A",     "sm_90aa", "sm_90 ", " sm_90",  "sm_+90",
        "sm_-90", "sm_9999", "SM_90",  "compute_90", "HOST",    "host ",  "sm_90;x", "sm_99999999999999999999"}) {
    auto traits = arch_traits(name);
    ASSERT_FALSE(traits.ok()) << name;
    EXPECT_EQ(traits.status().code(), Code::invalid_argument) << name;
    EXPECT_EQ(traits.status().where(), "arch");
    EXPECT_THAT(traits.status().message(), ::testing::HasSubstr("'" + std::string(name) + "'"));
    EXPECT_THAT(traits.status().message(), ::testing::HasSubstr("sm_90a"));
  }
}

}  // namespace
}  // namespace lathe
