// Checks a plan whose requests share keys against what page tables say, knowing nothing of how sharing was found or planned.
#pragma once

#include <string>

#include "lathe/plan/attention_plan.h"

namespace lathe::testing {

/// The first thing that is wrong with `plan`, or nothing. Covers: the states of every (packed row, head), its own parts' and its
/// shared tiles', stand for the keys that the row sees, each once, by the pages that they lie in; links, shared rows and groups
/// agree; partial rows disjoint and inside the workspace. `batch` is paged, without a window, and has page_ids.
std::string check_sharing(const PlanShape& shape, const PlanBatch& batch, const AttentionPlan& plan);

}  // namespace lathe::testing
