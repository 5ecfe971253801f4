// The merge kernel against the fp64 oracle.
#include "lathe/api/merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "lathe/oracle/float16.h"
#include "lathe/proof/harness.h"
#include "lathe/proof/merge_case.h"
#include "lathe/spec_testing/random_spec.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr float kEmpty = -std::numeric_limits<float>::infinity();

TEST(MergeKernel, AgreesWithTheOracle) {
  std::mt19937_64 rng(seed());
  for (int i = 0; i < 10; ++i) {
    MergeSpec spec = random_merge_spec(rng);
    spec.hooks = {};
    spec.arch = "host";
    auto device = host_device({.seed = rng(), .check = true});
    Result<Merge> merge = Merge::prepare(engine(), device, spec);
    ASSERT_TRUE(merge.ok()) << merge.status().to_string();
    for (int n = 0; n < 3; ++n) {
      ASSERT_EQ(MergeCase(spec, rng).run(device, *merge, n != 2), "") << to_json(spec) << "\nrepeat: " << repeat_command();
    }
  }
}

TEST(MergeKernel, OneStateComesBack) {
  for (DType dtype : {DType::f16, DType::bf16}) {
    MergeSpec spec;
    spec.dtype = dtype;
    spec.head_dim = 64;
    auto device = host_device({.seed = seed(), .check = true});
    Result<Merge> merge = Merge::prepare(engine(), device, spec);
    ASSERT_TRUE(merge.ok()) << merge.status().to_string();
    std::mt19937_64 rng(seed());
    std::vector<uint16_t> o(7 * 3 * 64);
    for (uint16_t& x : o) x = oracle::encode(dtype, std::normal_distribution<double>()(rng));
    const MergeCase one(spec, {1, 7, 3}, o, std::vector<float>(21, 3.5f), rng);
    EXPECT_EQ(one.run(device, *merge), "");
  }
}

TEST(MergeKernel, AllStatesEmpty) {
  MergeSpec spec;
  auto device = host_device({.seed = seed(), .check = true});
  Result<Merge> merge = Merge::prepare(engine(), device, spec);
  ASSERT_TRUE(merge.ok()) << merge.status().to_string();
  std::mt19937_64 rng(seed());
  const MergeCase empty(spec, {4, 2, 2}, std::vector<uint16_t>(4 * 4 * 128, oracle::nan_pattern(DType::bf16)),
                        std::vector<float>(16, kEmpty), rng);
  EXPECT_EQ(empty.run(device, *merge), "");
}

// What callers get wrong is refused by name and value, all of it at once.
TEST(MergeKernel, BadInputIsRefused) {
  MergeSpec spec;
  spec.head_dim = 12;
  Result<Merge> merge = Merge::prepare(engine(), host_device(), spec);
  ASSERT_FALSE(merge.ok());
  EXPECT_THAT(merge.status().to_string(), AllOf(HasSubstr("head_dim"), HasSubstr("12")));
  spec = {};
  spec.lse = LseOut::none;
  EXPECT_FALSE(Merge::prepare(engine(), host_device(), spec).ok());

  merge = Merge::prepare(engine(), host_device(), MergeSpec{});
  ASSERT_TRUE(merge.ok()) << merge.status().to_string();
  alignas(16) static std::byte memory[1024];
  MergeArgs args{.o = Tensor::contiguous(memory, {1, 1, 1, 128}),
                 .lse = Tensor::contiguous(memory, {1, 1, 2}),
                 .merged_o = Tensor::contiguous(memory + 512, {1, 1, 64}),
                 .merged_lse = {},
                 .sizes = nullptr};
  const Status status = merge->run(args, nullptr);
  EXPECT_EQ(status.code(), Code::invalid_argument);
  EXPECT_THAT(status.to_string(), AllOf(HasSubstr("lse"), HasSubstr("merged_o"), HasSubstr("sizes")));
}

}  // namespace
}  // namespace lathe::testing
