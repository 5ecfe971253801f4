// Checks a plan against its definition, knowing nothing of how the planner works.
#pragma once

#include <string>
#include <vector>

#include "lathe/plan/attention_plan.h"

namespace lathe::testing {

/// What a request gets done, apart from where: each line one item as text, sorted. Equal for equal treatment.
std::vector<std::string> items_of_request(const PlanShape& shape, const AttentionPlan& plan, int32_t request);

/// Output tiles, those that are cut counted once for each part.
int64_t num_tiles_and_parts(const AttentionPlan& plan);

/// The first list in which two images differ, or nothing. What lies between the lists does not count.
std::string first_difference(BytesView a, BytesView b);

/// The first thing that is wrong with `plan`, or nothing. Covers: every (packed row, visible key) in exactly one item; groups
/// complete, in key order, and used once; partial rows disjoint and inside the workspace; the blocks' lists a partition of the
/// items; loads; splits as the spec asks.
std::string check_plan(const PlanShape& shape, const PlanBatch& batch, const AttentionPlan& plan);

}  // namespace lathe::testing
