#include "lathe/oracle/merge.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lathe/oracle/float16.h"
#include "lathe/spec/expr/parse.h"

namespace lathe::oracle {
namespace {

constexpr float kEmpty = -std::numeric_limits<float>::infinity();

std::vector<uint16_t> patterns(std::initializer_list<double> per_state, int head_dim) {
  std::vector<uint16_t> out;
  for (double x : per_state) out.insert(out.end(), static_cast<size_t>(head_dim), encode(DType::bf16, x));
  return out;
}

TEST(MergeOracle, WeighsByTheExponentOfLse) {
  MergeSpec spec{.head_dim = 8};
  const float lse[] = {0.0f, std::log(3.0f)};  // masses 1 and 3
  MergeOutput out = merge(spec, 2, 1, patterns({4, 8}, 8), lse);
  EXPECT_NEAR(out.o[5], (1 * 4 + 3 * 8) / 4.0, 1e-6);
  EXPECT_NEAR(out.lse[0], std::log(4.0), 1e-6);
}

TEST(MergeOracle, BaseTwo) {
  MergeSpec spec{.head_dim = 8, .lse = LseOut::log2};
  const float lse[] = {1.0f, 1.0f, 2.0f};  // masses 2, 2, 4
  MergeOutput out = merge(spec, 3, 1, patterns({1, 2, 4}, 8), lse);
  EXPECT_DOUBLE_EQ(out.o[0], (2 * 1 + 2 * 2 + 4 * 4) / 8.0);
  EXPECT_DOUBLE_EQ(out.lse[0], 3.0);
}

TEST(MergeOracle, EmptyStatesCountForNothing) {
  MergeSpec spec{.head_dim = 8};
  auto o = patterns({7, 5}, 8);
  for (int d = 0; d < 8; ++d) o[static_cast<size_t>(d)] = nan_pattern(DType::bf16);
  const float lse[] = {kEmpty, -2.5f};
  MergeOutput out = merge(spec, 2, 1, o, lse);
  EXPECT_DOUBLE_EQ(out.o[7], 5.0);
  EXPECT_DOUBLE_EQ(out.lse[0], -2.5);

  const float none[] = {kEmpty, kEmpty};
  out = merge(spec, 2, 1, o, none);
  EXPECT_EQ(out.o[0], 0.0);
  EXPECT_EQ(out.lse[0], -std::numeric_limits<double>::infinity());
}

TEST(MergeOracle, ASinkIsOneMoreStateWithoutAValue) {
  MergeSpec spec{.head_dim = 8, .hooks = *expr::parse("sink = f32(h)")};
  const float lse[] = {0.0f, 0.0f, kEmpty, std::log(3.0f), std::log(2.0f), kEmpty};  // of rows (token, head) 0 0, 0 1, 1 0
  const auto o = patterns({4, 8, 16, 8, 2, 16}, 8);
  MergeOutput out = merge(spec, 2, 3, o, lse, {.num_heads = 2, .values = {}});
  EXPECT_NEAR(out.o[0], (1 * 4 + 3 * 8) / 5.0, 1e-6);  // the sink of head 0 has the mass 1
  EXPECT_NEAR(out.lse[0], std::log(5.0), 1e-6);
  EXPECT_NEAR(out.o[8], (1 * 8 + 2 * 2) / (3 + std::exp(1.0)), 1e-6);
  EXPECT_NEAR(out.lse[1], std::log(3 + std::exp(1.0)), 1e-6);
  EXPECT_EQ(out.o[16], 0.0);
  EXPECT_EQ(out.lse[2], 0.0) << "the sink alone";
  spec.lse = LseOut::log2;
  const float of_base_2[] = {1.0f};
  out = merge(spec, 1, 1, patterns({6}, 8), of_base_2);
  EXPECT_DOUBLE_EQ(out.o[0], 6 * 2 / 3.0);
  EXPECT_DOUBLE_EQ(out.lse[0], std::log2(3.0));
}

// It sees the row that all states and the sink make together.
TEST(MergeOracle, OutputComesLast) {
  MergeSpec spec{.head_dim = 8, .lse = LseOut::log2};
  spec.hooks = *expr::parse("param c: f32; tensor g: f32[TOK, D]; sink = 0; output = o * o + c * g[tok, d] + max(lse, -8)");
  HookValues values;
  values.params = {expr::Value::of(2.0)};
  values.tensors.resize(1);
  values.tensors[0].shape = {1, 8};
  for (int d = 0; d < 8; ++d) values.tensors[0].elements.push_back(expr::Value::of(static_cast<double>(d)));
  const float lse[] = {0.0f, 1.0f};
  const MergeOutput out = merge(spec, 2, 1, patterns({4, 8}, 8), lse, {.num_heads = 1, .values = values});
  for (size_t d = 0; d < 8; ++d)
    EXPECT_NEAR(out.o[d], 5.0 * 5.0 + 2.0 * static_cast<double>(d) + std::log(4.0), 1e-12) << "natural, whatever the spec's base";
  EXPECT_DOUBLE_EQ(out.lse[0], 2.0);
}

}  // namespace
}  // namespace lathe::oracle
