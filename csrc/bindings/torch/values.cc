#include "values.h"

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

std::vector<std::string> split(const std::string& names) {
  std::vector<std::string> out;
  for (size_t at = 0; at < names.size();) {
    const size_t end = std::min(names.find(',', at), names.size());
    out.push_back(names.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

std::string_view last_part(std::string_view name) {
  return name.substr(name.find('.') + 1);
}

}  // namespace

Values::Values(const AttentionHooks& hooks, const Tensors& tensors, const Numbers& numbers, const Names& names,
               const AnyTensor& like) {
  const size_t num_tensors = tensors ? tensors->size() : 0, num_numbers = numbers ? numbers->size() : 0;
  if (!names && num_tensors + num_numbers == 0) return;
  const std::vector<std::string> each = split(names.value_or(""));
  if (each.size() != num_tensors + num_numbers) {
    refuse("names", "has " + std::to_string(each.size()) + " names; allowed: " + std::to_string(num_tensors + num_numbers) +
                        ", one for each tensor and number");
  }
  for (size_t i = 0; i < num_tensors; ++i) add(hooks, each[i], (*tensors)[i], like);
  for (size_t i = 0; i < num_numbers; ++i) add(each[num_tensors + i], (*numbers)[i]);
}

KvScales* Values::side_of(std::string_view name) {
  return name.starts_with("k_scales.") ? &k_scales_ : name.starts_with("v_scales.") ? &v_scales_ : nullptr;
}

void Values::add(const AttentionHooks& hooks, const std::string& name, const AnyTensor& t, const AnyTensor& like) {
  if (KvScales* const side = side_of(name)) {
    const std::string_view table = last_part(name);
    Tensor* const into = table == "token_scale"     ? &side->token_scale
                         : table == "channel_scale" ? &side->channel_scale
                         : table == "zero"          ? &side->zero
                                                    : nullptr;
    if (into == nullptr) refuse("names", "has " + name + "; allowed: tables token_scale, channel_scale and zero");
    *into = view(name.c_str(), t, ElementType::Float, like);
    return;
  }
  const auto declared = std::ranges::find(hooks.given().tensors, name, &expr::Tensor::name);
  if (declared == hooks.given().tensors.end()) refuse("names", "has " + name + ", which the hooks do not declare");
  tensors_.push_back({name, view(name.c_str(), t, element_of(declared->elem), like)});
}

void Values::add(const std::string& name, double number) {
  KvScales* const side = side_of(name);
  if (side == nullptr) {
    params_.push_back({name, number});
    return;
  }
  if (last_part(name) != "scale") refuse("names", "has " + name + "; allowed: the number scale");
  side->scale = static_cast<float>(number);
}

}  // namespace lathe::torch_ops
