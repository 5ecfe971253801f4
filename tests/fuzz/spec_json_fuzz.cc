// Specs and hooks as JSON.
#include "fuzz.h"
#include "lathe/spec/append_spec.h"
#include "lathe/spec/attention_spec.h"
#include "lathe/spec/expr/json.h"
#include "lathe/spec/merge_spec.h"

using namespace lathe;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = testing::text_of(data, size);
  if (const Result<AttentionSpec> spec = attention_spec_from_json(text)) {
    const Result<AttentionSpec> again = attention_spec_from_json(to_json(*spec));
    testing::require(again.ok() && *again == *spec, "an attention spec is read back as it was written");
    (void)validate(*spec);
    testing::require(!to_string(*spec).empty(), "an attention spec has a form for people");
  }
  if (const Result<AppendSpec> spec = append_spec_from_json(text)) {
    const Result<AppendSpec> again = append_spec_from_json(to_json(*spec));
    testing::require(again.ok() && *again == *spec, "an append spec is read back as it was written");
    (void)validate(*spec);
  }
  if (const Result<MergeSpec> spec = merge_spec_from_json(text)) {
    const Result<MergeSpec> again = merge_spec_from_json(to_json(*spec));
    testing::require(again.ok() && *again == *spec, "a merge spec is read back as it was written");
    (void)validate(*spec);
  }
  if (const Result<expr::Hooks> hooks = expr::hooks_from_json(text)) {
    const Result<expr::Hooks> again = expr::hooks_from_json(expr::to_json(*hooks));
    testing::require(again.ok() && expr::to_json(*again) == expr::to_json(*hooks), "hooks are read back as they were written");
  }
  return 0;
}
