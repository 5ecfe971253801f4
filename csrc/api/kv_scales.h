// Scales and zero-points of keys and values that are codes of 8 bits.
#pragma once

#include "lathe/api/tensor.h"

namespace lathe {

/// What a code stands for is (code - zero) * scale * token_scale * channel_scale. Tables are f32, in device memory of the kernel's
/// device, with any strides that are not negative; each is given exactly when the spec has it.
struct KvScales {
  float scale = 1;       // of all codes; finite, > 0
  Tensor token_scale;    // ragged [tokens, num_kv_heads]; paged [pages, page_size, num_kv_heads], whatever the order of the pages
  Tensor channel_scale;  // [num_kv_heads, head_dim]
  Tensor zero;           // in codes; as token_scale, or as channel_scale
};

}  // namespace lathe
