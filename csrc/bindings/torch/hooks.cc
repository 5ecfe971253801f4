#include "hooks.h"

#include <algorithm>

namespace lathe::torch_ops {
namespace {

ElementType element_of(expr::Elem elem) {
  switch (elem) {
    case expr::Elem::f16:
      return ElementType::Half;
    case expr::Elem::bf16:
      return ElementType::BFloat16;
    case expr::Elem::e4m3:
      return ElementType::Float8_e4m3fn;
    case expr::Elem::e5m2:
      return ElementType::Float8_e5m2;
    case expr::Elem::i32:
      return ElementType::Int;
    case expr::Elem::i8:
      return ElementType::Char;
    case expr::Elem::u8:
      return ElementType::Byte;
    case expr::Elem::u32:
      return ElementType::UInt32;
    case expr::Elem::boolean:
      return ElementType::Bool;
    case expr::Elem::f32:
      break;
  }
  return ElementType::Float;
}

}  // namespace

HookValues::HookValues(const AttentionHooks& hooks, const Tensors& tensors, const Names& tensor_names, const Numbers& params,
                       const Names& param_names, const AnyTensor& like) {
  const size_t num_params = params ? params->size() : 0, num_tensors = tensors ? tensors->size() : 0;
  const std::vector<std::string> of_params = names_of("param_names", param_names, num_params);
  for (size_t i = 0; i < num_params; ++i) params_.push_back({of_params[i], (*params)[i]});
  const std::vector<std::string> of_tensors = names_of("tensor_names", tensor_names, num_tensors);
  for (size_t i = 0; i < num_tensors; ++i) {
    const auto declared =
        std::ranges::find_if(hooks.given().tensors, [&](const expr::Tensor& t) { return t.name == of_tensors[i]; });
    if (declared == hooks.given().tensors.end())
      refuse("tensor_names", "has " + of_tensors[i] + ", which the hooks do not declare");
    tensors_.push_back({of_tensors[i], view(of_tensors[i].c_str(), (*tensors)[i], element_of(declared->elem), like)});
  }
}

}  // namespace lathe::torch_ops
