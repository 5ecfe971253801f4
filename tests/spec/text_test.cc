#include "lathe/spec/text.h"

#include <gtest/gtest.h>

namespace lathe::fields {
namespace {

TEST(Text, PrintableIsUtf8WithoutControls) {
  for (const char* text :
       {"", "layer 7", "~", "µ", "\u00a0", "\u07ff", "\u0800", "\ue000", "\uffff", "注意力", "\U00010000", "\U0010ffff"})
    EXPECT_TRUE(is_printable(text)) << text;
  for (std::string_view text :
       {"\x1f", "\n", "\x7f", "\xc2\x85", "\x80", "\xc0\xaf", "\xc3", "\xc3(", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xef\xbf",
        "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "a\xc2"})
    EXPECT_FALSE(is_printable(text)) << shown(text);
  EXPECT_FALSE(is_printable(std::string_view("\0", 1)));
}

TEST(Text, ShownReplacesAndShortens) {
  EXPECT_EQ(shown("a\nb\x1b[31m\xff"), "a?b?[31m?");
  EXPECT_EQ(shown("abcdef", 6), "abcdef");
  EXPECT_EQ(shown("abcdefg", 6), "abcdef...");
  EXPECT_EQ(shown("注意力", 7), "注意...") << "cut between characters";
  EXPECT_EQ(in_quotes("a"), "\"a\"");
}

TEST(Text, ArchNames) {
  for (const char* name : {"host", "sm_80", "sm_89", "sm_90a", "sm_99", "sm_100", "sm_100f", "sm_120a", "sm_999"})
    EXPECT_TRUE(is_arch_name(name)) << name;
  for (const char* name : {"", "Host", "host ", "sm_", "sm_a", "sm_7", "sm_75", "sm_79a", "sm_080", "sm_80b", "sm_80aa", "sm_80fa",
                           "sm_1000", "SM_80", "sm80", "sm_-80", "sm_8 ", "compute_80", "sm_9٠"})
    EXPECT_FALSE(is_arch_name(name)) << name;
}

}  // namespace
}  // namespace lathe::fields
