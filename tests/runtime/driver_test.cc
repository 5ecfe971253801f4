#include "lathe/runtime/driver.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cuda_support.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class DriverTest : public CudaTest {
 protected:
  static Status open_status() { return cuda_device(0).status(); }
};

TEST_F(DriverTest, NoDriver) {
  setenv("LATHE_CUDA_DRIVER", "/no/such/libcuda.so.1", 1);
  Status s = open_status();
  EXPECT_EQ(s.code(), Code::unavailable);
  EXPECT_THAT(s.to_string(),
              AllOf(HasSubstr("/no/such/libcuda.so.1"), HasSubstr("no CUDA driver"), HasSubstr("LATHE_CUDA_DRIVER")));
}

TEST_F(DriverTest, SomeOtherLibrary) {
  setenv("LATHE_CUDA_DRIVER", "libm.so.6", 1);
  Status s = open_status();
  EXPECT_EQ(s.code(), Code::unavailable);
  EXPECT_THAT(s.to_string(), HasSubstr("not a CUDA driver"));
}

TEST_F(DriverTest, NoDevice) {
  start({.devices = 0});
  Status s = open_status();
  EXPECT_EQ(s.code(), Code::unavailable);
  EXPECT_THAT(s.message(), HasSubstr("no device"));
}

TEST_F(DriverTest, NoSuchDevice) {
  start({.devices = 2});
  for (int ordinal : {-1, 2, 1 << 30}) {
    Status s = cuda_device(ordinal).status();
    EXPECT_EQ(s.code(), Code::unavailable);
    EXPECT_THAT(s.to_string(), AllOf(HasSubstr("GPU " + std::to_string(ordinal)), HasSubstr("0..1")));
  }
}

TEST_F(DriverTest, TooOldForLathe) {
  start({.version = 12030});
  Status s = open_status();
  EXPECT_EQ(s.code(), Code::unavailable);
  EXPECT_THAT(s.message(), AllOf(HasSubstr("12.3"), HasSubstr("12.4")));
  EXPECT_EQ(fake::calls("cuInit"), 0u);
}

TEST_F(DriverTest, OlderThanTheCompiler) {
  start({.version = 12080});
  auto device = open();
  Status s = device->accepts("nvrtc 13.0.88");
  EXPECT_EQ(s.code(), Code::unavailable);
  EXPECT_THAT(s.to_string(), AllOf(HasSubstr("12.8"), HasSubstr("nvrtc 13.0.88"), HasSubstr("13 or newer")));
  EXPECT_TRUE(device->accepts("nvrtc 12.9.86").ok());
  EXPECT_TRUE(device->accepts("g++ 12.2").ok());
  // An artifact from a shared cache is judged by the compiler that made it.
  EXPECT_EQ(device->load(share(make_artifact())).status().code(), Code::unavailable);
  EXPECT_EQ(fake::calls("cuLibraryLoadData"), 0u);
}

TEST_F(DriverTest, NewerThanTheCompiler) {
  start({.version = 14010});
  EXPECT_TRUE(open()->accepts("nvrtc 13.0.88").ok());
}

TEST_F(DriverTest, StubAndUnknownErrorsOfInit) {
  fake::fail("cuInit", 34);
  EXPECT_THAT(open_status().message(), HasSubstr("stub"));
  fake::fail("cuInit", 999);
  EXPECT_THAT(open_status().message(), HasSubstr("999"));
}

TEST_F(DriverTest, ForkedAfterInit) {
  auto device = open();
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Status s = open_status();
    bool right = s.code() == Code::unavailable && s.message().find("forked") != std::string::npos;
    _exit(right ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(DriverTest, InfoNamesDeviceAndDriver) {
  auto device = open();
  EXPECT_EQ(device->info().name, "Fake GPU 0");
  EXPECT_EQ(device->info().num_sms, 132);
  EXPECT_EQ(device->info().max_shared_bytes, 232448);
  EXPECT_THAT(device->info().driver, AllOf(HasSubstr("13.0"), HasSubstr("fake")));
}

TEST_F(DriverTest, ArchFollowsCapability) {
  for (auto [capability, arch] :
       {std::pair{80, "sm_80"}, {86, "sm_86"}, {89, "sm_89"}, {90, "sm_90a"}, {100, "sm_100a"}, {120, "sm_120a"}}) {
    start({.capability = capability});
    EXPECT_EQ(open()->info().arch, arch);
  }
  start({.capability = 75});
  Status s = open_status();
  EXPECT_EQ(s.code(), Code::unsupported);
  EXPECT_THAT(s.message(), AllOf(HasSubstr("7.5"), HasSubstr("8.0")));
}

TEST(NvrtcMajor, ReadFromIdentities) {
  EXPECT_EQ(cuda::nvrtc_major("nvrtc 13.0.88, library 1234"), 13);
  EXPECT_EQ(cuda::nvrtc_major("NVRTC 12.9.86 (libnvrtc.so.12), 2 workers"), 12);
  EXPECT_EQ(cuda::nvrtc_major("nvrtc-13.0"), 13);
  EXPECT_EQ(cuda::nvrtc_major("nvrtc of unknown version"), 0);
  EXPECT_EQ(cuda::nvrtc_major("g++ 12.2.0"), 0);
  EXPECT_EQ(cuda::nvrtc_major(""), 0);
  EXPECT_EQ(cuda::nvrtc_major("nvrtc"), 0);
}

}  // namespace
}  // namespace lathe::testing
