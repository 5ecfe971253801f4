#include "lathe/runtime/cuda_stream.h"

#include <gmock/gmock.h>

#include "cuda_support.h"

namespace lathe::testing {
namespace {

using ::testing::HasSubstr;
using CudaStreams = CudaTest;

/// A device of another kind.
class OtherDevice final : public Device {
 public:
  const DeviceInfo& info() const override { return info_; }
  Result<KernelPtr> load(const ArtifactPtr&) override { return Status(Code::unsupported, ""); }
  Status launch(const Kernel&, const Launch&, Stream) override { return {}; }
  Result<std::shared_ptr<std::byte>> allocate(size_t) override { return Status(Code::unsupported, ""); }
  Status copy_in(void*, const void*, size_t, Stream) override { return {}; }
  Status copy_out(void*, const void*, size_t, Stream) override { return {}; }
  Status fill(void*, uint8_t, size_t, Stream) override { return {}; }
  Status synchronize(Stream) override { return {}; }
  Result<std::shared_ptr<std::byte>> allocate_host(size_t) override { return Status(Code::unsupported, ""); }
  Result<std::unique_ptr<Fence>> make_fence() override { return Status(Code::unsupported, ""); }
  Result<bool> capturing(Stream) override { return false; }
  uint64_t modules() const override { return 0; }

 private:
  DeviceInfo info_{"another device", "host", 1, 1, ""};
};

TEST_F(CudaStreams, OnlyOnCudaDevices) {
  OtherDevice other;
  EXPECT_THAT(CudaStream::create(other).status().to_string(), HasSubstr("another device is not a CUDA device"));
  EXPECT_THAT(CudaEvent::create(other).status().to_string(), HasSubstr("another device is not a CUDA device"));
}

TEST_F(CudaStreams, EventsTimeLaunches) {
  start({.launch_us = 25});
  auto device = open();
  auto kernel = device->load(share(make_artifact()));
  auto begin = CudaEvent::create(*device), end = CudaEvent::create(*device);
  ASSERT_TRUE(kernel.ok() && begin.ok() && end.ok());
  EXPECT_FALSE(CudaEvent::elapsed_ms(*begin, *end).ok());  // never recorded
  SampleLaunch sample;
  ASSERT_TRUE(begin->record(nullptr).ok());
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(device->launch(**kernel, sample.launch, nullptr).ok());
  ASSERT_TRUE(end->record(nullptr).ok());
  ASSERT_TRUE(end->wait().ok());
  auto ms = CudaEvent::elapsed_ms(*begin, *end);
  ASSERT_TRUE(ms.ok());
  EXPECT_FLOAT_EQ(*ms, 0.1F);
}

TEST_F(CudaStreams, AnEventThatCompletesLate) {
  start({.event_delay = 2});
  auto device = open();
  auto event = CudaEvent::create(*device);
  ASSERT_TRUE(event.ok() && event->record(nullptr).ok());
  for (bool expected : {false, false, true}) {
    auto ready = event->ready();
    ASSERT_TRUE(ready.ok());
    EXPECT_EQ(*ready, expected);
  }
}

TEST_F(CudaStreams, AllocatingBreaksACapture) {
  auto device = open();
  auto stream = CudaStream::create(*device);
  ASSERT_TRUE(stream.ok());
  auto graph = stream->capture([&] {
    EXPECT_FALSE(device->allocate(16).ok());
    return Status();
  });
  EXPECT_FALSE(graph.ok());
  EXPECT_TRUE(stream->capture([] { return Status(); }).ok());  // the stream is usable again
}

TEST_F(CudaStreams, AFailureInsideACaptureEndsIt) {
  auto device = open();
  auto stream = CudaStream::create(*device);
  ASSERT_TRUE(stream.ok());
  auto graph = stream->capture([] { return Status(Code::internal, "stopped half way"); });
  EXPECT_THAT(graph.status().message(), HasSubstr("stopped half way"));
  EXPECT_TRUE(device->allocate(16).ok());
}

TEST_F(CudaStreams, HandlesMayOutliveTheDeviceAndMove) {
  auto device = open();
  auto stream = CudaStream::create(*device);
  auto event = CudaEvent::create(*device);
  ASSERT_TRUE(stream.ok() && event.ok());
  device.reset();
  CudaStream moved = *std::move(stream);
  EXPECT_TRUE(event->record(moved.handle()).ok());
}

}  // namespace
}  // namespace lathe::testing
