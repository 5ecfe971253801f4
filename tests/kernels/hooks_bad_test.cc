// What hooks are given at run time, refused when it does not fit their declarations.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "bad_call.h"
#include "lathe/api/attention_planner.h"
#include "lathe/spec/expr/parse.h"

namespace lathe::testing {
namespace {

class BadHooks : public BadCall {
 protected:
  void prepare_hooks(const char* text) {
    AttentionSpec spec = small();
    spec.hooks = *expr::parse(text);
    prepare(spec);
    if (!attention_) return;
    const int64_t rows = 3, heads = kHeads * spec.group_size;
    tensors_ = {{"a", Tensor::contiguous(memory_.get() + (4 << 16) + 4096, {rows, heads})}};
    params_ = {{"W", 8}, {"c", 0.5}};
    batch_.hook_params = params_;
    args_.hook_params = params_;
    args_.hook_tensors = tensors_;
  }
  void expect_params_refused(std::vector<HookParam> params, const std::vector<std::string>& words) {
    AttentionArgs args = args_;
    args.hook_params = params;
    expect_run_refused(args, words);
  }
  void expect_tensor_refused(const std::function<void(Tensor&)>& change, const std::vector<std::string>& words) {
    std::vector<HookTensor> tensors = tensors_;
    change(tensors[0].tensor);
    AttentionArgs args = args_;
    args.hook_tensors = tensors;
    expect_run_refused(args, words);
  }

