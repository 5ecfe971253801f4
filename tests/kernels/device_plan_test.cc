// Planning on the device against planning on the host: the same lists, bit for bit, for any shape and batch.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "lathe/api/attention_planner.h"
#include "lathe/plan_testing/plan_cases.h"
#include "lathe/plan_testing/plan_check.h"
#include "lathe/proof/harness.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

using ::testing::HasSubstr;

template <class T>
std::shared_ptr<std::byte> device_list(Device& device, const std::vector<T>& list) {
  auto memory = *device.allocate(std::max<size_t>(list.size() * sizeof(T), 1));
  EXPECT_TRUE(device.copy_in(memory.get(), list.data(), list.size() * sizeof(T), nullptr).ok());
  return memory;
}

// The lengths of a batch as a device holds them, in the form that the spec's layout asks for.
struct DeviceBatch {
  std::vector<int32_t> kv_begin, kv_indptr{0}, last_page_len;
  std::shared_ptr<std::byte> qo_memory, kv_memory, last_memory, seq_memory;
  DeviceLengths lengths;

  DeviceBatch(Device& device, const AttentionSpec& spec, const RandomBatch& batch) {
    const bool ragged = spec.layout.kind == LayoutKind::ragged;
    const int32_t page = ragged ? 1 : spec.layout.page_size;
    int32_t widest = 0;
    for (int32_t kv_len : batch.kv_lens) {
      const int32_t pages = ceil_div(kv_len, page);
      widest = std::max(widest, pages);
      kv_indptr.push_back(kv_indptr.back() + pages);
      last_page_len.push_back(pages == 0 ? 0 : kv_len - (pages - 1) * page);
    }
    const bool table = !ragged && spec.layout.index == PageIndex::table;
    for (int32_t b = 0; b < batch.size(); ++b) kv_begin.push_back(table ? b * widest : kv_indptr[b]);
    qo_memory = device_list(device, batch.qo_indptr);
    kv_memory = device_list(device, kv_indptr);
    last_memory = device_list(device, last_page_len);
    seq_memory = device_list(device, batch.kv_lens);
    lengths.num_requests = batch.size();
    lengths.qo_indptr = reinterpret_cast<const int32_t*>(qo_memory.get());
    lengths.kv_indptr = reinterpret_cast<const int32_t*>(kv_memory.get());
    lengths.last_page_len = reinterpret_cast<const int32_t*>(last_memory.get());
    lengths.seq_lens = reinterpret_cast<const int32_t*>(seq_memory.get());
    lengths.block_table_stride = widest;
  }
};

struct Planned {
  Status status;
  Bytes image;
};

Planned plan_on(const std::shared_ptr<Device>& device, const PlanShape& shape, const RandomBatch& batch, int32_t slack) {
  AttentionBounds bounds;
  bounds.num_kv_heads = shape.num_kv_heads;
  bounds.max_batch = batch.size() + slack;
  bounds.max_qo_tokens = batch.qo_indptr.back() + slack;
  bounds.max_kv_entries = INT32_MAX;
  bounds.window = batch.window;
  for (int32_t kv_len : batch.kv_lens) bounds.max_kv_len = std::max<int64_t>(bounds.max_kv_len, kv_len + slack);
  Result<AttentionPlanner> planner = AttentionPlanner::prepare(engine(), device, shape, bounds);
  if (!planner.ok()) return {planner.status(), {}};
  Result<WorkspaceLayout> layout = workspace_bound(shape, {bounds.max_batch, bounds.max_qo_tokens, bounds.max_kv_len});
  const DeviceBatch on_device(*device, shape.spec, batch);
  const std::vector<std::byte> poison(layout->plan, std::byte{0x5a});
  auto workspace = device_list(*device, poison);
  const size_t scratch_bytes = planner->scratch_bytes();
  auto scratch = *device->allocate(scratch_bytes);
  Planned out;
  out.status = planner->plan(on_device.lengths, workspace.get(), scratch.get(), scratch_bytes, nullptr);
  out.image.resize(layout->plan);
  EXPECT_TRUE(device->copy_out(out.image.data(), workspace.get(), layout->plan, nullptr).ok());
  EXPECT_TRUE(device->synchronize(nullptr).ok());
  return out;
}

