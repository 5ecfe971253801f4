// Lost devices, forks, and every driver call failing in turn.
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "cuda_support.h"
#include "lathe/runtime/cuda_stream.h"
#include "lathe/runtime/driver.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using CudaFaults = CudaTest;

TEST_F(CudaFaults, ALostDeviceRepeatsItsFirstError) {
  expect_clean = false;
  for (int error : {700, 719, 714, 716, 710, 702, 214}) {
    for (int launches : {1, 3}) {
      start({});
      auto device = open();
      auto kernel = device->load(share(make_artifact()));
      auto memory = device->allocate(64);
      ASSERT_TRUE(kernel.ok() && memory.ok());
      SampleLaunch sample;
      fake::lose_device_after(launches, error);
      for (int i = 0; i < launches; ++i) ASSERT_TRUE(device->launch(**kernel, sample.launch, nullptr).ok());  // failures come late
      Status first = device->synchronize(nullptr);
      EXPECT_EQ(first.code(), Code::device_lost);
      EXPECT_THAT(first.to_string(), AllOf(HasSubstr("(" + std::to_string(error) + ")"), HasSubstr("cuStreamSynchronize"),
                                           HasSubstr("GPU 0"), HasSubstr("start the process anew")));

      // Everything repeats it, word for word, and the driver is left alone: no retries.
      uint64_t calls = fake::calls();
      std::byte byte{};
      for (const Status& again :
           {device->launch(**kernel, sample.launch, nullptr), device->synchronize(nullptr), device->allocate(1).status(),
            device->load(share(make_artifact("another key"))).status(), device->copy_in(memory->get(), &byte, 1, nullptr),
            device->copy_out(&byte, memory->get(), 1, nullptr), device->fill(memory->get(), 0, 1, nullptr),
            CudaStream::create(*device).status(), CudaEvent::create(*device).status()})
        EXPECT_EQ(again.to_string(), first.to_string());
      memory = Status(Code::internal, "");
      kernel = Status(Code::internal, "");
      EXPECT_EQ(fake::calls(), calls);
    }
  }
}

TEST_F(CudaFaults, ALostDeviceLeavesTheOtherAlone) {
  expect_clean = false;
  start({.devices = 2});
  auto zero = open(0), one = open(1);
  fake::fail("cuStreamSynchronize", 719);
  EXPECT_EQ(zero->synchronize(nullptr).code(), Code::device_lost);
  EXPECT_EQ(zero->allocate(1).status().code(), Code::device_lost);
  EXPECT_TRUE(one->synchronize(nullptr).ok());
  EXPECT_TRUE(one->allocate(1).ok());
}

TEST_F(CudaFaults, OtherErrorsAreNotKept) {
  auto device = open();
  auto kernel = device->load(share(make_artifact()));
  ASSERT_TRUE(kernel.ok());
  SampleLaunch sample;
  for (int error : {1, 2, 400, 701, 720, 900, 999}) {
    fake::fail("cuLaunchKernelEx", error);
    Status s = device->launch(**kernel, sample.launch, nullptr);
    EXPECT_EQ(s.code(), error == 2 ? Code::resource_exhausted : Code::launch_failed);
    EXPECT_THAT(s.to_string(), AllOf(HasSubstr("(" + std::to_string(error) + ")"), HasSubstr("a kernel of some family"),
                                     HasSubstr("132x1x1"), HasSubstr("100000 bytes")));
    EXPECT_TRUE(device->launch(**kernel, sample.launch, nullptr).ok());
  }
}

TEST_F(CudaFaults, AForkedChildIsToldAndTouchesNothing) {
  auto device = open();
  auto kernel = device->load(share(make_artifact()));
  auto memory = device->allocate(64);
  ASSERT_TRUE(kernel.ok() && memory.ok());
  SampleLaunch sample;
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    uint64_t calls = fake::calls();
    int wrong = 0;
    std::byte byte{};
    for (const Status& s :
         {device->launch(**kernel, sample.launch, nullptr), device->synchronize(nullptr), device->allocate(1).status(),
          device->load(share(make_artifact())).status(), device->copy_in(memory->get(), &byte, 1, nullptr)})
      wrong += s.code() != Code::unavailable || s.message().find("fork") == std::string::npos ||
               s.hint().find("spawn") == std::string::npos;
    memory = Status(Code::internal, "");  // handles let go of nothing of the parent's
    kernel = Status(Code::internal, "");
    device.reset();
    wrong += fake::calls() != calls;
    _exit(wrong);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(device->launch(**kernel, sample.launch, nullptr).ok());  // the parent goes on
}

