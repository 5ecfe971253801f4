// Refused calls about keys and values that are codes of 8 bits.
#include <limits>

#include "bad_call.h"

namespace lathe::testing {
namespace {

class BadKvFormats : public BadCall {
 protected:
  // Keys with every table over tokens, values with every table over channels.
  void prepare_codes() {
    AttentionSpec spec = small();
    spec.kfmt = spec.vfmt = DType::i8;
    spec.kscale = KvScale::token, spec.kzero = KvZero::token;
    spec.vscale = KvScale::channel, spec.vzero = KvZero::channel;
    prepare(spec);
    const auto tokens = [&](int place) { return Tensor::contiguous(memory_.get() + (place << 16), {kPages, kPageSize, kHeads}); };
    const auto channels = [&](int place) { return Tensor::contiguous(memory_.get() + (place << 16), {kHeads, kDim}); };
    args_.k_scales = {0.5f, tokens(7), {}, tokens(8)};
    args_.v_scales = {0.25f, {}, channels(9), channels(10)};
  }
  template <class Change>
  void refuse(Change&& change, const std::vector<std::string>& words) {
    AttentionArgs args = args_;
    change(args);
    expect_run_refused(args, words);
  }
};

TEST_F(BadKvFormats, CorrectCallsRun) {
  prepare_codes();
  Result<PlannedAttention> plan = attention_->plan(batch_, kHeads);
  ASSERT_TRUE(plan.ok());
  ASSERT_TRUE(attention_->upload(*plan, workspace_, plan->plan.workspace.total(), nullptr).ok());
  const Status status = attention_->run(args_, *plan, workspace_, nullptr);
  EXPECT_TRUE(status.ok()) << status.to_string();
}

TEST_F(BadKvFormats, Scales) {
  prepare_codes();
  for (float scale : {0.0f, -1.0f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
    refuse([&](AttentionArgs& a) { a.k_scales.scale = scale; }, {"k_scales.scale", "must be finite and > 0"});
  refuse([](AttentionArgs& a) { a.v_scales.scale = -2; }, {"v_scales.scale", "-2"});
}

TEST_F(BadKvFormats, Tables) {
  prepare_codes();
  refuse([](AttentionArgs& a) { a.k_scales.token_scale = {}; }, {"k_scales.token_scale", "0 dimensions", "must have 3"});
  refuse([](AttentionArgs& a) { a.v_scales.zero = {}; }, {"v_scales.zero", "0 dimensions", "must have 2"});
  refuse([](AttentionArgs& a) { a.k_scales.token_scale.shape[0] = 3; },
         {"k_scales.token_scale.shape[0]", "is 3", "at least 4", "pages of k"});
  refuse([](AttentionArgs& a) { a.k_scales.zero.shape[1] = 15; }, {"k_scales.zero.shape[1]", "is 15", "at least 16", "page_size"});
  refuse([](AttentionArgs& a) { a.v_scales.channel_scale.shape[0] = 1; },
         {"v_scales.channel_scale.shape[0]", "is 1", "at least 2", "num_kv_heads"});
  refuse([](AttentionArgs& a) { a.v_scales.zero.shape[1] = 31; }, {"v_scales.zero.shape[1]", "is 31", "at least 32", "head dim"});
  refuse([](AttentionArgs& a) { a.k_scales.zero.stride[2] = -1; }, {"k_scales.zero", "negative stride -1"});
  refuse([](AttentionArgs& a) { a.k_scales.zero.data = nullptr; }, {"k_scales.zero", "is null"});
  refuse([](AttentionArgs& a) { a.v_scales.zero.data = static_cast<std::byte*>(a.v_scales.zero.data) + 2; },
         {"v_scales.zero", "aligned", "4"});
}

TEST_F(BadKvFormats, TablesThatTheSpecDoesNotHave) {
  prepare_codes();
  refuse([](AttentionArgs& a) { a.k_scales.channel_scale = a.v_scales.channel_scale; },
         {"k_scales.channel_scale", "is given", "kscale has none"});
  refuse([](AttentionArgs& a) { a.v_scales.token_scale = a.k_scales.token_scale; }, {"v_scales.token_scale", "vscale has none"});
}

TEST_F(BadKvFormats, ScalesOfElementsThatHaveNone) {
  prepare(small());
  AttentionArgs args = args_;
  args.k_scales.scale = 2;
  expect_run_refused(args, {"k_scales.scale", "2", "kfmt bf16 has no scales"});
}

// Codes are rows of whole 16 bytes too.
TEST_F(BadKvFormats, StridesOfCodes) {
  prepare_codes();
  refuse([](AttentionArgs& a) { a.k.stride[2] = 8; }, {"k", "stride 2 is 8", "multiple of 16 elements"});
}

}  // namespace
}  // namespace lathe::testing
