<%! Root of the attention family: the configuration of one spec, then ordinary C++. %>
#include "abi/attention.h"
#include "device/device.cuh"
#include "kernels/attention/hooks.cuh"
#include "kernels/shared/kv_tables.cuh"

namespace config {

using Element = dev::<% element %>;         // q, and what the matrix unit takes
using OutElement = dev::<% out_element %>;  // o
// k or v as they lie in memory: elements as q's, or 8-bit codes with their scales (kernels/attention/kv_formats.cuh).
using KeyFormat =
    kv::Format<dev::<% key_element %>, <% key_token_scale %>, <% key_channel_scale %>, kv::ZeroPoint::<% key_zero %>>;
using ValueFormat =
    kv::Format<dev::<% value_element %>, <% value_token_scale %>, <% value_channel_scale %>, kv::ZeroPoint::<% value_zero %>>;
constexpr int kHeadDimQk = <% head_dim_qk %>;
constexpr int kHeadDimVo = <% head_dim_vo %>;
constexpr int kGroupSize = <% group_size %>;   // qo heads per kv head
constexpr bool kPacked = <% packed %>;         // the heads of a group share the rows of a tile
constexpr bool kPaged = <% paged %>;
constexpr int kPageSize = <% page_size %>;     // tokens; 1 when not paged
constexpr bool kCausal = <% causal %>;
constexpr bool kWindow = <% window %>;
constexpr bool kSoftCap = <% soft_cap %>;
constexpr bool kWriteLse = <% write_lse %>;
constexpr bool kLseLog2 = <% lse_log2 %>;      // base 2, else natural
constexpr int kWarps = <% warps %>;
constexpr int kStages = <% stages %>;
constexpr int kEpilogueOffset = 2048;          // shared memory: control block, then tiles

template <int INDEX>
struct TileClass;
<%# tile_classes %>
template <>
struct TileClass<<% index %>> {
  static constexpr int kRows = <% q %>;
  static constexpr int kKeys = <% kv %>;
};
<%/ tile_classes %>
LATHE_DEVICE constexpr int tile_rows(int tile_class) {
<%# tile_classes %>
  if (tile_class == <% index %>) return <% q %>;
<%/ tile_classes %>
  return 0;
}

}  // namespace config

#include "kernels/attention/run_item.cuh"

LATHE_KERNEL(attention_kernel, abi::AttentionParams, config::kWarps * dev::kWarpSize) {
  using attention::Plan;
  if (Plan(params).replica >= Plan(params).header(&Plan::Header::num_replicas)) return;
  for (int i = Plan(params).item_begin(); i < Plan(params).item_end(); ++i) {
    for (int n = 0; n < Plan(params).item_kind(i).num_heads; ++n) {
      switch (Plan(params).item_kind(i).tile_class) {
<%# tile_classes %>
        case <% index %>:
          attention::run_item<config::TileClass<<% index %>>>(params, i, n);
          break;
<%/ tile_classes %>
        default:
          dev::trap();
      }
      if (Plan(params).item_is_partial(i)) attention::merge_if_last(params, i);
      dev::block_barrier();  // the next tile takes this one's place in shared memory
    }
  }
}
