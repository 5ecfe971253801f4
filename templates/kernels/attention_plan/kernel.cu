<%! Root of the planning family: one kernel for every spec; what it plans for is in its parameters. %>
#include "device/collectives.cuh"
#include "device/device.cuh"

#define LATHE_SHARED LATHE_DEVICE
#define LATHE_SHARED_CALL LATHE_DEVICE_CALL
#include "abi/attention_plan.h"

namespace config {

constexpr int kThreads = <% threads %>;

}  // namespace config

#include "kernels/attention_plan/make_plan.cuh"

LATHE_KERNEL(attention_plan_kernel, abi::AttentionPlanParams, config::kThreads) {
  attention_plan::make_plan(params);
}
