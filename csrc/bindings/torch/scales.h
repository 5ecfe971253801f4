// Scales and zero-points of keys and values of 8 bits, as operators get them.
#pragma once

#include <string>
#include <vector>

#include "lathe/api/kv_scales.h"
#include "tensors.h"

namespace lathe::torch_ops {

struct ScalePair {
  KvScales k, v;
};

/// `tables` are f32, on the device of `like`; `names` says which: k_token_scale, k_channel_scale, k_zero, v_token_scale,
/// v_channel_scale, v_zero, separated by commas. Borrows their memory.
ScalePair scales_of(double k_scale, double v_scale, const Tensors& tables, const Names& names, const AnyTensor& like);

}  // namespace lathe::torch_ops
