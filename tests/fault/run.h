// Running fault_server under the shim.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace lathe::testing {

/// What the shim is to do (shim.cc); none of it by default.
struct FaultRule {
  int fail_at = 0;
  int error = 0;
  bool always = false;
  std::string kill{};  // "before renameat *.tmp 1"
  int most = 0;
};

struct FaultRun {
  int status = -1;               // as waitpid gives it
  std::string said;              // its output
  std::vector<std::string> log;  // a line for each counted call
  bool struck = false;           // whether anything was done to a call
};

/// Makes `folder`/root: two sound entries, one of them not used for a day, a damaged one, and litter.
void prepare_root(const std::filesystem::path& folder);

/// Runs fault_server on `folder`. Its log stays there as "faults.log". No shim without `rule`.
FaultRun run_server(const std::filesystem::path& folder, uint64_t seed, const FaultRule* rule);

}  // namespace lathe::testing