void expect_equal_plans(const std::shared_ptr<Device>& device, const PlanShape& shape, const RandomBatch& batch, int32_t slack) {
  SCOPED_TRACE(print(shape) + "; " + print(batch));
  const DeviceBatch lengths(*device, shape.spec, batch);
  AttentionPlan host;
  ASSERT_TRUE(plan_attention(shape, {batch.qo_indptr, batch.kv_lens, lengths.kv_begin, batch.window}, nullptr, host).ok());
  const Planned on_device = plan_on(device, shape, batch, slack);
  ASSERT_TRUE(on_device.status.ok()) << on_device.status.to_string();
  ASSERT_EQ(first_difference(host.bytes(), on_device.image), "");
}

void expect_equal_on_random_batches(uint64_t first_seed, int count, const SimtOptions& options) {
  auto device = host_device(options);
  for (int i = 0; i < count && !::testing::Test::HasFailure(); ++i) {
    std::mt19937_64 rng(first_seed + static_cast<uint64_t>(i));
    PlanShape shape = random_shape(rng);
    if (shape.spec.split_kv.mode == SplitMode::fixed) shape.spec.split_kv.tokens = std::max(shape.spec.split_kv.tokens, 128);
    if (shape.spec.layout.kind == LayoutKind::paged) shape.spec.layout.index = static_cast<PageIndex>(draw_int(rng, 0, 1));
    SCOPED_TRACE("case " + std::to_string(first_seed + static_cast<uint64_t>(i)));
    expect_equal_plans(device, shape, random_batch(rng, {6, 200, 3000}), draw_int(rng, 0, 1) * draw_int(rng, 0, 40));
  }
}

class DevicePlan : public ::testing::TestWithParam<int> {};

// 20,000 in eight parts, so that they may run side by side.
TEST_P(DevicePlan, EqualsTheHosts) {
  expect_equal_on_random_batches(seed() + static_cast<uint64_t>(GetParam()) * 1'000'000, 2500, {.seed = seed()});
}
INSTANTIATE_TEST_SUITE_P(, DevicePlan, ::testing::Range(0, 8));

TEST(DevicePlanChecked, EqualsTheHostsWithChecksOn) {
  expect_equal_on_random_batches(seed(), 100, {.seed = seed(), .check = true});
}

TEST(DevicePlanChecked, ManyRequestsAndOneOfAMillionTokens) {
  auto device = host_device({.seed = seed()});
  std::mt19937_64 rng(seed());
  RandomBatch many, one;
  for (int b = 0; b < 4096; ++b) many.add(b % 64 == 0 ? 300 : 1, draw_int(rng, 0, 20'000));
  one.add(1, 1 << 20);
  expect_equal_plans(device, llama_shape(), many, 0);
  expect_equal_plans(device, llama_shape(), one, 7);
}

TEST(DevicePlanChecked, LengthsThatNoHostAcceptsStopTheKernel) {
  auto device = host_device({.seed = seed()});
  RandomBatch falling;
  falling.add(5, 100);
  falling.add(-3, 100);
  falling.add(4, 100);
  EXPECT_THAT(plan_on(device, llama_shape(), falling, 0).status.to_string(), HasSubstr("trap"));
  PlanShape ragged = llama_shape();
  ragged.spec.layout.kind = LayoutKind::ragged;
  RandomBatch negative;
  negative.add(1, 50);
  negative.add(1, -20);
  EXPECT_THAT(plan_on(device, ragged, negative, 100).status.to_string(), HasSubstr("trap"));
}

}  // namespace
}  // namespace lathe::testing
