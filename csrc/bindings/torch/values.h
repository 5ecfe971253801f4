// What a run takes beside its tensors and lengths, as operators get it: what hooks declare, and what codes of 8 bits stand for. One
// list of tensors, one of numbers, and their names in one text: each argument of an operator costs every call, given or not.
#pragma once

#include <span>
#include <vector>

#include "lathe/api/hook_args.h"
#include "lathe/api/kv_scales.h"
#include "tensors.h"

namespace lathe::torch_ops {

/// Values by name. Borrows the memory of the tensors that it was made from.
class Values {
 public:
  /// `names` are those of the tensors, then those of the numbers, separated by commas: of hooks as these declare them, of codes
  /// `k_scales.scale` (a number), `k_scales.token_scale`, `k_scales.channel_scale`, `k_scales.zero`, and the same of `v_scales`.
  /// Tensors must be of the declared elements and on the device of `like`; refuses others, and lists that differ in length.
  Values(const AttentionHooks& hooks, const Tensors& tensors, const Numbers& numbers, const Names& names, const AnyTensor& like);

  std::span<const HookParam> params() const { return params_; }
  std::span<const HookTensor> tensors() const { return tensors_; }
  const KvScales& k_scales() const { return k_scales_; }
  const KvScales& v_scales() const { return v_scales_; }

 private:
  KvScales* side_of(std::string_view name);
  void add(const AttentionHooks& hooks, const std::string& name, const AnyTensor& t, const AnyTensor& like);
  void add(const std::string& name, double number);

  std::vector<HookParam> params_;
  std::vector<HookTensor> tensors_;
  KvScales k_scales_, v_scales_;
};

}  // namespace lathe::torch_ops
