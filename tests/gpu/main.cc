// Without a GPU this program runs nothing, says so, and returns 77: the code that test runners read as "skipped". It never looks
// like a pass.
#include <gtest/gtest.h>

#include <cstdio>

#include "gpu.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (::testing::GTEST_FLAG(list_tests)) return RUN_ALL_TESTS();
  const auto& device = lathe::testing::gpu();
  if (!device.ok()) {
    std::printf("[  SKIPPED ] SKIPPED: no CUDA device, nothing was run: %s\n", device.status().to_string().c_str());
    return 77;
  }
  const lathe::DeviceInfo& info = (*device)->info();
  std::printf("GPU: %s, %s, %d SMs, %s\n", info.name.c_str(), info.arch.c_str(), info.num_sms, info.driver.c_str());
  return RUN_ALL_TESTS();
}
