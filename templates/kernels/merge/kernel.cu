<%! Root of the merge family: partial attention states over disjoint keys become one. %>
#include "abi/merge.h"
#include "device/device.cuh"

namespace config {

using Element = dev::<% element %>;
constexpr int kHeadDim = <% head_dim %>;
constexpr bool kLseLog2 = <% lse_log2 %>;  // base 2, else natural
constexpr int kThreads = <% threads %>;

}  // namespace config

#include "kernels/merge/merge_rows.cuh"

LATHE_KERNEL(merge_kernel, abi::MergeParams, config::kThreads) {
  merge::merge_rows(params);
}
