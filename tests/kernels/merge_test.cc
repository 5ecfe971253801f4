// The merge kernel against the fp64 oracle.
#include "lathe/api/merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "lathe/oracle/float16.h"
#include "lathe/oracle/merge.h"
#include "lathe/proof/harness.h"
#include "lathe/spec_testing/random_spec.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr float kEmpty = -std::numeric_limits<float>::infinity();

struct States {
  int64_t num, tokens, heads;
  std::vector<uint16_t> o;
  std::vector<float> lse;
};

States draw_states(const MergeSpec& spec, std::mt19937_64& rng) {
  States s{static_cast<int64_t>(1 + rng() % 17), static_cast<int64_t>(1 + rng() % 20), static_cast<int64_t>(1 + rng() % 5), {}, {}};
  std::normal_distribution<double> normal;
  const double range = rng() % 2 == 0 ? 2.0 : 40.0;  // near each other, or one far above the rest
  for (int64_t row = 0; row < s.num * s.tokens * s.heads; ++row) {
    const bool empty = rng() % 5 == 0;
    s.lse.push_back(empty ? kEmpty : static_cast<float>(range * normal(rng)));
    for (int d = 0; d < spec.head_dim; ++d) {
      s.o.push_back(empty ? oracle::nan_pattern(spec.dtype)
                          : oracle::encode(spec.dtype, normal(rng)));  // an empty state may hold anything
    }
  }
  return s;
}

template <class T>
GuardedBuffer buffer(const std::shared_ptr<Device>& device, const std::vector<T>& content) {
  Result<GuardedBuffer> made = GuardedBuffer::make(device, std::as_bytes(std::span(content)));
  EXPECT_TRUE(made.ok()) << made.status().to_string();
  return *std::move(made);
}

template <class T>
std::vector<T> content(const GuardedBuffer& b) {
  const Bytes bytes = *b.read();
  std::vector<T> out(bytes.size() / sizeof(T));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  EXPECT_EQ(*b.damage(), "");
  return out;
}

void check_merge(const MergeSpec& spec, const Merge& merge, const std::shared_ptr<Device>& device, const States& s, bool with_lse) {
  const int64_t rows = s.tokens * s.heads;
  const std::vector<int32_t> sizes{static_cast<int32_t>(rows), static_cast<int32_t>(s.num)};
  const GuardedBuffer o = buffer(device, s.o), lse = buffer(device, s.lse), lengths = buffer(device, sizes);
  const GuardedBuffer out_o = buffer(device, std::vector<uint16_t>(static_cast<size_t>(rows * spec.head_dim), 0x5a5a));
  const GuardedBuffer out_lse = buffer(device, std::vector<float>(static_cast<size_t>(rows), 77.0f));
  MergeArgs args{.o = Tensor::contiguous(o.data(), {s.num, s.tokens, s.heads, spec.head_dim}),
                 .lse = Tensor::contiguous(lse.data(), {s.num, s.tokens, s.heads}),
                 .merged_o = Tensor::contiguous(out_o.data(), {s.tokens, s.heads, spec.head_dim}),
                 .merged_lse = with_lse ? Tensor::contiguous(out_lse.data(), {s.tokens, s.heads}) : Tensor{},
                 .sizes = reinterpret_cast<const int32_t*>(lengths.data())};
  const Status status = merge.run(args, nullptr);
  ASSERT_TRUE(status.ok()) << status.to_string();

  const oracle::MergeOutput expected = oracle::merge(spec, s.num, rows, s.o, s.lse);
  const auto got_o = content<uint16_t>(out_o);
  const auto got_lse = content<float>(out_lse);
  const double step = spec.dtype == DType::f16 ? std::ldexp(1.0, -11) : std::ldexp(1.0, -8);  // half a unit in the last place
  for (size_t i = 0; i < got_o.size(); ++i) {
    const double x = oracle::decode(spec.dtype, got_o[i]);
    // One rounding of the result, and fp32 sums of up to 17 terms of magnitude below 8.
    ASSERT_LE(std::fabs(x - expected.o[i]), step * std::fabs(expected.o[i]) + 1e-5)
        << "element " << i << " is " << x << ", should be " << expected.o[i];
  }
  for (size_t r = 0; r < got_lse.size(); ++r) {
    if (!with_lse) {
      ASSERT_EQ(got_lse[r], 77.0f);
    } else if (static_cast<double>(got_lse[r]) != expected.lse[r]) {
      ASSERT_NEAR(got_lse[r], expected.lse[r], 2e-4) << "row " << r;
    }
  }
}

TEST(MergeKernel, AgreesWithTheOracle) {
  std::mt19937_64 rng(seed());
  for (int i = 0; i < 10; ++i) {
    MergeSpec spec = random_merge_spec(rng);
    spec.arch = "host";
    auto device = host_device({.seed = rng(), .check = true});
    Result<Merge> merge = Merge::prepare(engine(), device, spec);
    ASSERT_TRUE(merge.ok()) << merge.status().to_string();
    for (int n = 0; n < 3; ++n) {
      check_merge(spec, *merge, device, draw_states(spec, rng), n != 2);
      if (::testing::Test::HasFatalFailure()) FAIL() << to_json(spec) << "\nrepeat: " << repeat_command();
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
    States s{1, 7, 3, std::vector<uint16_t>(7 * 3 * 64), std::vector<float>(21, 3.5f)};
    for (uint16_t& x : s.o) x = oracle::encode(dtype, std::normal_distribution<double>()(rng));
    check_merge(spec, *merge, device, s, true);
  }
}

TEST(MergeKernel, AllStatesEmpty) {
  MergeSpec spec;
  auto device = host_device({.seed = seed(), .check = true});
  Result<Merge> merge = Merge::prepare(engine(), device, spec);
  ASSERT_TRUE(merge.ok()) << merge.status().to_string();
  check_merge(spec, *merge, device,
              {4, 2, 2, std::vector<uint16_t>(4 * 4 * 128, oracle::nan_pattern(DType::bf16)), std::vector<float>(16, kEmpty)},
              true);
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
