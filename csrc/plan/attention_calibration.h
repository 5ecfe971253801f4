// The planner's costs from measured launches. A pure function; `measure_attention_costs` (csrc/api/calibrate.h) takes the times.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lathe/base/status.h"
#include "lathe/plan/attention_cost.h"
#include "lathe/plan/attention_plan.h"

namespace lathe {

/// One launch, by what the block with the most work did.
struct CalibrationSample {
  std::string name;
  bool cached = false;       // the keys come from a cache, so that products alone take time; else bytes alone do
  double items = 0;          // work items, one for each head
  double partials = 0;       // of these, how many left a partial state
  double bytes = 0;          // of K and V, times the blocks that share a multiprocessor
  double fragment_dims = 0;  // AttentionCosts::fragment_dim, likewise
  double picoseconds = 0;    // of the whole launch
};

/// AttentionCosts of a block that has a multiprocessor to itself, not rounded.
struct CalibratedCosts {
  double byte = 0, fragment_dim = 0, item = 0, partial = 0;
};

struct CalibrationFit {
  CalibratedCosts costs;
  double launch = 0;              // picoseconds of a launch beside its blocks' work; no part of a plan's costs
  std::vector<double> predicted;  // picoseconds of each sample by the fit
  double rms = 0, worst = 0;      // of predicted / measured - 1, over all samples
};

/// What the longest block of `plan` does, without a name or a time. `num_sms` are the device's multiprocessors.
CalibrationSample sample_of(const PlanShape& shape, const AttentionPlan& plan, int32_t num_sms);

/// The costs that explain the samples best: least squares of the relative errors, none below 0. Refuses, naming what: samples that
/// are too few, not positive, or do not tell two of the costs apart; errors above 10% rms or 30% in one sample; costs that
/// check_costs() refuses or whose standard error passes 10%; decodes whose time would have been taken by products.
Result<CalibrationFit> fit_attention_costs(std::span<const CalibrationSample> samples);

/// Refuses costs that no GPU has, all at once: bytes and products outside 1..10,000 ps, items and partials outside 10 ns..100 us.
Status check_costs(const CalibratedCosts& costs);

/// The planner's costs for `num_ctas` blocks that share `num_sms` multiprocessors. `calibrated` has passed check_costs().
AttentionCosts attention_costs(const CalibratedCosts& calibrated, int32_t num_sms, int32_t num_ctas);

}  // namespace lathe
