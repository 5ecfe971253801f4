#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "lathe/spec_testing/random_spec.h"
#include "lathe/testing/seed.h"
#include "single_changes.h"

namespace lathe::testing {
namespace {

template <class Spec>
bool same_identity(Spec a, Spec b) {
  a.label.clear();
  b.label.clear();
  return a == b;
}

std::string hex(const Bytes& bytes) {
  std::string out;
  char digits[3];
  for (std::byte b : bytes) {
    std::snprintf(digits, sizeof(digits), "%02x", std::to_integer<unsigned>(b));
    out += digits;
  }
  return out;
}

template <class Spec>
void expect_bytes_tell_identity(const Spec& a, const Spec& b) {
  ASSERT_EQ(canonical_bytes(a) == canonical_bytes(b), same_identity(a, b)) << to_json(a) << "\n" << to_json(b);
}

TEST(CanonicalBytes, EqualExactlyForEqualAttentionSpecs) {
  std::mt19937_64 rng(seed());
  for (int i = 0; i < 10'000; ++i) {
    AttentionSpec a = random_spec(rng), b = random_spec(rng);
    ASSERT_NO_FATAL_FAILURE(expect_bytes_tell_identity(a, b));
    ASSERT_NO_FATAL_FAILURE(expect_bytes_tell_identity(a, a));
    b = a;  // two that differ little
    auto changes = single_changes(a);
    for (int n = 0; n < 2; ++n) b = changes[rng() % changes.size()].spec;
    auto further = single_changes(b);
    b = further[rng() % further.size()].spec;
    ASSERT_NO_FATAL_FAILURE(expect_bytes_tell_identity(a, b));
  }
}

TEST(CanonicalBytes, EqualExactlyForEqualMergeSpecs) {
  std::mt19937_64 rng(seed());
  for (int i = 0; i < 10'000; ++i) {
    ASSERT_NO_FATAL_FAILURE(expect_bytes_tell_identity(random_merge_spec(rng), random_merge_spec(rng)));
  }
}

TEST(CanonicalBytes, EqualExactlyForEqualAppendSpecs) {
  std::mt19937_64 rng(seed());
  for (int i = 0; i < 10'000; ++i) {
    ASSERT_NO_FATAL_FAILURE(expect_bytes_tell_identity(random_append_spec(rng), random_append_spec(rng)));
  }
}

template <class Spec>
void expect_every_change_shows(const Spec& base) {
  std::vector<Bytes> seen{canonical_bytes(base)};
  for (const auto& change : single_changes(base)) {
    Bytes bytes = canonical_bytes(change.spec);
    ASSERT_EQ(bytes != seen.front(), change.identity) << change.path << ": " << to_json(change.spec);
  }
}

TEST(CanonicalBytes, EverySingleChangeButTheLabelShows) {
  std::mt19937_64 rng(seed());
  expect_every_change_shows(AttentionSpec{});
  expect_every_change_shows(AppendSpec{});
  expect_every_change_shows(MergeSpec{});
  for (int i = 0; i < 1'000; ++i) {
    ASSERT_NO_FATAL_FAILURE(expect_every_change_shows(random_spec(rng)));
    ASSERT_NO_FATAL_FAILURE(expect_every_change_shows(random_append_spec(rng)));
    ASSERT_NO_FATAL_FAILURE(expect_every_change_shows(random_merge_spec(rng)));
  }
}

TEST(CanonicalBytes, TagsAreUnique) {
  auto expect_unique = [](const auto& spec) {
    std::vector<int> tags;
    fields::visit_fields(spec, [&](const fields::Field& field, const auto&, const auto&) { tags.push_back(field.tag); });
    std::sort(tags.begin(), tags.end());
    EXPECT_EQ(std::adjacent_find(tags.begin(), tags.end()), tags.end());
    EXPECT_EQ(std::count(tags.begin(), tags.end(), 0), 1) << "only the label is no part of the identity";
  };
  expect_unique(AttentionSpec{});
  expect_unique(AppendSpec{});
  expect_unique(MergeSpec{});
}

// Kernels are cached under these bytes. When this fails, old entries would be found under a key that now means something else:
// raise kVersion, then change the text here.
TEST(CanonicalBytes, FormOfVersion1) {
  MergeSpec merge;
  merge.arch = "sm_90a";
  EXPECT_EQ(hex(canonical_bytes(merge)),
            "6d6572676500"
            "0100"
            "01"
            "01000000"
            "01"
            "02"
            "04000000"
            "80000000"
            "03"
            "01000000"
            "01"
            "04"
            "06000000"
            "736d5f393061");
  // Hooks are a record more, of the bytes that they have for attention, between the others.
  merge.hooks = *expr::parse("sink = 1");
  const Bytes key(merge.hooks.key_bytes().begin(), merge.hooks.key_bytes().end());
  const Bytes length{static_cast<std::byte>(key.size() % 256), static_cast<std::byte>(key.size() / 256), {}, {}};
  EXPECT_EQ(hex(canonical_bytes(merge)),
            "6d65726765000100010100000001020400000080000000030100000001"
            "05" +
                hex(length) + hex(key) + "0406000000736d5f393061");
  AttentionSpec attention;
  attention.group_size = 4;
  attention.mask = Mask::causal_window;
  attention.split_kv = {SplitMode::fixed, 2048};
  attention.tile = {false, 8, 2, {{128, 64}, {16, 128}}};
  EXPECT_EQ(hex(canonical_bytes(attention)),
            "617474656e74696f6e00"
            "0100"
            "01"
            "01000000"
            "01"
            "02"
            "01000000"
            "01"
            "03"
            "01000000"
            "01"
            "04"
            "01000000"
            "01"
            "05"
            "04000000"
            "04000000"
            "06"
            "04000000"
            "80000000"
            "07"
            "04000000"
            "80000000"
            "08"
            "01000000"
            "00"
            "09"
            "01000000"
            "01"
            "0a"
            "04000000"
            "10000000"
            "0b"
            "01000000"
            "00"
            "0c"
            "01000000"
            "00"
            "0d"
            "01000000"
            "00"
            "0e"
            "01000000"
            "03"
            "0f"
            "01000000"
            "00"
            "10"
            "01000000"
            "00"
            "11"
            "01000000"
            "01"
            "12"
            "05000000"
            "02"
            "00080000"
            "13"
            "19000000"
            "00"
            "08000000"
            "02000000"
            "80000000"
            "40000000"
            "10000000"
            "80000000"
            "14"
            "04000000"
            "686f7374");
}

TEST(CanonicalBytes, TakeAtMostFiveMicroseconds) {
  AttentionSpec spec;
  spec.label = "layer 7";
  spec.tile = {false, 8, 2, {{128, 64}, {16, 128}}};
  using Clock = std::chrono::steady_clock;
  double best_us = 1e9;
  size_t bytes = 0;
  for (int round = 0; round < 50; ++round) {
    auto start = Clock::now();
    for (int i = 0; i < 200; ++i) bytes += canonical_bytes(spec).size();
    best_us = std::min(best_us, std::chrono::duration<double, std::micro>(Clock::now() - start).count() / 200);
  }
  std::printf("canonical_bytes: %.3f us, %zu bytes\n", best_us, bytes / (50 * 200));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LE(best_us, 5.0);
#endif
}

}  // namespace
}  // namespace lathe::testing
