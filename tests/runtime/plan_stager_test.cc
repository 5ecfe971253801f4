// Staging on a device that lags behind: nothing waits, and no slot is written while its copy is under way.
#include "lathe/api/plan_stager.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <thread>

#include "cuda_support.h"
#include "lathe/proof/forwarding_device.h"
#include "lathe/runtime/cuda_stream.h"
#include "lathe/runtime/driver.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr size_t kBytes = 512;

/// The content of step `i`: no two steps share a byte at any place.
Bytes content(size_t i) {
  Bytes bytes(kBytes);
  for (size_t b = 0; b < kBytes; ++b) bytes[b] = static_cast<std::byte>(b % 2 == 0 ? i % 251 : i / 251 + b % 7);
  return bytes;
}

/// Fences that say "passed" although they may not be: what a ring that forgets to ask would do.
class HastyFence final : public Fence {
 public:
  explicit HastyFence(std::unique_ptr<Fence> inner) : inner_(std::move(inner)) {}
  Status record(Stream stream) override { return inner_->record(stream); }
  Result<bool> passed() const override { return true; }
  Status wait() const override { return inner_->wait(); }

 private:
  std::unique_ptr<Fence> inner_;
};

class HastyDevice final : public ForwardingDevice {
 public:
  using ForwardingDevice::ForwardingDevice;
  Result<std::unique_ptr<Fence>> make_fence() override {
    auto inner = ForwardingDevice::make_fence();
    LATHE_TRY(inner);
    return std::unique_ptr<Fence>(std::make_unique<HastyFence>(*std::move(inner)));
  }
};

class StagerTest : public CudaTest {
 protected:
  /// Stages `steps` contents, each to a place of its own and each followed by a launch; the places whose content is not what was
  /// staged when all is done.
  std::vector<size_t> wrong_arrivals(const std::shared_ptr<Device>& device, PlanStager& stager, size_t steps, Stream stream) {
    auto kernel = device->load(share(make_artifact()));
    auto memory = device->allocate(steps * kBytes);
    EXPECT_TRUE(kernel.ok() && memory.ok());
    SampleLaunch sample;
    fake::no_waits(true);
    for (size_t i = 0; i < steps; ++i) {
      Bytes bytes = content(i);
      Status staged = stager.stage(bytes, memory->get() + i * kBytes, stream);
      EXPECT_TRUE(staged.ok()) << staged.to_string();
      std::fill(bytes.begin(), bytes.end(), std::byte{0xCC});  // the caller's memory is its own again
      EXPECT_TRUE(device->launch(**kernel, sample.launch, stream).ok());
    }
    fake::no_waits(false);
    EXPECT_THAT(fake::forbidden(), IsEmpty());
    fake::finish_all();
    std::vector<size_t> wrong;
    for (size_t i = 0; i < steps; ++i) {
      if (!std::ranges::equal(content(i), std::span(memory->get() + i * kBytes, kBytes))) wrong.push_back(i);
    }
    return wrong;
  }
};

TEST_F(StagerTest, GrowsWithTheLagAndLosesNothing) {
  for (int delay : {0, 1, 7, 100}) {
    start({.delay = delay});
    auto device = open();
    auto stager = PlanStager::create(device, kBytes);
    ASSERT_TRUE(stager.ok()) << stager.status().to_string();
    EXPECT_THAT(wrong_arrivals(device, **stager, 1000, nullptr), IsEmpty()) << "delay " << delay;
    // One for each step that the device is behind; the copy itself takes one.
    EXPECT_EQ((*stager)->slots(), std::max<size_t>(2, static_cast<size_t>(delay) + 1));
  }
}

// That the test above can fail: slots that are taken again too early arrive with the content of a later step.
TEST_F(StagerTest, SlotsThatAreReusedTooEarlyAreSeen) {
  start({.delay = 100});
  auto device = std::make_shared<HastyDevice>(open());
  auto stager = PlanStager::create(device, kBytes);
  ASSERT_TRUE(stager.ok());
  EXPECT_GT(wrong_arrivals(device, **stager, 1000, nullptr).size(), 800u);
  EXPECT_EQ((*stager)->slots(), 2u);
}

