// What hooks take at run time, as operators get it: lists of values, and their names in one text, separated by commas. Nothing at
// all where a spec has no hooks: empty lists and texts cost a call more.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "lathe/api/hook_args.h"
#include "tensors.h"

namespace lathe::torch_ops {

/// Values of a spec's hooks by name. Borrows the memory of the tensors that it was made from.
class HookValues {
 public:
  /// Tensors must be of the declared elements and on the device of `like`; refuses others, and lists that differ in length.
  HookValues(const AttentionHooks& hooks, const Tensors& tensors, const Names& tensor_names, const Numbers& params,
             const Names& param_names, const AnyTensor& like);

  std::span<const HookParam> params() const { return params_; }
  std::span<const HookTensor> tensors() const { return tensors_; }

 private:
  std::vector<HookParam> params_;
  std::vector<HookTensor> tensors_;
};

}  // namespace lathe::torch_ops
