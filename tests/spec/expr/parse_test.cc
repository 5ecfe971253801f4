#include "lathe/spec/expr/parse.h"

#include <gtest/gtest.h>

#include "examples.h"
#include "lathe/spec/expr/print.h"

namespace lathe::expr {
namespace {

using testing::kExamples;

TEST(ParseExamples, RoundTrip) {
  for (const auto& example : kExamples) {
    SCOPED_TRACE(example.name);
    Result<Hooks> hooks = parse(example.text);
    ASSERT_TRUE(hooks.ok()) << hooks.status().to_string();
    const std::string text = to_text(*hooks);
    Result<Hooks> again = parse(text);
    ASSERT_TRUE(again.ok()) << again.status().to_string();
    EXPECT_TRUE(*again == *hooks) << text << to_text(*again);
    EXPECT_EQ(to_text(*again), text);
  }
}

}  // namespace
}  // namespace lathe::expr