TEST_F(StagerTest, EnoughSlotsFromTheStartNeedNoMore) {
  start({.delay = 100});
  auto device = open();
  auto stager = PlanStager::create(device, kBytes, 101);
  ASSERT_TRUE(stager.ok());
  const uint64_t before = fake::calls("cuMemHostAlloc") + fake::calls("cuEventCreate");
  EXPECT_EQ(before, 202u);
  EXPECT_THAT(wrong_arrivals(device, **stager, 500, nullptr), IsEmpty());
  EXPECT_EQ(fake::calls("cuMemHostAlloc") + fake::calls("cuEventCreate"), before);
}

TEST_F(StagerTest, ManyThreadsAndStreams) {
  start({.delay = 5});
  auto device = open();
  auto stager = PlanStager::create(device, kBytes);
  ASSERT_TRUE(stager.ok());
  constexpr size_t kThreads = 4, kSteps = 200;
  auto memory = device->allocate(kThreads * kSteps * kBytes);
  auto kernel = device->load(share(make_artifact()));
  ASSERT_TRUE(memory.ok() && kernel.ok());
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      auto stream = CudaStream::create(*device);
      SampleLaunch sample;
      for (size_t i = t * kSteps; i < (t + 1) * kSteps; ++i) {
        EXPECT_TRUE((*stager)->stage(content(i), memory->get() + i * kBytes, stream->handle()).ok());
        EXPECT_TRUE(device->launch(**kernel, sample.launch, stream->handle()).ok());
      }
      EXPECT_TRUE(device->synchronize(stream->handle()).ok());
    });
  }
  for (std::thread& t : threads) t.join();
  for (size_t i = 0; i < kThreads * kSteps; ++i)
    EXPECT_TRUE(std::ranges::equal(content(i), std::span(memory->get() + i * kBytes, kBytes))) << i;
}

TEST_F(StagerTest, ItsEndWaitsForTheCopiesUnderWay) {
  start({.delay = 100});
  auto device = open();
  auto memory = device->allocate(kBytes);
  auto stager = PlanStager::create(device, kBytes);
  ASSERT_TRUE(memory.ok() && stager.ok());
  ASSERT_TRUE((*stager)->stage(content(3), memory->get(), nullptr).ok());
  EXPECT_FALSE(std::ranges::equal(content(3), std::span(memory->get(), kBytes)));  // under way
  stager->reset();
  EXPECT_TRUE(std::ranges::equal(content(3), std::span(memory->get(), kBytes)));
  EXPECT_THAT(fake::violations(), IsEmpty());
  EXPECT_EQ(fake::live().host_allocations, 0);
}

TEST_F(StagerTest, TheFakeDriverSeesMemoryFreedTooEarly) {  // that the test above can fail
  start({.delay = 100});
  auto device = open();
  auto memory = device->allocate(kBytes);
  auto pinned = device->allocate_host(kBytes);
  ASSERT_TRUE(memory.ok() && pinned.ok());
  ASSERT_TRUE(device->copy_in(memory->get(), pinned->get(), kBytes, nullptr).ok());
  pinned->reset();
  EXPECT_THAT(fake::violations(), ElementsAre(HasSubstr("still reads")));
  expect_violations = true;
}

TEST_F(StagerTest, WhatItRefuses) {
  auto device = open();
  Status none = PlanStager::create(nullptr, 0, 0).status();
  EXPECT_THAT(none.to_string(), AllOf(HasSubstr("device"), HasSubstr("slot_bytes"), HasSubstr("slots")));
  auto memory = device->allocate(2 * kBytes);
  auto stager = PlanStager::create(device, kBytes);
  ASSERT_TRUE(memory.ok() && stager.ok());
  Status large = (*stager)->stage(Bytes(kBytes + 1), memory->get(), nullptr);
  EXPECT_THAT(large.to_string(), AllOf(HasSubstr("bytes"), HasSubstr("513"), HasSubstr("512")));
  EXPECT_THAT((*stager)->stage(content(0), nullptr, nullptr).to_string(), HasSubstr("address"));
  EXPECT_TRUE((*stager)->stage({}, memory->get(), nullptr).ok());

  auto stream = CudaStream::create(*device);
  ASSERT_TRUE(stream.ok());
  auto graph = stream->capture([&] { return (*stager)->stage(content(0), memory->get(), stream->handle()); });
  EXPECT_THAT(graph.status().to_string(), AllOf(HasSubstr("stream"), HasSubstr("captured")));
  EXPECT_TRUE((*stager)->stage(content(0), memory->get(), stream->handle()).ok());
}

