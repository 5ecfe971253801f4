// Figures of many steps.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "lathe/replay/evaluate.h"
#include "lathe/replay/simulate.h"

namespace lathe {

/// Values of which quantiles are asked; exact, 4 bytes each.
class Samples {
 public:
  void add(double value) { values_.push_back(static_cast<float>(value)); }
  void add(const Samples& other) { values_.insert(values_.end(), other.values_.begin(), other.values_.end()); }
  size_t size() const { return values_.size(); }
  /// The least value that at least the share `rank` (0..1) of all values does not exceed; 0 without values.
  double quantile(double rank) const;

 private:
  std::vector<float> values_;
};

/// What one policy did in steps of one kind.
struct Figures {
  Samples imbalance, efficiency_loss, plan_us;
  int64_t kv_bytes = 0;         // K and V read, over all steps
  int64_t workspace_bytes = 0;  // the most that a step needed

  // Of the steps in which requests read keys together: K and V read, and what would be read if every page was read once.
  int64_t sharing_steps = 0, sharing_bytes = 0, distinct_bytes = 0;

  int64_t steps() const { return static_cast<int64_t>(imbalance.size()); }
  void add(const Evaluation& evaluation, double planned_us, int64_t workspace);
  void add_sharing(const Evaluation& evaluation, int64_t distinct);
  void add(const Figures& other);
};

/// Figures of one policy by kind of step.
struct PolicyFigures {
  std::array<Figures, kNumStepKinds> of_kind;

  Figures& operator[](StepKind kind) { return of_kind[static_cast<size_t>(kind)]; }
  const Figures& operator[](StepKind kind) const { return of_kind[static_cast<size_t>(kind)]; }
  /// Decode and mixed steps together: those of a full batch.
  Figures full() const;
};

}  // namespace lathe
