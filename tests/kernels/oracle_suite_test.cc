// The kernels on the host executor, with every check on, against the fp64 oracle: random specs, random batches.
#include <gtest/gtest.h>

#include <cstdio>
#include <set>

#include "lathe/plan/attention_plan.h"
#include "lathe/proof/cases.h"
#include "lathe/proof/harness.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

uint64_t shard_seed(int shard) {
  return mix(seed(), static_cast<uint64_t>(shard));
}

// The schedule that the executor's device would be given, made without compiling.
Result<AttentionPlan> plan_of(const AttentionSpec& spec, const AttentionTile& tile, const BatchShape& shape) {
  const std::vector<int32_t> qo_indptr = indptr(shape.qo_lens), kv_begin(shape.batch(), 0);
  return plan_attention({spec, tile, shape.num_kv_heads, SimtOptions{}.num_sms, {}},
                        {qo_indptr, shape.kv_lens, kv_begin, shape.window});
}

// The batches of spec `i` of a shard. Most are drawn until the planner splits them.
std::vector<BatchShape> batches_of(const AttentionSpec& spec, const AttentionTile& tile, int shard, size_t i) {
  std::mt19937_64 rng(mix(shard_seed(shard), i));
  std::vector<BatchShape> out;
  for (int n = 0; n < kBatchesPerSpec; ++n) {
    const bool want_split = rng() % 12 != 0;
    BatchShape shape = draw_batch(spec, tile, want_split, rng);
    for (int attempt = 0; attempt < 6 && want_split; ++attempt) {
      if (const Result<AttentionPlan> plan = plan_of(spec, tile, shape); !plan.ok() || plan->num_split_tiles > 0) break;
      shape = draw_batch(spec, tile, want_split, rng);
    }
    out.push_back(std::move(shape));
  }
  return out;
}

class Kernels : public ::testing::TestWithParam<int> {};

TEST_P(Kernels, Oracle) {
  Coverage coverage;
  const std::vector<AttentionSpec> specs = draw_specs(GetParam(), shard_seed(GetParam()));
  for (size_t i = 0; i < specs.size(); ++i) {
    auto device = host_device({.seed = shard_seed(GetParam()) + i, .check = true});
    Result<Attention> attention = Attention::prepare(engine(), device, specs[i]);
    ASSERT_TRUE(attention.ok()) << attention.status().to_string() << "\n" << to_json(specs[i]);
    const std::vector<BatchShape> batches = batches_of(specs[i], attention->tile(), GetParam(), i);
    for (size_t n = 0; n < batches.size(); ++n) {
      Outcome outcome;
      EXPECT_EQ(prove(device, *attention, batches[n], mix(shard_seed(GetParam()), 1000 * i + n), repeat_command(), &outcome), "")
          << "spec " << i << ", batch " << n;
      coverage.add(specs[i], attention->tile(), batches[n], outcome.plan.plan.num_split_tiles);
    }
  }
  std::printf("%s", coverage.table().c_str());
  // Half of all shards together (KernelCases.Coverage); one alone has twelve specs, and luck.
  EXPECT_GE(4 * coverage.deep_and_split(), coverage.batches());
}
INSTANTIATE_TEST_SUITE_P(, Kernels, ::testing::Range(0, kShards), [](const auto& shard) { return std::to_string(shard.param); });

// What all shards together cover, without running them.
TEST(KernelCases, Coverage) {
  Coverage coverage;
  std::set<std::string> distinct;
  for (int shard = 0; shard < kShards; ++shard) {
    const std::vector<AttentionSpec> specs = draw_specs(shard, shard_seed(shard));
    for (size_t i = 0; i < specs.size(); ++i) {
      AttentionSpec unnamed = specs[i];
      unnamed.label.clear();
      distinct.insert(to_json(unnamed));
      Result<AttentionTile> tile = resolve_tile(specs[i], *arch_traits("host"));
      ASSERT_TRUE(tile.ok()) << tile.status().to_string() << "\n" << to_json(specs[i]);
      for (const BatchShape& shape : batches_of(specs[i], *tile, shard, i)) {
        Result<AttentionPlan> plan = plan_of(specs[i], *tile, shape);
        ASSERT_TRUE(plan.ok()) << plan.status().to_string() << "\n" << to_json(specs[i]) << "\n" << to_string(shape);
        coverage.add(specs[i], *tile, shape, plan->num_split_tiles);
      }
    }
  }
  std::printf("%zu distinct specs, %s", distinct.size(), coverage.table().c_str());
  EXPECT_GE(distinct.size(), 120u);
  EXPECT_GE(coverage.batches(), 400);
  EXPECT_GE(2 * coverage.deep_and_split(), coverage.batches());
  EXPECT_EQ(coverage.rare(5), "");
}

}  // namespace
}  // namespace lathe::testing
