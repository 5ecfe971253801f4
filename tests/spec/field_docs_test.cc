#include "lathe/spec/field_docs.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace lathe {
namespace {

std::string table(const std::vector<FieldDoc>& docs) {
  std::string text = "| Field | Allowed | Default | Meaning |\n|---|---|---|---|\n";
  for (const FieldDoc& d : docs) {
    std::string preset = d.preset.empty() ? "empty" : "`" + d.preset + "`";
    text += "| `" + d.path + "` | " + d.allowed + " | " + preset + " | " + d.doc + " |\n";
  }
  return text;
}

std::string page() {
  std::ifstream file(LATHE_SPEC_PAGE);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(FieldDocs, PageHoldsTheTableOfAttention) {
  std::string expected = table(attention_field_docs());
  EXPECT_NE(page().find(expected), std::string::npos) << "docs/spec.md should hold exactly:\n" << expected;
}

TEST(FieldDocs, PageHoldsTheTableOfAppend) {
  std::string expected = table(append_field_docs());
  EXPECT_NE(page().find(expected), std::string::npos) << "docs/spec.md should hold exactly:\n" << expected;
}

TEST(FieldDocs, PageHoldsTheTableOfMerge) {
  std::string expected = table(merge_field_docs());
  EXPECT_NE(page().find(expected), std::string::npos) << "docs/spec.md should hold exactly:\n" << expected;
}

}  // namespace
}  // namespace lathe
