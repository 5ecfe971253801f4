#include "scales.h"

namespace lathe::torch_ops {

ScalePair scales_of(double k_scale, double v_scale, const Tensors& tables, const Names& names, const AnyTensor& like) {
  ScalePair out;
  out.k.scale = static_cast<float>(k_scale);
  out.v.scale = static_cast<float>(v_scale);
  const size_t num_tables = tables ? tables->size() : 0;
  const std::vector<std::string> of_tables = names_of("scale_names", names, num_tables);
  for (size_t i = 0; i < num_tables; ++i) {
    const std::string& name = of_tables[i];
    KvScales& side = name.starts_with("k_") ? out.k : out.v;
    const std::string table = name.starts_with("k_") || name.starts_with("v_") ? name.substr(2) : "";
    Tensor* const into = table == "token_scale"     ? &side.token_scale
                         : table == "channel_scale" ? &side.channel_scale
                         : table == "zero"          ? &side.zero
                                                    : nullptr;
    if (into == nullptr) refuse("scale_names", "has " + name + "; allowed: token_scale, channel_scale and zero after k_ or v_");
    *into = view(name.c_str(), (*tables)[i], ElementType::Float, like);
  }
  return out;
}

}  // namespace lathe::torch_ops
