// The GPU under test.
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "lathe/runtime/device.h"

namespace lathe::testing {

/// GPU 0, opened at the first call, or why there is none.
const Result<std::shared_ptr<Device>>& gpu();

/// Base of every suite here. main() runs no test without a GPU; a test that is started all the same says so and is skipped.
class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!gpu().ok()) GTEST_SKIP() << "no CUDA device: " << gpu().status().to_string();
    device = *gpu();
  }
  std::shared_ptr<Device> device;
};

}  // namespace lathe::testing
