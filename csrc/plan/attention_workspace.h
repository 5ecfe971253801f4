// Sizes of the workspace. Internal to csrc/plan.
#pragma once

#include <cstdint>

#include "lathe/base/status.h"
#include "lathe/plan/attention_plan.h"

namespace lathe {

struct PlanCounts {
  int64_t requests = 0, items = 0, groups = 0, partial_rows = 0;
};

/// The layout that holds these counts; refused when the lists or the partial rows pass what 31-bit offsets reach.
Result<WorkspaceLayout> workspace_layout(const PlanCounts& counts, const PlanShape& shape);

}  // namespace lathe
