// What planning on the device needs to know beforehand: the kernel's parameters, all but the addresses.
#pragma once

#include "lathe/abi/attention_plan.h"
#include "lathe/base/status.h"
#include "lathe/plan/attention_plan.h"

namespace lathe {

struct DevicePlanShape {
  abi::AttentionPlanParams params{};  // everything but pointers, num_requests and block_table_stride
  size_t row_blocks_bytes = 0;        // of params.row_blocks
};

/// For batches within `bounds`, in a workspace of workspace_bound(shape, bounds). Refuses what that refuses.
Result<DevicePlanShape> device_plan_shape(const PlanShape& shape, const PlanBounds& bounds, int32_t window);

}  // namespace lathe
