#include "bad_call.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace lathe::testing {

using ::testing::HasSubstr;

void BadCall::prepare(const AttentionSpec& spec) {
  Result<Attention> made = Attention::prepare(engine(), device_, spec);
  ASSERT_TRUE(made.ok()) << made.status().to_string();
  attention_.emplace(*std::move(made));
  memory_ = *device_->allocate(1 << 20);
  std::fill_n(memory_.get(), 1 << 20, std::byte{0});
  batch_.qo_indptr = qo_indptr_;
  batch_.kv_indptr = kv_indptr_;
  batch_.last_page_len = last_page_len_;
  batch_.window = spec.windowed() ? 8 : 0;
  args_.q = args_.o = Tensor::contiguous(memory_.get(), {3, kHeads * spec.group_size, kDim});
  args_.o.data = memory_.get() + (1 << 16);
  args_.k = Tensor::contiguous(memory_.get() + (2 << 16), {kPages, kPageSize, kHeads, kDim});
  args_.v = Tensor::contiguous(memory_.get() + (3 << 16), {kPages, kPageSize, kHeads, kDim});
  if (spec.lse != LseOut::none) args_.lse = Tensor::contiguous(memory_.get() + (4 << 16), {3, kHeads * spec.group_size});
  args_.kv_indices = reinterpret_cast<const int32_t*>(memory_.get() + (5 << 16));
  args_.num_kv_indices = 3;
  if (spec.soft_cap) args_.soft_cap = 30;
  workspace_ = memory_.get() + (6 << 16);
}

AttentionSpec BadCall::small() {
  AttentionSpec spec;
  spec.head_dim_qk = spec.head_dim_vo = kDim;
  spec.group_size = 2;
  spec.lse = LseOut::ln;
  return spec;
}

void BadCall::expect_words(const Status& status, const std::vector<std::string>& words) {
  EXPECT_EQ(status.code(), Code::invalid_argument) << status.to_string();
  for (const std::string& word : words) EXPECT_THAT(status.to_string(), HasSubstr(word));
}

void BadCall::expect_plan_refused(const AttentionBatch& batch, const std::vector<std::string>& words, int32_t num_kv_heads) {
  Result<PlannedAttention> plan = attention_->plan(batch, num_kv_heads);
  ASSERT_FALSE(plan.ok());
  expect_words(plan.status(), words);
}

void BadCall::expect_run_refused(const AttentionArgs& args, const std::vector<std::string>& words) {
  Result<PlannedAttention> plan = attention_->plan(batch_, kHeads);
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  ASSERT_TRUE(attention_->upload(*plan, workspace_, plan->plan.workspace.total(), nullptr).ok());
  expect_words(attention_->run(args, *plan, workspace_, nullptr), words);
}

}  // namespace lathe::testing
