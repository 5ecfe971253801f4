// What the tests of the CUDA side share: the fake driver in place of the real one, and artifacts for it.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <memory>
#include <string>

#include "lathe/fake_driver/cubin.h"
#include "lathe/fake_driver/fake_driver.h"
#include "lathe/runtime/device.h"

namespace lathe::testing {

/// Runs each test on a fresh fake driver and sees that it leaves no handle behind.
class CudaTest : public ::testing::Test {
 protected:
  CudaTest() { start({}); }
  ~CudaTest() override {
    fake::Live left = fake::live();
    if (expect_clean) {
      EXPECT_EQ(left.contexts, 0);
      EXPECT_EQ(left.libraries, 0);
      EXPECT_EQ(left.allocations, 0);
      EXPECT_EQ(left.host_allocations, 0);
      EXPECT_EQ(left.streams, 0);
      EXPECT_EQ(left.events, 0);
      EXPECT_EQ(left.graphs, 0);
    }
    EXPECT_EQ(fake::violations().empty(), !expect_violations);
    unsetenv("LATHE_CUDA_DRIVER");
  }

  void start(const fake::Config& config) {
    setenv("LATHE_CUDA_DRIVER", FAKE_DRIVER, 1);
    fake::reset(config);
  }

  static std::shared_ptr<Device> open(int ordinal = 0) {
    auto device = cuda_device(ordinal);
    EXPECT_TRUE(device.ok()) << device.status().to_string();
    return device.ok() ? *device : nullptr;
  }

  bool expect_violations = false;
  bool expect_clean = true;  // false where the device was lost: handles of a lost device cannot be given back
};

constexpr uint32_t kParamBytes = 320;

/// An artifact of one kernel, "entry", that takes a parameter block of kParamBytes.
inline Artifact make_artifact(const std::string& key = "a key") {
  Artifact a;
  a.key = key;
  a.key_hex = "00ff";
  a.family = "some_family";
  a.description = "a kernel of some family";
  a.arch = "sm_90a";
  a.entry = "entry";
  a.compiler = "nvrtc 13.0.88";
  a.block_threads = 128;
  a.shared_bytes = 100'000;
  a.binary = make_cubin({{"entry", {{kParamBytes}, 128}}});
  return a;
}

inline ArtifactPtr share(Artifact artifact) {
  return std::make_shared<const Artifact>(std::move(artifact));
}

/// A launch that suits make_artifact(); owns its parameter block.
struct SampleLaunch {
  alignas(64) std::byte params[8192] = {};
  Launch launch;

  SampleLaunch() {
    for (size_t i = 0; i < kParamBytes; ++i) params[i] = std::byte(i * 7);
    launch.grid = {132, 1, 1};
    launch.block = {128, 1, 1};
    launch.shared_bytes = 100'000;
    launch.params = {params, kParamBytes};
  }
};

}  // namespace lathe::testing