  std::vector<HookParam> params_;
  std::vector<HookTensor> tensors_;
};

constexpr const char* kHooks =
    "param W: i32 in [1, 100]; param c: f32; tensor a: f32[TOK, HQ]; mask = q_pos - kv_pos < W; logits = score * c + a[tok, h]";

TEST_F(BadHooks, TheUnspoiledCallIsAccepted) {
  prepare_hooks(kHooks);
  Result<PlannedAttention> plan = attention_->plan(batch_, BadCall::kHeads);
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  ASSERT_TRUE(attention_->upload(*plan, workspace_, plan->plan.workspace.total(), nullptr).ok());
  const Status status = attention_->run(args_, *plan, workspace_, nullptr);
  EXPECT_TRUE(status.ok()) << status.to_string();
}

TEST_F(BadHooks, Params) {
  prepare_hooks(kHooks);
  expect_params_refused({{"W", 8}}, {"hook_params.c", "is missing"});
  expect_params_refused({{"W", 8}, {"c", 1}, {"d", 1}}, {"hook_params", "has d", "allowed: W, c"});
  expect_params_refused({{"W", 8}, {"W", 8}, {"c", 1}}, {"has W twice"});
  expect_params_refused({{"W", 101}, {"c", 1}}, {"hook_params.W", "101", "1..100"});
  expect_params_refused({{"W", 8.5}, {"c", 1}}, {"hook_params.W", "8.5", "a whole number"});
  expect_params_refused({{"W", 8}, {"c", std::numeric_limits<double>::quiet_NaN()}}, {"hook_params.c", "nan"});
  expect_params_refused({{"W", 8}, {"c", std::numeric_limits<double>::infinity()}}, {"hook_params.c", "inf"});
  expect_params_refused({{"W", 9}, {"c", 1}}, {"hook_params.W", "9", "the plan was made for 8"});
}

// 0.1 was compared with the bound as f32, and refused as "0.1, must be in 0.1..1".
TEST_F(BadHooks, AParamMayBeItsOwnBound) {
  prepare_hooks("param c: f32 in [0.1, 1]; logits = score * c");
  batch_.hook_params = {};
  expect_params_refused({{"c", 0.09999999}}, {"hook_params.c", "is 0.09999999, must be in 0.1..1"});
  expect_params_refused({{"c", 1.0000001}}, {"hook_params.c", "is 1.0000001, must be in 0.1..1"});
  for (const double end : {0.1, 1.0}) {
    const std::vector<HookParam> params{{"c", end}};
    args_.hook_params = params;
    args_.hook_tensors = {};
    Result<PlannedAttention> plan = attention_->plan(batch_, BadCall::kHeads);
    ASSERT_TRUE(plan.ok()) << plan.status().to_string();
    ASSERT_TRUE(attention_->upload(*plan, workspace_, plan->plan.workspace.total(), nullptr).ok());
    const Status status = attention_->run(args_, *plan, workspace_, nullptr);
    EXPECT_TRUE(status.ok()) << status.to_string();
  }
}

TEST_F(BadHooks, ParamsOfPlans) {
  prepare_hooks(kHooks);
  AttentionBatch batch = batch_;
  batch.hook_params = {};
  expect_plan_refused(batch, {"hook_params.W", "is missing", "the mask depends on it"});
  const std::vector<HookParam> wrong{{"W", 0}};
  batch.hook_params = wrong;
  expect_plan_refused(batch, {"hook_params.W", "0", "1..100"});
  const std::vector<SharedPrefix> prefixes{{0, 2, 3, 16}};
  batch = batch_;
  batch.prefixes = prefixes;
  expect_plan_refused(batch, {"prefixes", "hooks of scores"});
}

TEST_F(BadHooks, ParamsWithoutAMask) {
  prepare_hooks("param W, c: f32; tensor a: f32[TOK, HQ]; logits = score * c + a[tok, h] * W");
  expect_plan_refused(batch_, {"hook_params", "the spec's hooks have none", "run()"});
}

TEST_F(BadHooks, Tensors) {
  prepare_hooks(kHooks);
  AttentionArgs args = args_;
  args.hook_tensors = {};
  expect_run_refused(args, {"hook_tensors.a", "is missing"});
  std::vector<HookTensor> other = tensors_;
  other[0].name = "b";
  args.hook_tensors = other;
  expect_run_refused(args, {"has b", "allowed: a", "hook_tensors.a"});
  expect_tensor_refused([](Tensor& t) { t.rank = 1; }, {"hook_tensors.a", "1 dimensions", "must have 2"});
  expect_tensor_refused([](Tensor& t) { t.shape[0] = 2; }, {"hook_tensors.a.shape[0]", "is 2", "at least 3", "TOK"});
  expect_tensor_refused([](Tensor& t) { t.shape[1] = 3; }, {"hook_tensors.a.shape[1]", "is 3", "at least 4", "HQ"});
  expect_tensor_refused([](Tensor& t) { t.stride[0] = -4; }, {"hook_tensors.a", "negative stride -4"});
  expect_tensor_refused([](Tensor& t) { t.stride[0] = int64_t{1} << 62; }, {"hook_tensors.a", "2^62"});
  expect_tensor_refused([](Tensor& t) { t.data = nullptr; }, {"hook_tensors.a", "null"});
  expect_tensor_refused([](Tensor& t) { t.data = static_cast<std::byte*>(t.data) + 2; }, {"hook_tensors.a", "aligned", "4"});
}

// Shorter copies were taken as if their last element went on.
TEST_F(BadHooks, HostCopiesThatAreTooShort) {
  AttentionSpec spec = small();
  spec.hooks = *expr::parse("tensor st: i32[TOK] sorted, on: u8[HQ]; mask = st[tok] <= kv_pos && on[h] > 0");
  prepare(spec);
  std::vector<int32_t> starts{0, 0, 0};
  std::vector<uint8_t> on{1, 1, 1, 1};
  std::vector<HookTensor> tensors{{"st", Tensor::contiguous(starts.data(), {3})}, {"on", Tensor::contiguous(on.data(), {4})}};
  batch_.hook_tensors = tensors;
  Result<PlannedAttention> plan = attention_->plan(batch_, BadCall::kHeads);
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  tensors[0].tensor.shape[0] = 2;
  expect_plan_refused(batch_, {"hook_tensors.st.shape[0]", "is 2", "at least 3", "TOK"});
  tensors[0].tensor.shape[0] = 3, tensors[1].tensor.shape[0] = 3;
  expect_plan_refused(batch_, {"hook_tensors.on.shape[0]", "is 3", "at least 4", "HQ"});
}

// A longest request of no keys was taken for one that is not known, and the table had to cover all that the pages could hold.
TEST_F(BadHooks, TablesOfABatchWithoutKeys) {
  AttentionSpec spec = small();
  spec.layout.index = PageIndex::table;
  spec.hooks = *expr::parse("tensor bias: f32[KVPOS]; logits = score + bias[kv_pos]");
  prepare(spec);
  const std::vector<int32_t> seq_lens{0, 0};
  batch_.kv_indptr = {}, batch_.last_page_len = {};
  batch_.seq_lens = seq_lens, batch_.block_table_stride = 2;
  args_.num_kv_indices = 4;
  float bias = 0;
  const std::vector<HookTensor> tensors{{"bias", Tensor::contiguous(&bias, {1})}};
  args_.hook_tensors = tensors;
  Result<PlannedAttention> plan = attention_->plan(batch_, BadCall::kHeads);
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  ASSERT_TRUE(attention_->upload(*plan, workspace_, plan->plan.workspace.total(), nullptr).ok());
  const Status status = attention_->run(args_, *plan, workspace_, nullptr);
  EXPECT_TRUE(status.ok()) << status.to_string();
}

TEST_F(BadHooks, PlansThatCannotFollowAMask) {
  AttentionSpec spec = small();
  spec.hooks = *expr::parse("mask = kv_pos <= q_pos");
  spec.split_kv = {SplitMode::fixed, 48};
  prepare(spec);
  expect_plan_refused(batch_, {"split_kv", "fixed(48)", "a multiple of the"});
  spec.split_kv = {};
  prepare(spec);
  Result<AttentionEnvelope> envelope =
      attention_->envelope({.num_kv_heads = BadCall::kHeads, .max_batch = 2, .max_qo_tokens = 3, .max_kv_entries = 4});
  ASSERT_TRUE(envelope.ok()) << envelope.status().to_string();
  Result<AttentionPlanner> planner = AttentionPlanner::prepare(engine(), device_, *attention_, *envelope);
  ASSERT_FALSE(planner.ok());
  expect_words(planner.status(), {"hooks", "on the host"});
}

}  // namespace
}  // namespace lathe::testing