TEST_F(StagerTest, FailuresAreNamedAndLoseNoSlot) {
  start({.delay = 100});
  auto device = open();
  auto memory = device->allocate(4 * kBytes);
  ASSERT_TRUE(memory.ok());
  fake::fail("cuMemHostAlloc", 2, 2);
  Status few = PlanStager::create(device, kBytes).status();
  EXPECT_EQ(few.code(), Code::resource_exhausted);
  EXPECT_THAT(few.to_string(), AllOf(HasSubstr("cuMemHostAlloc"), HasSubstr("512 page-locked bytes")));
  fake::fail("cuEventCreate", 2);
  EXPECT_THAT(PlanStager::create(device, kBytes).status().to_string(), HasSubstr("cuEventCreate"));

  auto stager = PlanStager::create(device, kBytes, 1);
  ASSERT_TRUE(stager.ok());
  for (const char* call : {"cuEventQuery", "cuMemcpyHtoDAsync_v2", "cuEventRecord", "cuStreamIsCapturing"}) {
    fake::fail(call, 1);
    Status failed = (*stager)->stage(content(1), memory->get(), nullptr);
    EXPECT_FALSE(failed.ok()) << call;
    EXPECT_THAT(failed.to_string(), HasSubstr(std::string(call).substr(0, 12)));
  }
  EXPECT_EQ((*stager)->slots(), 1u);
  // Where the copy was queued and could not be marked, it was waited for: the slot is free.
  EXPECT_TRUE(std::ranges::equal(content(1), std::span(memory->get(), kBytes)));
  ASSERT_TRUE((*stager)->stage(content(2), memory->get(), nullptr).ok());
  fake::fail("cuMemHostAlloc", 2);  // the only slot is busy, and the ring cannot grow
  Status stuck = (*stager)->stage(content(3), memory->get() + kBytes, nullptr);
  EXPECT_THAT(stuck.to_string(), HasSubstr("cuMemHostAlloc"));
  ASSERT_TRUE((*stager)->stage(content(3), memory->get() + kBytes, nullptr).ok());
  fake::finish_all();
  EXPECT_TRUE(std::ranges::equal(content(2), std::span(memory->get(), kBytes)));
  EXPECT_TRUE(std::ranges::equal(content(3), std::span(memory->get() + kBytes, kBytes)));
}

TEST_F(StagerTest, ALostDeviceIsReportedAndTheEndDoesNotHang) {
  expect_clean = false;
  start({.delay = 100});
  auto device = open();
  auto memory = device->allocate(kBytes);
  auto stager = PlanStager::create(device, kBytes);
  auto kernel = device->load(share(make_artifact()));
  ASSERT_TRUE(memory.ok() && stager.ok() && kernel.ok());
  ASSERT_TRUE((*stager)->stage(content(0), memory->get(), nullptr).ok());
  fake::lose_device_after(1, 719);
  SampleLaunch sample;
  ASSERT_TRUE(device->launch(**kernel, sample.launch, nullptr).ok());
  EXPECT_EQ((*stager)->stage(content(0), memory->get(), nullptr).code(), Code::device_lost);
}

TEST_F(StagerTest, OnTheHostExecutorCopiesAreDoneAtOnce) {
  auto device = host_device({});
  auto memory = device->allocate(100 * kBytes);
  auto stager = PlanStager::create(device, kBytes, 1);
  ASSERT_TRUE(memory.ok() && stager.ok());
  for (size_t i = 0; i < 100; ++i) {
    ASSERT_TRUE((*stager)->stage(content(i), memory->get() + i * kBytes, nullptr).ok());
    EXPECT_TRUE(std::ranges::equal(content(i), std::span(memory->get() + i * kBytes, kBytes)));
  }
  EXPECT_EQ((*stager)->slots(), 1u);
}

// A call that is not in this table cannot be made.
TEST(DriverTable, TwoCallsWait) {
  std::vector<std::string> waiting;
#define LATHE_NAME(name, parameters)                                                                             \
  if (const std::string call = #name; call.find("Synchronize") != std::string::npos ||                           \
                                      (call.find("cuMemcpy") == 0 && call.find("Async") == std::string::npos) || \
                                      (call.find("cuMemset") == 0 && call.find("Async") == std::string::npos))   \
    waiting.push_back(call);
  LATHE_CUDA_FUNCTIONS(LATHE_NAME)
#undef LATHE_NAME
  EXPECT_THAT(waiting, ElementsAre("cuStreamSynchronize", "cuEventSynchronize"));
}

}  // namespace
}  // namespace lathe::testing
