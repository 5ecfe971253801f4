// Tables of scales and zero-points of keys or values that are codes of 8 bits.
#pragma once

#include "device/device.cuh"

namespace kv {

using dev::i64;

enum class ZeroPoint { none, token, channel };

// How keys, or values, are held: elements as q's, or 8-bit codes with scales of tokens and channels and a zero-point.
template <class Type, bool token_scale, bool channel_scale, ZeroPoint zero>
struct Format {
  using Element = Type;
  static constexpr bool kTokenScale = token_scale;
  static constexpr bool kChannelScale = channel_scale;
  static constexpr ZeroPoint kZero = zero;
};

// Where a token lies in the pool: a page and its index in there or, ragged, page 0 and its row.
struct Place {
  int page, index;
};

// One kv head's entries of a table.
struct Table {
  const abi::KvTable& table;
  int kv_head;

  LATHE_DEVICE float of_channel(int channel) const { return floats(channel * table.stride_channel).load(0); }
  LATHE_DEVICE float of_token(Place at) const { return floats(token(at)).load(0); }
  LATHE_DEVICE void set_token(Place at, float x) const { floats(token(at)).store(0, x); }

 private:
  LATHE_DEVICE i64 token(Place at) const { return at.page * table.stride_page + at.index * table.stride_token; }
  LATHE_DEVICE dev::GlobalFloats floats(i64 offset) const {
    return {static_cast<float*>(dev::at(table.data, offset + kv_head * table.stride_head))};
  }
};

}  // namespace kv
