// The file that `lathe calibrate` writes and LATHE_COSTS names: costs, and which device they were measured on. Its form is in
// docs/planner.md ("Calibration").
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "lathe/base/status.h"
#include "lathe/plan/attention_calibration.h"

namespace lathe {

/// What the costs hold for.
struct CostsStamp {
  std::string lathe;   // version()
  std::string device;  // DeviceInfo::name
  std::string arch;
  int32_t multiprocessors = 0;
  std::string driver, date;  // for people
};

struct CostsFile {
  CostsStamp stamp;
  CalibratedCosts costs;
};

/// More than this is refused.
constexpr size_t kMaxCostsFileBytes = 1 << 20;

/// The text of a costs file. `fit` is of `samples`.
std::string costs_to_json(const CostsStamp& stamp, const CalibrationFit& fit, std::span<const CalibrationSample> samples);

/// Reads such a text as hostile input: stamp and costs, which must be there, of their types and pass check_costs(); what else the
/// file holds is for people and only has to be sound JSON. All problems at once.
Result<CostsFile> costs_from_json(std::string_view text);

}  // namespace lathe
