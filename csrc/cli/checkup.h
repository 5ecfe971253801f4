// What `lathe doctor` looks at.
#pragma once

#include <string>
#include <vector>

namespace lathe::cli {

/// ok: there and working; note: works, but not as it could; missing: not there, or there and not working.
enum class Health : uint8_t { ok, note, missing };

struct Finding {
  std::string part;  // "NVRTC", "kernel cache", ...
  Health health = Health::ok;
  std::string found;  // what is there, or what went wrong
  std::string todo;   // what to do about it; empty when ok
};

struct Checkup {
  std::vector<Finding> findings;
  bool gpu = false, host = false;  // whether kernels can be made or found for the target, and run there
};

/// Tries each part as a run would use it: a kernel is compiled for each target, the cache is opened (and made). Never fails; what
/// is missing is a finding.
Checkup check_up();

}  // namespace lathe::cli
