#include "lathe/spec_testing/random_spec.h"

#include <gtest/gtest.h>

#include <map>

#include "lathe/spec/fields.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

/// How often each value of each field came up, by name.
using Counts = std::map<std::string, std::map<std::string, int>>;

struct Counter {
  Counts& counts;

  template <class T, class Rule>
  void operator()(const fields::Field& field, const T& value, const Rule&) {
    ++counts[field.path][fields::text_of(value)];
  }
};

struct EnumCoverage {
  const Counts& counts;

  template <class E>
  void operator()(const fields::Field& field, const E&, const fields::OneOf<E>& rule) {
    for (const auto& entry : fields::kNames<E>) {
      if (entry.name != fields::enum_name(entry.value) || !rule.allows(entry.value)) continue;
      auto at = counts.at(field.path).find(entry.name);
      EXPECT_TRUE(at != counts.at(field.path).end() && at->second >= 100) << field.path << " " << entry.name;
    }
  }
  template <class T, class Rule>
  void operator()(const fields::Field& field, const T&, const Rule&) {
    EXPECT_GE(counts.at(field.path).size(), 2u) << field.path;
  }
};

TEST(RandomSpec, IsValidAndCoversEveryValue) {
  std::mt19937_64 rng(seed());
  Counts counts;
  for (int i = 0; i < 10'000; ++i) {
    AttentionSpec spec = random_spec(rng);
    Status status = validate(spec);
    ASSERT_TRUE(status.ok()) << status.to_string() << "\n" << to_json(spec);
    fields::visit_fields(spec, Counter{counts});
  }
  const AttentionSpec preset;
  fields::visit_fields(preset, EnumCoverage{counts});
  for (const char* path : {"head_dim_qk", "head_dim_vo"}) {
    EXPECT_EQ(counts[path].size(), 16u) << path;
    for (const auto& [dim, n] : counts[path]) EXPECT_GE(n, 50) << path << " " << dim;
  }
  EXPECT_EQ(counts["layout.page_size"].size(), 10u);
  EXPECT_GE(counts["group_size"].size(), 100u);
  EXPECT_GE(counts["tile"].size(), 100u);
  EXPECT_LE(counts["tile"]["auto"], 9'000);
  EXPECT_GE(counts["split_kv"].size(), 100u);
}

TEST(RandomSpec, AppendIsValidAndCoversEveryValue) {
  std::mt19937_64 rng(seed());
  Counts counts;
  for (int i = 0; i < 10'000; ++i) {
    AppendSpec spec = random_append_spec(rng);
    Status status = validate(spec);
    ASSERT_TRUE(status.ok()) << status.to_string() << "\n" << to_json(spec);
    fields::visit_fields(spec, Counter{counts});
  }
  const AppendSpec preset;
  fields::visit_fields(preset, EnumCoverage{counts});
  EXPECT_EQ(counts["rope_dims"].size(), 17u);
}

TEST(RandomSpec, MergeIsValidAndCoversEveryValue) {
  std::mt19937_64 rng(seed());
  Counts counts;
  for (int i = 0; i < 10'000; ++i) {
    MergeSpec spec = random_merge_spec(rng);
    Status status = validate(spec);
    ASSERT_TRUE(status.ok()) << status.to_string() << "\n" << to_json(spec);
    fields::visit_fields(spec, Counter{counts});
  }
  const MergeSpec preset;
  fields::visit_fields(preset, EnumCoverage{counts});
  EXPECT_EQ(counts["head_dim"].size(), 32u);
}

TEST(RandomSpec, TheSameSeedGivesTheSameSpecs) {
  std::mt19937_64 a(7), b(7);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(random_spec(a), random_spec(b));
    EXPECT_EQ(random_append_spec(a), random_append_spec(b));
    EXPECT_EQ(random_merge_spec(a), random_merge_spec(b));
  }
}

}  // namespace
}  // namespace lathe::testing
