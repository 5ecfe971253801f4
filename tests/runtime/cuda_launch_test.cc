#include <gmock/gmock.h>

#include <thread>

#include "cuda_support.h"
#include "lathe/runtime/cuda_stream.h"
#include "lathe/runtime/driver.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CudaLaunch : public CudaTest {
 protected:
  void prepare(Artifact artifact = make_artifact()) {
    device = open();
    auto loaded = device->load(share(std::move(artifact)));
    ASSERT_TRUE(loaded.ok()) << loaded.status().to_string();
    kernel = *loaded;
  }
  Status run(Stream stream = nullptr) { return device->launch(*kernel, sample.launch, stream); }

  void expect_refused(const std::string& where, const std::string& value) {
    Status s = run();
    EXPECT_EQ(s.code(), Code::invalid_argument);
    EXPECT_THAT(s.to_string(), AllOf(HasSubstr(where), HasSubstr(value)));
    EXPECT_THAT(fake::launches(), IsEmpty());
  }

  std::shared_ptr<Device> device;
  KernelPtr kernel;
  SampleLaunch sample;
};

TEST_F(CudaLaunch, WhatIsAskedForIsLaunched) {
  prepare();
  auto stream = CudaStream::create(*device);
  ASSERT_TRUE(stream.ok());
  sample.launch.grid = {130, 2, 3};
  sample.launch.cluster = {2, 1, 1};
  sample.launch.shared_bytes = 99'000;
  ASSERT_TRUE(run(stream->handle()).ok());
  ASSERT_EQ(fake::launches().size(), 1u);
  fake::LaunchRecord r = fake::launches()[0];
  EXPECT_EQ(r.kernel, "entry");
  EXPECT_THAT(r.grid, ::testing::ElementsAre(130, 2, 3));
  EXPECT_THAT(r.block, ::testing::ElementsAre(128, 1, 1));
  EXPECT_THAT(r.cluster, ::testing::ElementsAre(2, 1, 1));
  EXPECT_EQ(r.shared_bytes, 99'000u);
  EXPECT_FALSE(r.cooperative);
  EXPECT_EQ(r.stream, stream->handle());
  EXPECT_EQ(r.params, std::vector<std::byte>(sample.params, sample.params + kParamBytes));
}

TEST_F(CudaLaunch, IsNothingButLaunches) {
  prepare();
  ASSERT_TRUE(run().ok());
  uint64_t before = fake::calls();
  fake::only_launches(true);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(run().ok());
  fake::only_launches(false);
  EXPECT_THAT(fake::forbidden(), IsEmpty());
  EXPECT_EQ(fake::launches().size(), 101u);
  EXPECT_EQ(fake::calls() - before, 200u);  // the launch, and a look at the current context
}

TEST_F(CudaLaunch, TheMarkersSeeAnythingElse) {  // that the test above can fail
  prepare();
  fake::only_launches(true);
  EXPECT_FALSE(device->allocate(16).ok());
  EXPECT_FALSE(device->synchronize(nullptr).ok());
  fake::only_launches(false);
  EXPECT_THAT(fake::forbidden(), ::testing::ElementsAre("cuMemAlloc_v2", "cuStreamSynchronize"));
}

TEST_F(CudaLaunch, ACapturedLaunchReplays) {
  prepare();
  auto stream = CudaStream::create(*device);
  ASSERT_TRUE(stream.ok());
  // The very first launch: nothing is left to be loaded lazily.
  auto graph = stream->capture([&] { return run(stream->handle()); });
  ASSERT_TRUE(graph.ok()) << graph.status().to_string();
  EXPECT_THAT(fake::launches(), IsEmpty());
  std::vector<std::byte> recorded(sample.params, sample.params + kParamBytes);
  std::fill(sample.params, sample.params + kParamBytes, std::byte{0});  // the parameter block was copied
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(graph->launch(stream->handle()).ok());
  ASSERT_EQ(fake::launches().size(), 3u);
  for (const fake::LaunchRecord& r : fake::launches()) {
    EXPECT_TRUE(r.replayed);
    EXPECT_EQ(r.params, recorded);
  }
}

TEST_F(CudaLaunch, ResidentGridsAreCooperative) {
  prepare();
  sample.launch.resident_grid = true;
  ASSERT_TRUE(run().ok());
  EXPECT_TRUE(fake::launches()[0].cooperative);
  sample.launch.grid = {133, 1, 1};  // more than can be resident: refused, and nothing hangs
  Status s = run();
  EXPECT_EQ(s.code(), Code::launch_failed);
  EXPECT_THAT(s.to_string(),
              AllOf(HasSubstr("COOPERATIVE_LAUNCH_TOO_LARGE"), HasSubstr("133x1x1"), HasSubstr("a kernel of some family")));
  sample.launch.grid = {132, 1, 1};
  EXPECT_TRUE(run().ok());  // which is no reason to give up the device
}

TEST_F(CudaLaunch, ParameterBlockOfTheRightSize) {
  prepare();
  for (size_t bytes : {size_t{0}, size_t{kParamBytes - 64}, size_t{kParamBytes + 64}}) {
    sample.launch.params = {sample.params, bytes};
    expect_refused("launch.params", std::to_string(bytes));
  }
}

TEST_F(CudaLaunch, ParameterBlockOfAtMost4KB) {
  Artifact a = make_artifact();
  a.binary = make_cubin({{"entry", {{4096}, 128}}});
  prepare(a);
  sample.launch.params = {sample.params, 4096};
  EXPECT_TRUE(run().ok());
  for (size_t bytes : {4097u, 8192u}) {
    sample.launch.params = {sample.params, bytes};
    Status s = run();
    EXPECT_EQ(s.code(), Code::invalid_argument);
    EXPECT_THAT(s.to_string(), AllOf(HasSubstr("launch.params"), HasSubstr(std::to_string(bytes)), HasSubstr("4096")));
  }
}

TEST_F(CudaLaunch, ParameterBlockAligned) {
  prepare();
  for (size_t shift : {1u, 8u, 32u}) {
    sample.launch.params = {sample.params + shift, kParamBytes};
    expect_refused("launch.params", "multiple of 64");
  }
}

TEST_F(CudaLaunch, BlockOfTheThreadsItWasBuiltFor) {
  prepare();
  sample.launch.block = {64, 1, 1};
  expect_refused("launch.block", "64x1x1");
  sample.launch.block = {64, 2, 1};
  EXPECT_TRUE(run().ok());
}

TEST_F(CudaLaunch, RefusesGridsAndSharedMemory) {
  prepare();
  sample.launch.shared_bytes = 100'001;
  expect_refused("launch.shared_bytes", "100001");
  sample.launch.shared_bytes = 100'000;
  for (Dim3 grid : {Dim3{0, 1, 1}, Dim3{1, 0, 1}, Dim3{1, 65536, 1}, Dim3{1, 1, 65536}, Dim3{1u << 31, 1, 1}}) {
    sample.launch.grid = grid;
    expect_refused("launch.grid", std::to_string(grid.x) + "x" + std::to_string(grid.y) + "x" + std::to_string(grid.z));
  }
}

TEST_F(CudaLaunch, RefusesClustersThatCannotBe) {
  prepare();
  for (Dim3 cluster : {Dim3{16, 1, 1}, Dim3{0, 1, 1}, Dim3{5, 1, 1}, Dim3{1u << 16, 1u << 16, 1u << 16}}) {
    sample.launch.cluster = cluster;
    expect_refused("launch.cluster", std::to_string(cluster.x) + "x");
  }
}

TEST_F(CudaLaunch, NoClustersBefore90) {
  start({.capability = 80});
  Artifact a = make_artifact();
  a.arch = "sm_80";
  prepare(a);
  sample.launch.cluster = {2, 1, 1};
  expect_refused("launch.cluster", "sm_80");
}

TEST_F(CudaLaunch, AKernelOfAnotherDeviceIsRefused) {
  start({.devices = 2});
  prepare();
  auto other = open(1);
  EXPECT_EQ(other->launch(*kernel, sample.launch, nullptr).code(), Code::invalid_argument);
  EXPECT_THAT(fake::launches(), IsEmpty());
}

TEST_F(CudaLaunch, UsesTheCurrentContextAndNeverSwitches) {
  start({.devices = 2});
  prepare();
  auto other = open(1);
  auto driver = cuda::open_driver();
  ASSERT_TRUE(driver.ok());
  CUctx_st *mine = nullptr, *theirs = nullptr, *now = nullptr;
  (*driver)->cuDevicePrimaryCtxRetain(&mine, 0);
  (*driver)->cuDevicePrimaryCtxRetain(&theirs, 1);

  // None is current: ours is made so, and stays.
  (*driver)->cuCtxGetCurrent(&now);
  EXPECT_EQ(now, nullptr);
  EXPECT_TRUE(run().ok());
  (*driver)->cuCtxGetCurrent(&now);
  EXPECT_EQ(now, mine);

  // Another's is current: refused, and left as it was.
  (*driver)->cuCtxSetCurrent(theirs);
  uint64_t switches = fake::calls("cuCtxSetCurrent") + fake::calls("cuCtxPushCurrent_v2");
  Status s = run();
  EXPECT_EQ(s.code(), Code::invalid_argument);
  EXPECT_THAT(s.to_string(), AllOf(HasSubstr("GPU 1"), HasSubstr("GPU 0"), HasSubstr("cudaSetDevice")));
  EXPECT_EQ(fake::calls("cuCtxSetCurrent") + fake::calls("cuCtxPushCurrent_v2"), switches);
  // What is no launch works all the same and restores it.
  auto memory = device->allocate(64);
  EXPECT_TRUE(memory.ok());
  (*driver)->cuCtxGetCurrent(&now);
  EXPECT_EQ(now, theirs);

  (*driver)->cuCtxSetCurrent(nullptr);
  (*driver)->cuDevicePrimaryCtxRelease_v2(0);
  (*driver)->cuDevicePrimaryCtxRelease_v2(1);
}

TEST_F(CudaLaunch, ManyThreadsLaunch) {
  prepare();
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      for (int n = 0; n < 50; ++n) EXPECT_TRUE(run().ok());
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(fake::launches().size(), 400u);
}

}  // namespace
}  // namespace lathe::testing
