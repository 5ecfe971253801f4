// What host and device agree on for keys and values that are codes of 8 bits.
#pragma once

namespace lathe::abi {

// fp32 factors or zero-points of keys or values: of a token and kv head, or of a kv head and channel. Strides are bytes; an axis
// that is not there has stride 0.
struct KvTable {
  void* data;
  long long stride_page, stride_token, stride_head, stride_channel;  // ragged: stride_page unused
};

// What codes stand for: (code - zero) * scale * token_scale * channel_scale.
struct KvScales {
  KvTable token_scale, channel_scale, zero;
  float scale;
};

}  // namespace lathe::abi
