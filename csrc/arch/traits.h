// What Lathe knows of each place a kernel can run: every GPU arch from compute capability 8.0, and the host executor.
// A new arch is one row here and one folder under templates/device/.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/base/status.h"

namespace lathe {

struct ArchTraits {
  std::string name;                         // "sm_80", "sm_90a", ..., "host"
  int compute_capability = 0;               // 80, 90, ...; 0 for the host
  int32_t max_shared_bytes = 0;             // shared memory one block may ask for (opt-in maximum)
  int32_t num_sms = 0;                      // of a typical device; used when planning without one
  int32_t memory_gb_per_s = 0;              // what reading device memory reaches on such a device
  int32_t mma_tflop_per_s = 0;              // what dense 16-bit mma.sync reaches on such a device
  std::vector<std::string> device_folders;  // under templates/, searched in order for a primitive's header

  bool is_host() const { return compute_capability == 0; }
};

/// Traits of `name`: "host", or "sm_<cc>" with an optional "a" or "f" suffix and cc >= 80. Archs newer than the table get the
/// smallest shared-memory limit of its rows. Whether the loaded NVRTC can compile for it is the compiler's to say.
Result<ArchTraits> arch_traits(std::string_view name);

/// The names of the table's rows, host first.
std::vector<std::string> known_archs();

}  // namespace lathe