/// All that a program does with a device, from opening to letting go.
Status whole_life() {
  auto device = cuda_device(0);
  LATHE_TRY(device);
  auto kernel = (*device)->load(share(make_artifact()));
  LATHE_TRY(kernel);
  auto memory = (*device)->allocate(100);
  LATHE_TRY(memory);
  std::byte host[100] = {};
  LATHE_TRY((*device)->copy_in(memory->get(), host, sizeof host, nullptr));
  LATHE_TRY((*device)->fill(memory->get(), 1, sizeof host, nullptr));
  auto stream = CudaStream::create(**device);
  LATHE_TRY(stream);
  auto start = CudaEvent::create(**device), stop = CudaEvent::create(**device);
  LATHE_TRY(start);
  LATHE_TRY(stop);
  SampleLaunch sample;
  LATHE_TRY((*device)->launch(**kernel, sample.launch, stream->handle()));
  auto graph = stream->capture([&] { return (*device)->launch(**kernel, sample.launch, stream->handle()); });
  LATHE_TRY(graph);
  LATHE_TRY(start->record(stream->handle()));
  LATHE_TRY(graph->launch(stream->handle()));
  LATHE_TRY(stop->record(stream->handle()));
  LATHE_TRY(stop->ready());
  LATHE_TRY(stop->wait());
  LATHE_TRY(CudaEvent::elapsed_ms(*start, *stop));
  LATHE_TRY((*device)->copy_out(host, memory->get(), sizeof host, nullptr));
  return (*device)->synchronize(nullptr);
}

// Calls whose failure has no one to tell: destructors.
bool is_release(const std::string& name) {
  for (const char* part : {"Destroy", "Unload", "Free", "Release", "Pop", "GetError"})
    if (name.find(part) != std::string::npos) return true;
  return false;
}

TEST_F(CudaFaults, EveryCallFailingInTurnIsAnErrorAndNoLeak) {
  std::vector<std::string> names;
#define LATHE_NAME(name, parameters) names.push_back(#name);
  LATHE_CUDA_FUNCTIONS(LATHE_NAME)
#undef LATHE_NAME
  int faults = 0;
  for (const std::string& name : names) {
    if (is_release(name) || name == "cuDriverGetVersion" || name == "cuCtxGetDevice")
      continue;  // version: driver_test; GetDevice: not reached
    for (int nth = 1;; ++nth) {
      start({});
      fake::fail(name, 999, nth);
      Status s = whole_life();
      if (fake::calls(name) < static_cast<uint64_t>(nth)) break;  // the script was never reached: the sweep of this call is done
      // Asking for a second parameter, which must not be there, is the one call that may fail.
      bool may_fail = name == "cuFuncGetParamInfo" && nth == 2;
      if (!may_fail && s.ok()) {
        // The current context is looked at in destructors too, where a failure has no one to tell; nothing is freed then.
        EXPECT_EQ(name, "cuCtxGetCurrent") << nth;
        continue;
      }
      ++faults;
      EXPECT_TRUE(may_fail || s.message().find("999") != std::string::npos) << name << " " << nth << ": " << s.to_string();
      fake::Live left = fake::live();
      if (name == "cuCtxGetCurrent" || name == "cuCtxPushCurrent_v2") continue;
      EXPECT_EQ(left.contexts + left.libraries + left.allocations + left.streams + left.events + left.graphs, 0)
          << name << " " << nth;
    }
  }
  EXPECT_GT(faults, 40);
  start({});
  EXPECT_TRUE(whole_life().ok());
}

}  // namespace
}  // namespace lathe::testing
