// What the demo did, for its report.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "lathe/cli/case.h"

namespace lathe::cli {

/// One arch's kernel, built three times: by a fresh engine, by a second one on the same cache, and again by that one.
struct DemoKernel {
  std::string arch;
  Status status;  // of the first build; when it is not ok, nothing else is known
  ArtifactPtr artifact;
  struct Build {
    Origin origin = Origin::compiled;
    double ms = 0;  // of the whole call
  };
  Build first, second, third;
  std::string not_run;  // why it was compiled only; empty when it was run
};

struct Demo {
  std::string lengths;  // where the batch's lengths are from
  int scale = 1;
  std::string gpu_compiler, host_compiler, gpu;  // what was found
  std::vector<DemoKernel> kernels;               // the one that ran is first
  std::optional<CaseResult> result;
  std::optional<CaseResult> strict;  // a smaller batch on the host executor with every check on, where `result` is of the host too
  int strict_scale = 1;
  Status status;  // why there is no result
  double total_ms = 0;

  bool passed() const { return status.ok() && result && result->failures().empty() && (!strict || strict->failures().empty()); }
};

nlohmann::ordered_json to_json(const Demo& demo);
std::string report(const Demo& demo);

}  // namespace lathe::cli
