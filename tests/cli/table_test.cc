#include "lathe/cli/table.h"

#include <gtest/gtest.h>

namespace lathe::cli {
namespace {

TEST(Table, AlignsColumnsWithoutTrailingBlanks) {
  EXPECT_EQ(table({{"a", "bb", "c"}, {"long", "", "d"}, {"x"}}), "  a     bb  c\n  long      d\n  x\n");
  EXPECT_EQ(table({{"a", "b"}}, 0), "a  b\n");
}

TEST(Table, ParagraphsBreakAtBlanks) {
  EXPECT_EQ(paragraph("one two three", 2, 9), "  one two\n  three\n");
  EXPECT_EQ(paragraph("incomprehensibilities a", 0, 5), "incomprehensibilities\na\n");
  EXPECT_EQ(paragraph(""), "");
}

TEST(Table, Figures) {
  EXPECT_EQ(in_ms(2345), "2.3 s");
  EXPECT_EQ(in_ms(431.2), "431 ms");
  EXPECT_EQ(in_ms(1.236), "1.24 ms");
  EXPECT_EQ(in_ms(0.0008), "0.8 us");
  EXPECT_EQ(in_bytes(912), "912 B");
  EXPECT_EQ(in_bytes(2048), "2.0 KB");
  EXPECT_EQ(in_bytes(uint64_t{3} << 20), "3.0 MB");
  EXPECT_EQ(in_bytes(uint64_t{3} << 30), "3.0 GB");
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1234567), "1,234,567");
  EXPECT_EQ(plural(1, "item"), "1 item");
  EXPECT_EQ(plural(2000, "item"), "2,000 items");
}

}  // namespace
}  // namespace lathe::cli
