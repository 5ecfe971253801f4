// The driver's functions as Lathe declares them, against the toolkit's header: a wrong declaration would pass every other test.
#include <cuda.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <type_traits>

#include "lathe/runtime/driver.h"

namespace lathe {
namespace {

// Enums travel as int, and the two structs are compared field by field below.
template <class T>
using Plain = std::conditional_t<std::is_enum_v<T>, int, T>;
template <class T>
struct Same {
  using type = Plain<T>;
};
template <class T>
struct Same<T*> {
  using type = typename Same<T>::type*;
};
template <class T>
struct Same<const T> {
  using type = const typename Same<T>::type;
};
template <>
struct Same<CUlaunchConfig> {
  using type = cuda::LaunchConfig;
};
template <class R, class... A>
struct Same<R (*)(A...)> {
  using type = Plain<R> (*)(typename Same<A>::type...);
};

#define LATHE_COMPARE(name, parameters) \
  static_assert(std::is_same_v<typename Same<decltype(&::name)>::type, int(*) parameters>, #name);
LATHE_CUDA_FUNCTIONS(LATHE_COMPARE)

static_assert(sizeof(CUlaunchConfig) == sizeof(cuda::LaunchConfig));
static_assert(offsetof(CUlaunchConfig, sharedMemBytes) == offsetof(cuda::LaunchConfig, shared_bytes));
static_assert(offsetof(CUlaunchConfig, hStream) == offsetof(cuda::LaunchConfig, stream));
static_assert(offsetof(CUlaunchConfig, attrs) == offsetof(cuda::LaunchConfig, attributes));
static_assert(offsetof(CUlaunchConfig, numAttrs) == offsetof(cuda::LaunchConfig, num_attributes));
static_assert(sizeof(CUlaunchAttribute) == sizeof(cuda::LaunchAttribute));
static_assert(offsetof(CUlaunchAttribute, value) == offsetof(cuda::LaunchAttribute, value));
static_assert(offsetof(CUlaunchAttributeValue, clusterDim.z) == 2 * sizeof(unsigned));

TEST(CudaHeader, ConstantsAgree) {
  EXPECT_EQ(int{cuda::kOutOfMemory}, CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(int{cuda::kNotInitialized}, CUDA_ERROR_NOT_INITIALIZED);
  EXPECT_EQ(int{cuda::kStubLibrary}, CUDA_ERROR_STUB_LIBRARY);
  EXPECT_EQ(int{cuda::kNoDevice}, CUDA_ERROR_NO_DEVICE);
  EXPECT_EQ(int{cuda::kInvalidImage}, CUDA_ERROR_INVALID_IMAGE);
  EXPECT_EQ(int{cuda::kNotReady}, CUDA_ERROR_NOT_READY);
  EXPECT_EQ(int{cuda::kSmCount}, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
  EXPECT_EQ(int{cuda::kCapabilityMajor}, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
  EXPECT_EQ(int{cuda::kCapabilityMinor}, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  EXPECT_EQ(int{cuda::kMaxSharedOptIn}, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
  EXPECT_EQ(int{cuda::kMaxThreads}, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
  EXPECT_EQ(int{cuda::kStaticShared}, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
  EXPECT_EQ(int{cuda::kMaxDynamicShared}, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
  EXPECT_EQ(int{cuda::kErrorLog}, CU_JIT_ERROR_LOG_BUFFER);
  EXPECT_EQ(int{cuda::kErrorLogBytes}, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES);
  EXPECT_EQ(int{cuda::LaunchAttribute::kCooperative}, CU_LAUNCH_ATTRIBUTE_COOPERATIVE);
  EXPECT_EQ(int{cuda::LaunchAttribute::kClusterDimension}, CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION);
}

TEST(CudaHeader, StickyErrors) {
  for (int error : {CUDA_ERROR_ECC_UNCORRECTABLE, CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_LAUNCH_TIMEOUT, CUDA_ERROR_ASSERT,
                    CUDA_ERROR_HARDWARE_STACK_ERROR, CUDA_ERROR_ILLEGAL_INSTRUCTION, CUDA_ERROR_MISALIGNED_ADDRESS,
                    CUDA_ERROR_INVALID_ADDRESS_SPACE, CUDA_ERROR_INVALID_PC, CUDA_ERROR_LAUNCH_FAILED, CUDA_ERROR_EXTERNAL_DEVICE})
    EXPECT_TRUE(cuda::is_sticky(error)) << error;
  for (int error : {CUDA_SUCCESS, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_INVALID_IMAGE,
                    CUDA_ERROR_NOT_FOUND, CUDA_ERROR_NOT_READY, CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE,
                    CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED})
    EXPECT_FALSE(cuda::is_sticky(error)) << error;
}

}  // namespace
}  // namespace lathe
