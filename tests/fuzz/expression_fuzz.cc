// Hooks as text.
#include "fuzz.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/expr/simplify.h"

using namespace lathe;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Result<expr::Hooks> hooks = expr::parse(testing::text_of(data, size));
  if (!hooks) {
    testing::require(!hooks.status().message().empty(), "a refusal says why");
    return 0;
  }
  const std::string text = expr::to_text(*hooks);
  const Result<expr::Hooks> again = expr::parse(text);
  testing::require(again.ok() && expr::to_text(*again) == text, "hooks are read back as they were written");
  return 0;
}
