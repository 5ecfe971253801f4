// docs/expressions.md says what the code does.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "lathe/spec/expr/device_source.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/simplify.h"

namespace lathe::expr {
namespace {

std::string page() {
  std::ifstream file(LATHE_EXPRESSIONS_PAGE);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

/// The blocks of `text` that are fenced as ```hooks.
std::vector<std::string> hooks_in(const std::string& text) {
  static const std::string kOpen = "```hooks\n", kClose = "```";
  std::vector<std::string> out;
  for (size_t at = text.find(kOpen); at != text.npos; at = text.find(kOpen, at)) {
    at += kOpen.size();
    const size_t end = text.find(kClose, at);
    out.push_back(text.substr(at, end - at));
    at = end;
  }
  return out;
}

TEST(ExpressionsPage, ItsHooksAreSound) {
  const std::vector<std::string> blocks = hooks_in(page());
  EXPECT_GE(blocks.size(), 12u);
  for (const std::string& block : blocks) {
    const Result<Hooks> hooks = parse(block);
    EXPECT_TRUE(hooks.ok()) << block << hooks.status().to_string();
  }
}

TEST(ExpressionsPage, SpellingsItCallsEqualAre) {
  const std::vector<std::string> blocks = hooks_in(page());
  EXPECT_TRUE(canonical_bytes(*parse(blocks[1])) == canonical_bytes(*parse(blocks[2]))) << blocks[1] << blocks[2];
}

TEST(ExpressionsPage, ShowsWhatIsPrinted) {
  const Hooks hooks = canonicalise(*parse(hooks_in(page())[0]));
  const std::string body = device_source(hooks, Hook::mask).body();
  EXPECT_NE(page().find("```\n" + body + "```"), std::string::npos) << body;
}

TEST(ExpressionsPage, ListsTheInputsOfEachHook) {
  const std::string text = page();
  for (size_t i = 0; i < kHooks; ++i) {
    const HookInfo& hook = info(static_cast<Hook>(i));
    std::string inputs;
    for (Input input : hook.inputs) inputs += (inputs.empty() ? "" : ", ") + std::string(info(input).text);
    const std::string row = "| `" + std::string(hook.text) + "` | " + name_of(hook.type) + " | " + inputs + " |";
    EXPECT_NE(text.find(row), std::string::npos) << row;
  }
}

TEST(ExpressionsPage, NamesEveryFunction) {
  const std::string text = page();
  for (size_t i = 0; i < kOps; ++i) {
    if (!info(static_cast<Op>(i)).is_function) continue;
    EXPECT_NE(text.find(info(static_cast<Op>(i)).text), std::string::npos) << info(static_cast<Op>(i)).text;
  }
}

}  // namespace
}  // namespace lathe::expr
