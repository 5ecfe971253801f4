// Calls of the append kernel that are refused, each by the name of what is wrong, before anything is launched.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "lathe/api/append.h"
#include "lathe/proof/harness.h"

namespace lathe::testing {
namespace {

using ::testing::HasSubstr;

class BadAppend : public ::testing::Test {
 protected:
  static constexpr int64_t kTokens = 3, kHeads = 2, kQoHeads = 4, kPages = 4, kPageSize = 16, kDim = 32;

  // Keys by token, turned; values by channel; tokens by position.
  BadAppend() {
    spec_.head_dim_qk = spec_.head_dim_vo = kDim;
    spec_.kfmt = spec_.vfmt = DType::i8;
    spec_.kscale = KvScale::token, spec_.kzero = KvZero::token;
    spec_.vscale = KvScale::channel, spec_.vzero = KvZero::channel;
    spec_.rope = RopePairs::neox;
    spec_.place = TokenPlace::positions;
    memory_ = *device_->allocate(kParts << 16);
    EXPECT_TRUE(device_->fill(memory_.get(), 0, kParts << 16, nullptr).ok());
    args_.q = args_.q_out = Tensor::contiguous(part(0), {kTokens, kQoHeads, kDim});
    args_.k = Tensor::contiguous(part(1), {kTokens, kHeads, kDim});
    args_.v = Tensor::contiguous(part(2), {kTokens, kHeads, kDim});
    args_.k_cache = Tensor::contiguous(part(3), {kPages, kPageSize, kHeads, kDim});
    args_.v_cache = Tensor::contiguous(part(4), {kPages, kPageSize, kHeads, kDim});
    args_.k_scales = {0.5f,
                      Tensor::contiguous(part(5), {kPages, kPageSize, kHeads}),
                      {},
                      Tensor::contiguous(part(6), {kPages, kPageSize, kHeads})};
    args_.v_scales = {0.25f, {}, Tensor::contiguous(part(7), {kHeads, kDim}), Tensor::contiguous(part(8), {kHeads, kDim})};
    args_.batch_indices = list(9), args_.positions = list(10), args_.kv_indptr = list(11), args_.kv_indices = list(12);
    args_.num_requests = 1, args_.num_kv_indices = kPages;
    args_.cos_sin = Tensor::contiguous(part(13), {64, kDim});
    // Tokens 0, 1 and 2 of one request: zeroed memory would put all at one place.
    const int32_t positions[kTokens] = {0, 1, 2};
    EXPECT_TRUE(device_->copy_in(part(10), positions, sizeof(positions), nullptr).ok());
  }
  void* part(int i) { return memory_.get() + (static_cast<size_t>(i) << 16); }
  const int32_t* list(int i) { return static_cast<const int32_t*>(part(i)); }

  Status run(const AppendSpec& spec, const AppendArgs& args) {
    Result<Append> append = Append::prepare(engine(), device_, spec);
    EXPECT_TRUE(append.ok()) << append.status().to_string();
    return append->run(args, nullptr);
  }
  template <class Change>
  void refuse(Change&& change, const std::vector<std::string>& words) {
    AppendSpec spec = spec_;
    AppendArgs args = args_;
    change(spec, args);
    const Status status = run(spec, args);
    EXPECT_EQ(status.code(), Code::invalid_argument) << status.to_string();
    for (const std::string& word : words) EXPECT_THAT(status.to_string(), HasSubstr(word));
  }

