// Tensors, numbers, workspaces and plans that do not belong together are refused when they are run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "bad_call.h"

namespace lathe::testing {
namespace {

using ::testing::HasSubstr;

class BadArgs : public BadCall {};

TEST_F(BadArgs, TheUnspoiledCallIsAccepted) {
  prepare(small());
  Result<PlannedAttention> plan = attention_->plan(batch_, kHeads);
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  ASSERT_TRUE(attention_->upload(*plan, workspace_, plan->plan.workspace.total(), nullptr).ok());
  Status status = attention_->run(args_, *plan, workspace_, nullptr);
  EXPECT_TRUE(status.ok()) << status.to_string();
}

TEST_F(BadArgs, HeadCounts) {
  prepare(small());
  AttentionArgs args = args_;
  args.q.shape[1] = 5;  // not 2 kv heads of 2
  expect_run_refused(args, {"q", "5", "4"});
  args = args_;
  args.k.shape[2] = 3;
  expect_run_refused(args, {"k", "3", "2"});
}

TEST_F(BadArgs, Pointers) {
  prepare(small());
  for (auto member : {&AttentionArgs::q, &AttentionArgs::k, &AttentionArgs::v, &AttentionArgs::o, &AttentionArgs::lse}) {
    AttentionArgs args = args_;
    (args.*member).data = nullptr;
    expect_run_refused(args, {"null"});
    (args.*member).data = static_cast<std::byte*>((args_.*member).data) + 2;
    expect_run_refused(args, {"2 past", "16"});
  }
  AttentionArgs args = args_;
  args.kv_indices = nullptr;
  expect_run_refused(args, {"kv_indices", "null"});
  args.kv_indices = reinterpret_cast<const int32_t*>(reinterpret_cast<uintptr_t>(args_.kv_indices) + 1);
  expect_run_refused(args, {"kv_indices", "4-byte"});
  args = args_;
  args.num_kv_indices = 2;
  expect_run_refused(args, {"num_kv_indices", "2", "3"});
}

TEST_F(BadArgs, Strides) {
  prepare(small());
  AttentionArgs args = args_;
  args.k.stride[1] = 60;  // not whole 16 bytes
  expect_run_refused(args, {"k", "stride 1", "60"});
  args = args_;
  args.v.stride[3] = 2;
  expect_run_refused(args, {"v", "stride 3", "2"});
  args = args_;
  args.q.stride[0] = INT64_MAX / 8 * 8;
  expect_run_refused(args, {"q", "64 bits"});
  args = args_;
  args.o.stride[0] = -64;
  expect_run_refused(args, {"o", "-64"});
  args.o.stride[0] = 0;  // as an expanded tensor has it
  expect_run_refused(args, {"o", "stride 0 is 0", "one place"});
}

TEST_F(BadArgs, Shapes) {
  prepare(small());
  AttentionArgs args = args_;
  args.q.rank = 2;
  expect_run_refused(args, {"q", "rank 2", "3"});
  args = args_;
  args.o.shape[0] = 2;  // the plan has 3 tokens
  expect_run_refused(args, {"o", "2", "3"});
  args = args_;
  args.k.shape[1] = 8;
  expect_run_refused(args, {"k", "8", "16"});
  args = args_;
  args.v.shape[0] = 3;
  expect_run_refused(args, {"v", "3", "4"});
  args = args_;
  args.q.shape[2] = 64, args.v.data = nullptr, args.lse.rank = 0, args.sm_scale = -1;
  expect_run_refused(args, {"4 problems", "q", "v", "lse", "sm_scale"});
}

TEST_F(BadArgs, Scalars) {
  AttentionSpec spec = small();
  spec.soft_cap = true;
  prepare(spec);
  for (float bad : {0.0f, -1.0f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    AttentionArgs args = args_;
    args.soft_cap = bad;
    expect_run_refused(args, {"soft_cap"});
  }
  for (float bad : {-1.0f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    AttentionArgs args = args_;
    args.sm_scale = bad;
    expect_run_refused(args, {"sm_scale"});
  }
  prepare(small());
  AttentionArgs args = args_;
  args.soft_cap = 30;
  expect_run_refused(args, {"soft_cap", "no soft_cap"});
}

TEST_F(BadArgs, TensorsTheSpecDoesNotHave) {
  AttentionSpec spec = small();
  spec.lse = LseOut::none;
  prepare(spec);
  AttentionArgs args = args_;
  args.lse = Tensor::contiguous(memory_.get() + (4 << 16), {3, 4});
  expect_run_refused(args, {"lse", "none"});
  spec = small();
  spec.layout.storage = KvStorage::joint;
  prepare(spec);
  args = args_;
  args.k = Tensor::contiguous(memory_.get() + (2 << 16), {kPages, 2, kPageSize, kHeads, kDim});
  expect_run_refused(args, {"v", "joint"});
  args.v = {};
  Result<PlannedAttention> plan = attention_->plan(batch_, kHeads);
  ASSERT_TRUE(plan.ok());
  ASSERT_TRUE(attention_->upload(*plan, workspace_, plan->plan.workspace.total(), nullptr).ok());
  EXPECT_TRUE(attention_->run(args, *plan, workspace_, nullptr).ok());
}

TEST_F(BadArgs, PageIdsOutOfRangeOnTheDevice) {
  prepare(small());
  const int32_t ids[] = {3, kPages, 1};
  std::memcpy(memory_.get() + (5 << 16), ids, sizeof ids);
  Result<PlannedAttention> plan = attention_->plan(batch_, kHeads);
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  ASSERT_TRUE(attention_->upload(*plan, workspace_, plan->plan.workspace.total(), nullptr).ok());
  Status status = attention_->run(args_, *plan, workspace_, nullptr);
  EXPECT_EQ(status.code(), Code::launch_failed);
  EXPECT_THAT(status.to_string(), HasSubstr("kernels/attention/"));
}

TEST_F(BadArgs, Workspace) {
  prepare(small());
  Result<PlannedAttention> plan = attention_->plan(batch_, kHeads);
  ASSERT_TRUE(plan.ok());
  const size_t needed = plan->plan.workspace.total();
  expect_words(attention_->upload(*plan, workspace_, needed - 1, nullptr),
               {"workspace", std::to_string(needed), std::to_string(needed - 1)});
  expect_words(attention_->upload(*plan, nullptr, needed, nullptr), {"workspace", "null"});
  expect_words(attention_->upload(*plan, workspace_ + 128, needed, nullptr), {"workspace", "256"});
  expect_words(attention_->run(args_, *plan, nullptr, nullptr), {"workspace", "null"});
}

TEST_F(BadArgs, PlanOfAnotherKernel) {
  prepare(small());
  AttentionSpec other = small();
  other.mask = Mask::causal;
  Result<Attention> second = Attention::prepare(engine(), device_, other);
  ASSERT_TRUE(second.ok());
  Result<PlannedAttention> plan = second->plan(batch_, kHeads);
  ASSERT_TRUE(plan.ok());
  expect_words(attention_->run(args_, *plan, workspace_, nullptr), {"plan", "another kernel"});
}

}  // namespace
}  // namespace lathe::testing
