// What the fake driver needs to know of a cubin, and how tests without a compiler make one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace lathe::testing {

struct CubinKernel {
  std::vector<uint32_t> param_bytes;  // of each parameter
  uint32_t max_threads = 1024;
};
using CubinKernels = std::map<std::string, CubinKernel>;

/// The kernels of a cubin, read from its .nv.info.<name> sections. `image` is trusted to be as long as its section headers say;
/// nothing when it is no ELF file.
std::optional<CubinKernels> read_cubin(const void* image);

/// The least ELF file that read_cubin() reads as `kernels`. It holds no code.
std::vector<std::byte> make_cubin(const CubinKernels& kernels);

}  // namespace lathe::testing
