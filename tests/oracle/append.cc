#include "lathe/oracle/append.h"

#include <algorithm>
#include <cmath>

#include "lathe/oracle/float16.h"

namespace lathe::oracle {

std::vector<double> turn(const AppendSpec& spec, std::span<const double> x, std::span<const float> cos_sin) {
  std::vector<double> out(x.begin(), x.end());
  const auto half = static_cast<size_t>(turned_dims(spec)) / 2;
  for (size_t i = 0; i < half; ++i) {
    const size_t a = spec.rope == RopePairs::neox ? i : 2 * i, b = spec.rope == RopePairs::neox ? i + half : 2 * i + 1;
    const double cosine = cos_sin[i], sine = cos_sin[half + i];
    out[a] = x[a] * cosine - x[b] * sine;
    out[b] = x[b] * cosine + x[a] * sine;
  }
  return out;
}

AppendedVector append_vector(const AppendFormat& format, std::span<const double> x) {
  AppendedVector out;
  out.codes.assign(x.begin(), x.end());
  if (!is_code(format.element)) return out;
  for (size_t d = 0; d < x.size(); ++d) {
    out.codes[d] /= format.scale;
    if (has_channel_scale(format.scale_of)) out.codes[d] /= static_cast<double>(format.channel_scale[d]);
  }
  const auto [low, high] = std::ranges::minmax(out.codes);
  const bool zero = format.zero_of == KvZero::token;
  if (has_token_scale(format.scale_of)) {
    const double range = zero ? std::max(high, 0.0) - std::min(low, 0.0) : std::max(high, -low);
    out.token_scale = range == 0 ? 1 : range / (zero ? 255 : largest(format.element));
    if (zero) out.exact_zero = -128 - std::min(low, 0.0) / out.token_scale;
    out.token_zero = std::floor(out.exact_zero + 0.5);
  }
  for (size_t d = 0; d < x.size(); ++d) {
    out.codes[d] = out.codes[d] / out.token_scale + out.token_zero;
    if (format.zero_of == KvZero::channel) out.codes[d] += static_cast<double>(format.channel_zero[d]);
  }
  return out;
}

}  // namespace lathe::oracle
