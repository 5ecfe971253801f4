<%! Root of the append family: new keys and values go into a cache's pages (csrc/spec/append_spec.h). %>
#include "abi/append.h"
#include "device/device.cuh"
#include "kernels/shared/kv_tables.cuh"

namespace config {

using Element = dev::<% element %>;          // q, k and v as they come
// k or v as the cache has them.
using KeyFormat =
    kv::Format<dev::<% key_element %>, <% key_token_scale %>, <% key_channel_scale %>, kv::ZeroPoint::<% key_zero %>>;
using ValueFormat =
    kv::Format<dev::<% value_element %>, <% value_token_scale %>, <% value_channel_scale %>, kv::ZeroPoint::<% value_zero %>>;
constexpr int kHeadDimQk = <% head_dim_qk %>;
constexpr int kHeadDimVo = <% head_dim_vo %>;
constexpr int kTurnedDims = <% turned_dims %>;        // of q and k, by rotary embeddings; 0: none
constexpr bool kInterleaved = <% interleaved %>;      // pairs are neighbours, else halves apart
constexpr bool kSlots = <% slots %>;                  // tokens are placed by slots, else by request and position
constexpr int kPageSize = <% page_size %>;
constexpr int kWarps = <% warps %>;

}  // namespace config

#include "kernels/append/append_vectors.cuh"

LATHE_KERNEL(append_kernel, abi::AppendParams, config::kWarps * dev::kWarpSize) {
  append::append_vectors(params);
}
