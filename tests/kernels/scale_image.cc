#include "lathe/proof/scale_image.h"

#include <limits>

#include "lathe/proof/memory.h"

namespace lathe::testing {

ScaleImage::ScaleImage(const AttentionSpec& spec, bool keys, const ScaleValues& values, int64_t num_kv_heads, int64_t rows,
                       bool padded)
    : num_kv_heads_(num_kv_heads), scale_(values.scale) {
  const KvScale scale = keys ? spec.kscale : spec.vscale;
  const KvZero zero_point = keys ? spec.kzero : spec.vzero;
  zero_of_tokens_ = zero_point == KvZero::token;
  const int64_t dim = keys ? spec.head_dim_qk : spec.head_dim_vo;
  const auto make = [&](Table table) {
    const Tensor& t = shapes_[table];
    int64_t last = 0;
    for (int i = 0; i < t.rank; ++i) last += (t.shape[static_cast<size_t>(i)] - 1) * t.stride[static_cast<size_t>(i)];
    tables[table].assign(static_cast<size_t>(last) + 1, std::numeric_limits<float>::quiet_NaN());
  };
  const auto make_tokens = [&](Table table) {
    shapes_[table] = spec.layout.kind == LayoutKind::paged ? make_tensor({rows, spec.layout.page_size, num_kv_heads}, 1, padded)
                                                           : make_tensor({rows, num_kv_heads}, 1, padded);
    make(table);
  };
  const auto make_channels = [&](Table table, const std::vector<float>& from) {
    shapes_[table] = make_tensor({num_kv_heads, dim}, 1, padded);
    make(table);
    for (int64_t h = 0; h < num_kv_heads; ++h)
      for (int64_t d = 0; d < dim; ++d)
        tables[table][static_cast<size_t>(h * shapes_[table].stride[0] + d)] = from[static_cast<size_t>(h * dim + d)];
  };
  if (has_token_scale(scale)) make_tokens(token_scale);
  if (has_channel_scale(scale)) make_channels(channel_scale, values.channel_scale);
  if (zero_of_tokens_) make_tokens(zero);
  if (zero_point == KvZero::channel) make_channels(zero, values.zero);
}

void ScaleImage::place(const ScaleValues& values, int64_t token, int64_t page, int64_t slot) {
  const auto put = [&](Table table, const std::vector<float>& from) {
    const Tensor& t = shapes_[table];
    const int64_t at = t.rank == 3 ? page * t.stride[0] + slot * t.stride[1] : slot * t.stride[0];
    for (int64_t h = 0; h < num_kv_heads_; ++h)
      tables[table][static_cast<size_t>(at + h)] = from[static_cast<size_t>(token * num_kv_heads_ + h)];
  };
  if (!tables[token_scale].empty()) put(token_scale, values.token_scale);
  if (zero_of_tokens_) put(zero, values.zero);
}

KvScales ScaleImage::args() const {
  return {scale_, shapes_[token_scale], shapes_[channel_scale], shapes_[zero]};
}

oracle::ScaleViews ScaleImage::views() const {
  const auto view = [&](Table table) { return oracle::FloatView{tables[table].data(), shapes_[table].stride}; };
  return {static_cast<double>(scale_), view(token_scale), view(channel_scale), view(zero)};
}

}  // namespace lathe::testing