  static constexpr size_t kParts = 14;
  std::shared_ptr<Device> device_ = host_device({.check = true});
  std::shared_ptr<std::byte> memory_;
  AppendSpec spec_;
  AppendArgs args_;
};

TEST_F(BadAppend, CorrectCallsRun) {
  const Status status = run(spec_, args_);
  EXPECT_TRUE(status.ok()) << status.to_string();
  AppendArgs none = args_;
  none.q.shape[0] = none.q_out.shape[0] = none.k.shape[0] = none.v.shape[0] = 0;
  EXPECT_TRUE(run(spec_, none).ok());
}

TEST_F(BadAppend, Tensors) {
  refuse([](AppendSpec&, AppendArgs& a) { a.k = {}; }, {"k: ", "rank 0", "rank 3"});
  refuse([](AppendSpec&, AppendArgs& a) { a.v.shape[0] = 2; }, {"v: ", "dimension 0 is 2, must be 3"});
  refuse([](AppendSpec&, AppendArgs& a) { a.q.shape[0] = 2; }, {"q: ", "dimension 0 is 2, must be 3"});
  refuse([](AppendSpec&, AppendArgs& a) { a.q_out = {}; }, {"q_out: ", "rank 0"});
  refuse([](AppendSpec&, AppendArgs& a) { a.q = {}; }, {"q_out: is given, but q is not"});
  refuse([](AppendSpec&, AppendArgs& a) { a.k_cache.shape[1] = 8; }, {"k_cache: ", "dimension 1 is 8, must be 16"});
  refuse([](AppendSpec&, AppendArgs& a) { a.v_cache.shape[0] = 3; }, {"v_cache: has 3 in dimension 0, k_cache has 4"});
  refuse([](AppendSpec&, AppendArgs& a) { a.v.data = static_cast<std::byte*>(a.v.data) + 2; }, {"v: ", "16-byte aligned"});
  refuse([](AppendSpec&, AppendArgs& a) { a.k.stride[0] = kHeads * kDim + 4; }, {"k: ", "multiple of 8 elements"});
  refuse([](AppendSpec& s, AppendArgs& a) { s.vfmt = s.kfmt, s.layout.storage = KvStorage::joint, a.k_cache.rank = 0; },
         {"k_cache: ", "rank 5", "v_cache: is given", "joint storage"});
  refuse([](AppendSpec&, AppendArgs& a) { a.cos_sin.shape[1] = 16; }, {"cos_sin: ", "dimension 1 is 16, must be 32"});
  refuse([](AppendSpec& s, AppendArgs&) { s.rope = RopePairs::none; },
         {"q: is given, but the spec's rope is none", "cos_sin: is given"});
}

TEST_F(BadAppend, QueriesThatOverlapTheirResults) {
  refuse([](AppendSpec&, AppendArgs& a) { a.q_out.stride[0] *= 2; }, {"q_out: begins where q does, but has other strides"});
}

// Keys and values took turns in one place.
TEST_F(BadAppend, OneCacheForBoth) {
  refuse([](AppendSpec&, AppendArgs& a) { a.v_cache.data = a.k_cache.data; }, {"v_cache: begins where k_cache does"});
}

// The product left 64 bits.
TEST_F(BadAppend, BlockTablesPast64Bits) {
  refuse(
      [](AppendSpec& s, AppendArgs& a) {
        s.layout.index = PageIndex::table;
        a.kv_indptr = nullptr;
        a.num_requests = std::numeric_limits<int64_t>::max(), a.block_table_stride = 5;
      },
      {"num_requests: is 9223372036854775807, must be in 1..", "num_kv_indices: is 4, but the block table has"});
}

TEST_F(BadAppend, Places) {
  refuse([](AppendSpec&, AppendArgs& a) { a.positions = nullptr; }, {"positions: is null"});
  refuse([](AppendSpec&, AppendArgs& a) { a.batch_indices = nullptr; }, {"batch_indices: is null"});
  refuse([](AppendSpec&, AppendArgs& a) { a.kv_indptr = nullptr; }, {"kv_indptr: is null"});
  refuse([](AppendSpec&, AppendArgs& a) { a.kv_indices = nullptr; }, {"kv_indices: is null"});
  refuse([](AppendSpec&, AppendArgs& a) { a.num_requests = 0; }, {"num_requests: is 0, must be in 1.."});
  refuse([](AppendSpec&, AppendArgs& a) { a.num_kv_indices = -1; }, {"num_kv_indices: is -1, must be in 1.."});
  refuse([](AppendSpec&, AppendArgs& a) { a.block_table_stride = 2; },
         {"block_table_stride: is 2, but the spec has no block table"});
  refuse([&](AppendSpec&, AppendArgs& a) { a.slot_mapping = reinterpret_cast<const int64_t*>(a.positions); },
         {"slot_mapping: is given, but the spec's place is positions"});
  refuse([](AppendSpec& s, AppendArgs& a) { s.layout.index = PageIndex::table, a.block_table_stride = 5; },
         {"kv_indptr: is given, but the spec's layout.index is table", "num_kv_indices: is 4, but the block table has 1 * 5"});
  refuse([](AppendSpec& s, AppendArgs&) { s.place = TokenPlace::slots; },
         {"slot_mapping: is null", "batch_indices: is given", "kv_indptr: is given", "kv_indices: is given",
          "num_requests: is 1, but"});
  refuse([](AppendSpec&,
            AppendArgs& a) { a.positions = reinterpret_cast<const int32_t*>(reinterpret_cast<uintptr_t>(a.positions) + 2); },
         {"positions: must be aligned"});
}

TEST_F(BadAppend, Scales) {
  for (float scale : {0.0f, -1.0f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
    refuse([&](AppendSpec&, AppendArgs& a) { a.k_scales.scale = scale; }, {"k_scales.scale", "must be finite and > 0"});
  refuse([](AppendSpec&, AppendArgs& a) { a.v_scales.scale = 1e-35f; }, {"v_scales.scale", "must be in 2^-100..2^100"});
  refuse([](AppendSpec&, AppendArgs& a) { a.k_scales.token_scale = {}; }, {"k_scales.token_scale", "0 dimensions", "must have 3"});
  refuse([](AppendSpec&, AppendArgs& a) { a.v_scales.zero = {}; }, {"v_scales.zero", "0 dimensions", "must have 2"});
  refuse([](AppendSpec&, AppendArgs& a) { a.k_scales.zero.shape[0] = 3; }, {"k_scales.zero.shape[0]", "is 3", "at least 4"});
  refuse([](AppendSpec& s, AppendArgs&) { s.kzero = KvZero::none; }, {"k_scales.zero", "is given, but the spec's kzero has none"});
}

TEST_F(BadAppend, Specs) {
  AppendSpec spec = spec_;
  spec.head_dim_qk = 24;
  spec.rope_dims = 20;
  const Result<Append> append = Append::prepare(engine(), device_, spec);
  ASSERT_FALSE(append.ok());
  EXPECT_THAT(append.status().to_string(), HasSubstr("head_dim_qk: 24"));
  EXPECT_THAT(append.status().to_string(), HasSubstr("rope_dims: 20"));
  EXPECT_FALSE(Append::prepare(engine(), nullptr, spec_).ok());
  spec = spec_;
  spec.arch = "sm_90a";
  EXPECT_THAT(Append::prepare(engine(), device_, spec).status().to_string(), HasSubstr("arch"));
}

}  // namespace
}  // namespace lathe::testing
