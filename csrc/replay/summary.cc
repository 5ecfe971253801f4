#include "summary.h"

#include <algorithm>
#include <cmath>

namespace lathe {

double Samples::quantile(double rank) const {
  if (values_.empty()) return 0;
  std::vector<float> values = values_;
  const auto count = static_cast<double>(values.size());
  const auto at = values.begin() + static_cast<ptrdiff_t>(std::clamp(std::ceil(rank * count) - 1, 0.0, count - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

void Figures::add(const Evaluation& evaluation, double planned_us, int64_t workspace) {
  imbalance.add(evaluation.imbalance());
  efficiency_loss.add(evaluation.efficiency_loss());
  plan_us.add(planned_us);
  kv_bytes += evaluation.kv_bytes;
  workspace_bytes = std::max(workspace_bytes, workspace);
}

void Figures::add_sharing(const Evaluation& evaluation, int64_t distinct) {
  ++sharing_steps;
  sharing_bytes += evaluation.kv_bytes;
  distinct_bytes += distinct;
}

void Figures::add(const Figures& other) {
  imbalance.add(other.imbalance);
  efficiency_loss.add(other.efficiency_loss);
  plan_us.add(other.plan_us);
  kv_bytes += other.kv_bytes;
  sharing_steps += other.sharing_steps;
  sharing_bytes += other.sharing_bytes;
  distinct_bytes += other.distinct_bytes;
  workspace_bytes = std::max(workspace_bytes, other.workspace_bytes);
}

Figures PolicyFigures::full() const {
  Figures all = (*this)[StepKind::decode];
  all.add((*this)[StepKind::mixed]);
  return all;
}

}  // namespace lathe
