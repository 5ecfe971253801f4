#include "lathe/spec/expr/advice.h"

#include <gtest/gtest.h>

#include "lathe/spec/expr/parse.h"

namespace lathe::expr {
namespace {

std::string advised(const std::string& text) {
  const Result<Hooks> hooks = parse(text);
  if (!hooks.ok()) return hooks.status().to_string();
  std::string out;
  for (const Finding& finding : advice(*hooks)) {
    EXPECT_FALSE(finding.error);
    EXPECT_FALSE(finding.hint.empty());
    out += (out.empty() ? "" : "; ") + finding.where + ": " + finding.message.substr(finding.message.find('\'') + 1);
  }
  return out;
}

TEST(Advice, KnowsItsPatterns) {
  const std::pair<const char*, const char*> cases[] = {
      {"tensor doc: i32[N]; mask = doc[max(q_pos, 0)] == doc[kv] && kv_pos <= q_pos",
       "mask: doc[max(q_pos, 0)] == doc[kv]' reads an element of the row and one of the key"},
      {"tensor dq: i32[TOK], dk: i32[KVPOS]; mask = dk[kv] != dq[tok]",
       "mask: dk[kv] == dq[tok]' reads an element of the row and one of the key"},
      {"tensor doc: i32[KVPOS]; mask = doc[kv] != -1", "mask: doc[kv] == -1' asks for a mark, a negative number among ids"},
      {"tensor doc: i32[TOK]; mask = doc[tok] >= 0", "mask: 0 <= doc[tok]' asks for a mark, a negative number among ids"},
      {"tensor doc: i32[KVPOS] in [-1, 9]; mask = doc[kv] != -1",
       "mask: doc[kv] == -1' asks for a mark, a negative number among ids"},
      {"tensor dq: i32[TOK] in [0, 9], dk: i32[KVPOS]; mask = dk[kv] == dq[tok]",
       "mask: dk[kv] == dq[tok]' reads an element of the row and one of the key"},
      {"key = x * 2", "key: key is computed for each tile of rows that reads a key, and depends on nothing of the query"},
      {"tensor s: f32[SLOT]; value = x * s[slot]",
       "value: value is computed for each tile of rows that reads a key, and depends on nothing of the query"},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(advised(text), expected) << text;
}

TEST(Advice, IsSilentElsewhere) {
  for (const char* text : {
           "mask = kv_pos <= q_pos",
           "tensor st: i32[TOK] sorted; mask = st[tok] <= kv_pos && kv_pos <= q_pos",
           "tensor st: u8[HQ]; mask = st[h] == 0 || kv_pos < 4",   // a flag
           "tensor a, c: i32[TOK]; mask = a[tok] == c[tok]",       // both of the row
           "tensor a: i32[B]; mask = a[b] >= 0 && kv < a[b]",      // of the request
           "tensor a: i32[TOK]; logits = a[tok] < 0 ? score : 0",  // no mask
           "query = x * 2",
           "key = x * f32(level)",  // not known when keys are appended
           "param R: i32 in [0, 8]; kv_pos := kv_len - kv + R; key = x * f32(pos)",
       })
    EXPECT_EQ(advised(text), "") << text;
}

}  // namespace
}  // namespace lathe::expr
