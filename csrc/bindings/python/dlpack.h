// The structures of the DLPack protocol, version 0 (https://dmlc.github.io/dlpack): what is in a capsule named "dltensor".
#pragma once

#include <cstdint>

namespace lathe::python::dlpack {

inline constexpr const char* kFresh = "dltensor";
inline constexpr const char* kTaken = "used_dltensor";

struct Device {
  int32_t type, id;
};
inline constexpr int32_t kCpu = 1, kCuda = 2, kCudaHost = 3;

struct DataType {
  uint8_t code, bits;
  uint16_t lanes;
};
inline constexpr uint8_t kInt = 0, kUnsigned = 1, kFloat = 2, kBfloat = 4, kBool = 6;

struct Tensor {
  void* data;
  Device device;
  int32_t rank;
  DataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null: contiguous
  uint64_t byte_offset;
};

struct Managed {
  Tensor tensor;
  void* context;
  void (*release)(Managed*);
};

}  // namespace lathe::python::dlpack
