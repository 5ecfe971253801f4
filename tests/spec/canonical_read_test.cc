#include "lathe/spec/canonical_read.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "lathe/spec/expr/parse.h"
#include "lathe/spec_testing/random_spec.h"
#include "lathe/testing/seed.h"
#include "single_changes.h"

namespace lathe::testing {
namespace {

using ::testing::HasSubstr;
using Values = std::map<std::string, std::string>;

Values values_of(const Bytes& bytes) {
  Values out;
  const auto fields = canonical_fields(bytes);
  EXPECT_TRUE(fields);
  if (!fields) return out;
  for (const CanonicalField& field : *fields) out[field.name] = field.value;
  return out;
}

// Paths of the fields whose values differ; of hooks, which have a field for each part that is given, one path.
std::set<std::string> changed(const Bytes& a, const Bytes& b) {
  const Values before = values_of(a);
  std::set<std::string> out;
  for (const auto& [name, value] : values_of(b)) {
    const bool is_part = name.starts_with("hooks.");
    if (is_part ? !before.contains(name) || before.at(name) != value : before.at(name) != value)
      out.insert(is_part ? "hooks" : name);
  }
  return out;
}

void append(Bytes& bytes, std::initializer_list<int> values) {
  for (int value : values) bytes.push_back(static_cast<std::byte>(value));
}

template <class Spec>
void expect_every_change_is_named(const Spec& base) {
  for (const auto& change : single_changes(base)) {
    if (!change.identity) continue;
    EXPECT_THAT(changed(canonical_bytes(base), canonical_bytes(change.spec)), ::testing::ElementsAre(change.path))
        << to_json(change.spec);
  }
}

TEST(CanonicalRead, NamesTheFieldOfEverySingleChange) {
  expect_every_change_is_named(AttentionSpec{});
  expect_every_change_is_named(AppendSpec{});
  expect_every_change_is_named(MergeSpec{});
}

TEST(CanonicalRead, GivesValuesAsPeopleWriteThem) {
  AttentionSpec spec;
  spec.group_size = 4;
  spec.layout.order = PageOrder::hnd;
  spec.soft_cap = true;
  spec.split_kv = {SplitMode::fixed, 2048};
  spec.tile = {.automatic = false, .warps = 4, .stages = 2, .classes = {{64, 32}}};
  spec.hooks = *expr::parse("param W: i32 in [1, 64]; tensor s: f32[HQ]; mask = q_pos - kv_pos < W; logits = score + s[h]");
  spec.arch = "sm_90a";
  Values found = values_of(canonical_bytes(spec));
  EXPECT_EQ(found["op"], "attention");
  EXPECT_EQ(found["group_size"], "4");
  EXPECT_EQ(found["layout.order"], "HND");
  EXPECT_EQ(found["soft_cap"], "true");
  EXPECT_EQ(found["split_kv"], "fixed 2048");
  EXPECT_EQ(found["tile"], "4 warps, 2 stages, classes 64x32");
  EXPECT_EQ(found["kscale"], "none") << "which the bytes leave out";
  EXPECT_EQ(found["arch"], "sm_90a");
  EXPECT_EQ(found["hooks.params"], "param p0: i32 in [1, 64]");
  EXPECT_EQ(found["hooks.tensors"], "tensor t0: f32[HQ]");
  EXPECT_EQ(found["hooks.logits"], "score + t0[h]");
  EXPECT_EQ(found["hooks.mask"], "q + kv_len < kv + qo_len + p0");
  EXPECT_FALSE(found.contains("hooks"));
}

TEST(CanonicalRead, WhatItDoesNotKnowIsShownAsHex) {
  Bytes bytes = canonical_bytes(MergeSpec{});
  append(bytes, {77, 3, 0, 0, 0, 0xde, 0xad, 0x01});  // a tag of some later version
  Values found = values_of(bytes);
  EXPECT_EQ(found["tag 77"], "0xdead01");
  EXPECT_EQ(found["head_dim"], "128");

  Bytes odd;
  for (char c : std::string("merge")) odd.push_back(static_cast<std::byte>(c));
  append(odd, {0, 1, 0});
  append(odd, {1, 1, 0, 0, 0, 99});     // an element type that there is not
  append(odd, {2, 2, 0, 0, 0, 64, 0});  // a number of two bytes
  found = values_of(odd);
  EXPECT_EQ(found["dtype"], "0x63");
  EXPECT_EQ(found["head_dim"], "0x4000");
  EXPECT_EQ(found["lse"], "") << "which is not there";

  append(odd, {78, 0, 1, 0, 0});  // 256 bytes, of which the start is shown
  odd.resize(odd.size() + 256);
  EXPECT_EQ(values_of(odd)["tag 78"], "0x" + std::string(128, '0') + "...");
}

TEST(CanonicalRead, OtherFormsAreRefused) {
  const Bytes good = canonical_bytes(MergeSpec{});
  Bytes twice = good;
  append(twice, {2, 4, 0, 0, 0, 64, 0, 0, 0});
  EXPECT_FALSE(canonical_fields(twice)) << "a tag stands twice";
  Bytes later = good;
  later[6] = std::byte{2};
  EXPECT_FALSE(canonical_fields(later)) << "version 2";
  Bytes other = good;
  other[0] = std::byte{'n'};
  EXPECT_FALSE(canonical_fields(other)) << "op nerge";
  EXPECT_FALSE(canonical_fields({}));
  Bytes long_field = good;
  append(long_field, {77, 0xff, 0xff, 0xff, 0xff});
  EXPECT_FALSE(canonical_fields(long_field));
}

// Bytes of a cache file may be anything. They lie at the end of a block of their own, so that a sanitizer sees a read past them.
TEST(CanonicalRead, TruncatedAndGarbledBytesAreRefusedOrRead) {
  std::mt19937_64 rng(seed());
  AttentionSpec spec;
  spec.tile = {.automatic = false, .warps = 4, .stages = 2, .classes = {{64, 32}, {16, 64}}};
  spec.hooks =
      *expr::parse("param W: f32 in [0.5, 2.0]; tensor s: f32[HQ, 32]; mask = kv_pos <= q_pos; logits = W * score + s[h, 3]");
  const Bytes good = canonical_bytes(spec);
  ASSERT_TRUE(canonical_fields(good));
  int whole = 0;
  for (size_t length = 0; length < good.size(); ++length) {
    whole += canonical_fields(Bytes(good.begin(), good.begin() + static_cast<long>(length))) ? 1 : 0;
  }
  EXPECT_LE(whole, 32) << "a cut shows, but for one between two fields";
  int refused = 0;
  for (int i = 0; i < 50'000; ++i) {
    Bytes bytes = good;
    for (int n = static_cast<int>(rng() % 4); n >= 0; --n) bytes[rng() % bytes.size()] = static_cast<std::byte>(rng());
    if (rng() % 4 == 0) bytes.resize(rng() % bytes.size());
    bytes.shrink_to_fit();
    const auto fields = canonical_fields(bytes);
    refused += fields ? 0 : 1;
    for (const CanonicalField& field : fields.value_or(std::vector<CanonicalField>{})) ASSERT_LT(field.value.size(), 100'000u);
  }
  std::printf("%d of 50000 garbled ones refused\n", refused);
  EXPECT_GT(refused, 5'000);
  EXPECT_LT(refused, 50'000);
}

}  // namespace
}  // namespace lathe::testing
