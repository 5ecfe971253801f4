#include "lathe/spec/expr/bytes_read.h"

#include <gtest/gtest.h>

#include <span>

#include "lathe/spec/expr/check.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/expr/simplify.h"
#include "lathe/testing/seed.h"
#include "random_hooks.h"

namespace lathe::expr {
namespace {

using testing::Rng;

// canonicalise() with the names that bytes do not hold put in.
Hooks without_names(const Hooks& hooks) {
  Hooks out = canonicalise(hooks);
  for (size_t i = 0; i < out.params.size(); ++i) out.params[i].name = "p" + std::to_string(i);
  for (size_t i = 0; i < out.tensors.size(); ++i) out.tensors[i].name = "t" + std::to_string(i);
  return out;
}

TEST(BytesRead, GivesBackWhatWasWritten) {
  Rng rng(lathe::testing::seed());
  int checked = 0;
  for (int i = 0; i < 5'000; ++i) {
    const Hooks hooks = testing::random_hooks(rng, static_cast<Hook>(rng() % kHooks), 1 + static_cast<int>(rng() % 30));
    const Hooks expected = without_names(hooks);
    if (expected.graph.size() > kMaxNodes) continue;
    const auto found = hooks_from_bytes(canonical_bytes(hooks));
    ASSERT_TRUE(found) << lathe::testing::repeat_command();
    ASSERT_TRUE(*found == expected) << to_text(*found) << "\n" << to_text(expected) << lathe::testing::repeat_command();
    ++checked;
  }
  EXPECT_GT(checked, 4'000);
}

TEST(BytesRead, EveryCutIsRefused) {
  const Bytes good = canonical_bytes(*parse("param W: i32; tensor s: f32[HQ]; mask = q_pos - kv_pos < W; logits = score + s[h]"));
  ASSERT_TRUE(hooks_from_bytes(good));
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_FALSE(hooks_from_bytes(BytesView(good).first(length))) << length;
  }
  Bytes longer = good;
  longer.push_back({});
  EXPECT_FALSE(hooks_from_bytes(longer));
}

// Whatever is accepted can be printed: every index is in its range, whatever the types.
TEST(BytesRead, GarbledBytesAreRefusedOrPrinted) {
  Rng rng(lathe::testing::seed());
  int printed = 0;
  for (int i = 0; i < 10'000; ++i) {
    Bytes bytes = canonical_bytes(testing::random_hooks(rng, Hook::mask, 12));
    for (int n = static_cast<int>(rng() % 3); n >= 0; --n) bytes[rng() % bytes.size()] = static_cast<std::byte>(rng() % 64);
    const auto hooks = hooks_from_bytes(bytes);
    if (!hooks) continue;
    for (Id id = 0; id < hooks->graph.size(); ++id) {
      const Node& node = hooks->graph[id];
      ASSERT_TRUE(node.op != Op::input || node.value < kInputs);
      ASSERT_TRUE(node.op != Op::param || node.value < hooks->params.size());
      ASSERT_TRUE(node.op != Op::read || node.value < hooks->tensors.size());
    }
    printed += to_text(*hooks).empty() ? 0 : 1;
  }
  std::printf("%d of 10000 garbled ones printed\n", printed);
  EXPECT_GT(printed, 200);
}

template <class T>
void put(Bytes& out, T value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

// Each node is the sum of the one before and itself: written out, 2^3000 leaves.
TEST(BytesRead, WhatWouldBeEndlessIsPrintedWithLets) {
  constexpr uint32_t kNodes = 3'000;
  Bytes bytes;
  for (char c : kBytesDomain) put(bytes, c);
  put(bytes, uint8_t{0});
  put(bytes, kBytesVersion);
  for (int i = 0; i < 6; ++i) put(bytes, uint8_t{0});         // normalizer, rotary
  for (uint32_t count : {0U, 0U, kNodes}) put(bytes, count);  // params, tensors, nodes
  for (uint32_t id = 0; id < kNodes; ++id) {
    put(bytes, id == 0 ? Op::input : Op::add);
    put(bytes, Type::i32);
    put(bytes, uint8_t(id == 0 ? 0 : 2));
    put(bytes, uint32_t{0});
    for (int i = 0; i < 2 && id > 0; ++i) put(bytes, id - 1);
  }
  for (size_t hook = 0; hook < kHooks; ++hook) put(bytes, hook == 0 ? kNodes - 1 : kNone);
  const auto hooks = hooks_from_bytes(bytes);
  ASSERT_TRUE(hooks);
  EXPECT_LT(to_text(*hooks).size(), 200'000u);
}

}  // namespace
}  // namespace lathe::expr
