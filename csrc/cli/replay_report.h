// What `lathe plan` found, as JSON and as a table.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "lathe/replay/policies.h"
#include "lathe/replay/summary.h"

namespace lathe::cli {

struct ReplayReport {
  std::string trace;      // the file; empty when the batches are synthetic
  int64_t requests = 0;   // in it
  std::string synthetic;  // the kind; empty when there is a trace
  uint64_t seed = 0;      // of synthetic batches
  PolicyShape shape;
  SimulationOptions options;
  bool whole = false;  // all steps were made, none left out by --max-steps
  double seconds = 0;  // of the whole job
  std::vector<PolicyKind> policies;
  std::vector<PolicyFigures> figures;  // of each policy
};

nlohmann::ordered_json to_json(const ReplayReport& report);
std::string text_of(const ReplayReport& report);

}  // namespace lathe::cli
