// Running the built `lathe` program.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "lathe/testing/temp_dir.h"

namespace lathe::testing {

struct Ran {
  int exit_code = -1;  // -1: it did not exit by itself
  std::string out, err;
};

/// A `lathe` with a cache of its own. One test owns it.
class Program {
 public:
  /// Runs it with `args`; `env` is set on top of this process's environment.
  Ran run(const std::vector<std::string>& args, const std::vector<std::pair<std::string, std::string>>& env = {},
          const std::string& input = {}) const;

  /// The same, and kills it with SIGKILL as soon as it has written `until` to standard error.
  Ran run_killed(const std::vector<std::string>& args, const std::vector<std::pair<std::string, std::string>>& env,
                 const std::string& until) const;

  std::filesystem::path cache() const { return folder_ / "cache"; }
  /// Writes a file and returns its path.
  std::string file(const std::string& name, const std::string& text) const;

 private:
  pid_t start(const std::vector<std::string>& args, const std::vector<std::pair<std::string, std::string>>& env,
              const std::string& input) const;
  Ran ended(pid_t child) const;

  TempDir folder_;
};

/// Small enough for the host executor to take a moment.
constexpr const char* kSpec = R"({"op":"attention","q_dtype":"f16","o_dtype":"f16","head_dim_qk":64,"head_dim_vo":64,"group_size":2,
  "layout":{"kind":"paged","page_size":16,"order":"NHD"},"mask":"causal","lse":"ln"})";
constexpr const char* kBatch = R"({"num_kv_heads":2,"qo_lens":[1,5],"kv_lens":[40,17]})";

}  // namespace lathe::testing
