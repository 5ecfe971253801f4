// What the tests of refused calls start from.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <vector>

#include "lathe/proof/harness.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {

/// A correct plan and run of one small paged batch, to be spoiled in one place.
class BadCall : public ::testing::Test {
 protected:
  static constexpr int64_t kPages = 4, kPageSize = 16, kHeads = 2, kDim = 32;

  /// Prepares `spec` and fills in the members below, which then describe a call that is accepted.
  void prepare(const AttentionSpec& spec);
  static AttentionSpec small();

  /// The refusal must be the caller's mistake and hold every one of `words`.
  static void expect_words(const Status& status, const std::vector<std::string>& words);
  void expect_plan_refused(const AttentionBatch& batch, const std::vector<std::string>& words, int32_t num_kv_heads = kHeads);
  void expect_run_refused(const AttentionArgs& args, const std::vector<std::string>& words);

  std::shared_ptr<Device> device_ = host_device({.seed = seed(), .check = true});
  std::optional<Attention> attention_;
  std::shared_ptr<std::byte> memory_;
  std::vector<int32_t> qo_indptr_{0, 1, 3}, kv_indptr_{0, 2, 3}, last_page_len_{5, 16};
  AttentionBatch batch_;
  AttentionArgs args_;
  std::byte* workspace_ = nullptr;
};

}  // namespace lathe::testing
