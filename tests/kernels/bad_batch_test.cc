// Batches that do not hold together are refused when they are planned.
#include <gtest/gtest.h>

#include "bad_call.h"

namespace lathe::testing {
namespace {

class BadBatch : public BadCall {};

TEST_F(BadBatch, Indptr) {
  prepare(small());
  std::vector<int32_t> falling{0, 3, 2};
  batch_.qo_indptr = falling;
  expect_plan_refused(batch_, {"qo_indptr[2]", "2", "3"});
  std::vector<int32_t> late{1, 2, 3};
  batch_.qo_indptr = late;
  expect_plan_refused(batch_, {"qo_indptr[0]", "1", "0"});
  batch_.qo_indptr = {};
  expect_plan_refused(batch_, {"qo_indptr", "empty"});
  batch_.qo_indptr = qo_indptr_;
  batch_.kv_indptr = falling;
  expect_plan_refused(batch_, {"kv_indptr[2]", "2", "3"});
  batch_.kv_indptr = std::span(kv_indptr_).first(2);
  expect_plan_refused(batch_, {"kv_indptr", "2", "3"});
}

TEST_F(BadBatch, SeveralArraysAtOnce) {
  prepare(small());
  std::vector<int32_t> falling{0, 3, 2}, lens{0, 17};
  batch_.qo_indptr = falling;
  batch_.last_page_len = lens;
  expect_plan_refused(batch_, {"3 problems", "qo_indptr[2]", "last_page_len[0]", "last_page_len[1]"});
}

TEST_F(BadBatch, LastPageLen) {
  prepare(small());
  for (int32_t bad : {0, -1, 17}) {
    last_page_len_ = {5, bad};
    batch_.last_page_len = last_page_len_;
    expect_plan_refused(batch_, {"last_page_len[1]", std::to_string(bad), "16"});
  }
  batch_.last_page_len = std::span(last_page_len_).first(1);
  expect_plan_refused(batch_, {"last_page_len", "1", "2"});
}

TEST_F(BadBatch, TableLengths) {
  AttentionSpec spec = small();
  spec.layout.index = PageIndex::table;
  prepare(spec);
  std::vector<int32_t> seq_lens{40, -1};
  AttentionBatch batch{.qo_indptr = qo_indptr_, .seq_lens = seq_lens, .block_table_stride = 3};
  expect_plan_refused(batch, {"seq_lens[1]", "-1"});
  seq_lens[1] = 49;  // 4 pages, 3 entries
  expect_plan_refused(batch, {"seq_lens[1]", "49", "0..48"});
  seq_lens[1] = 48;
  batch.block_table_stride = -3;
  expect_plan_refused(batch, {"block_table_stride", "-3"});
}

TEST_F(BadBatch, PageIdsAreCheckedWhereGiven) {
  prepare(small());
  std::vector<int32_t> ids{3, 0, 4};
  batch_.kv_indices = ids;
  batch_.num_pages = kPages;
  expect_plan_refused(batch_, {"kv_indices[2]", "4", "request 1", "0..3"});
  ids = {3, -1, 1};
  expect_plan_refused(batch_, {"kv_indices[1]", "-1", "request 0"});
  ids = {3, 0, 1};
  EXPECT_TRUE(attention_->plan(batch_, kHeads).ok());
}

TEST_F(BadBatch, Window) {
  AttentionSpec spec = small();
  spec.mask = Mask::window;
  prepare(spec);
  for (int32_t bad : {0, -5}) {
    batch_.window = bad;
    expect_plan_refused(batch_, {"window", std::to_string(bad)});
  }
  prepare(small());
  batch_.window = 3;
  expect_plan_refused(batch_, {"window", "3", "none"});
}

TEST_F(BadBatch, HeadCounts) {
  prepare(small());
  expect_plan_refused(batch_, {"num_kv_heads", "0"}, 0);
  expect_plan_refused(batch_, {"num_kv_heads", "-2"}, -2);
}

TEST_F(BadBatch, ProductsPast32Bits) {
  prepare(small());
  std::vector<int32_t> qo{0, INT32_MAX};
  kv_indptr_ = {0, 1}, last_page_len_ = {1};
  batch_.qo_indptr = qo, batch_.kv_indptr = kv_indptr_, batch_.last_page_len = last_page_len_;
  expect_plan_refused(batch_, {"qo_indptr", "2147483647"});
  std::vector<int32_t> two{0, 1}, many{0, INT32_MAX};
  batch_.qo_indptr = two, batch_.kv_indptr = many;
  expect_plan_refused(batch_, {"kv"});
  batch_.kv_indptr = kv_indptr_;
  expect_plan_refused(batch_, {"num_kv_heads", "4294967294"}, INT32_MAX);
}

}  // namespace
}  // namespace lathe::testing
