#include "lathe/proof/batch_values.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lathe/oracle/attention.h"
#include "lathe/oracle/float16.h"

namespace lathe::testing {
namespace {

std::vector<uint16_t> normal(DType dtype, int64_t n, double deviation, std::mt19937_64& rng) {
  std::normal_distribution<double> draw(0, deviation);
  std::vector<uint16_t> out(static_cast<size_t>(n));
  for (uint16_t& x : out) x = oracle::encode(dtype, draw(rng));
  return out;
}

// Codes and their scales for normal numbers of about `deviation`: scales differ by up to a factor of four, zero-points by up to
// half of what codes reach. Where a hook sees what codes stand for, `short_digits`: all of it then is exact in fp32, as what a hook
// makes of it is rounded to elements, and must be rounded as the reference rounds it.
struct Codes {
  std::vector<uint16_t> codes;
  ScaleValues scales;
};
Codes draw_codes(DType format, KvScale scale, KvZero zero, int64_t tokens, int64_t heads, int64_t dim, double deviation,
                 bool short_digits, std::mt19937_64& rng) {
  const double spread = format == DType::i8 ? 30 : format == DType::e4m3 ? 20 : 1;  // of the codes' own numbers
  std::uniform_real_distribution<double> factor(0.5, 2.0), shift(-60.0, 60.0);
  const auto draw = [&](std::vector<float>& table, int64_t n, auto&& from) {
    for (int64_t i = 0; i < n; ++i) {
      const double x = from(rng);
      table.push_back(static_cast<float>(short_digits ? std::round(x * 8) / 8 : x));
    }
  };
  Codes out;
  if (has_token_scale(scale)) draw(out.scales.token_scale, tokens * heads, factor);
  // Few enough digits that a query times its scale is exact in fp32, and then rounded as the reference rounds it.
  const auto short_factor = [&](std::mt19937_64& from) {
    return oracle::decode(DType::bf16, oracle::encode(DType::bf16, factor(from)));
  };
  if (has_channel_scale(scale)) draw(out.scales.channel_scale, heads * dim, short_factor);
  if (zero == KvZero::token) draw(out.scales.zero, tokens * heads, shift);
  if (zero == KvZero::channel) draw(out.scales.zero, heads * dim, shift);
  out.scales.scale = static_cast<float>(short_digits ? std::exp2(std::round(std::log2(deviation / spread))) : deviation / spread);
  std::normal_distribution<double> number(0, spread);
  for (int64_t i = 0; i < tokens * heads * dim; ++i) {
    const int64_t row = i / dim, channel = row % heads * dim + i % dim;
    const int64_t at = zero == KvZero::token ? row : channel;
    const double middle = zero == KvZero::none ? 0 : static_cast<double>(out.scales.zero[static_cast<size_t>(at)]);
    out.codes.push_back(oracle::encode(format, number(rng) + middle));
  }
  return out;
}

oracle::ScaleViews views(const ScaleValues& scales, KvZero zero, int64_t heads, int64_t dim) {
  const auto view = [](const std::vector<float>& table, int64_t row) { return oracle::FloatView{table.data(), {row, 1}}; };
  return {static_cast<double>(scales.scale), view(scales.token_scale, heads), view(scales.channel_scale, dim),
          view(scales.zero, zero == KvZero::token ? heads : dim)};
}

// Up to this head dim, one query in a million comes out so short that rounding alone breaks the bound of its row; above it, the
// sum of that many independent columns never does.
constexpr int32_t kSmallHeadDim = 32;
constexpr int kMaxRounds = 20;  // each leaves about a thousandth of what the one before found

// The queries, by row of o, whose result is less than half as long as values in independent directions would make it.
std::vector<int64_t> short_rows(const AttentionSpec& spec, const BatchShape& shape, const BatchValues& values) {
  const std::vector<int32_t> qo = indptr(shape.qo_lens), kv = indptr(shape.kv_lens);
  const int64_t kv_heads = shape.num_kv_heads, qo_heads = kv_heads * spec.group_size, qk = spec.head_dim_qk, vo = spec.head_dim_vo;
  oracle::AttentionInput in;
  in.spec = spec;
  in.spec.layout = {.kind = LayoutKind::ragged};
  in.spec.hooks = {};  // their values are drawn later
  in.num_kv_heads = shape.num_kv_heads;
  in.qo_indptr = qo, in.kv_indptr = kv;
  in.q = {values.q.data(), {qo_heads * qk, qk, 1}};
  in.k = {values.k.data(), {kv_heads * qk, qk, 1}};
  in.v = {values.v.data(), {kv_heads * vo, vo, 1}};
  in.k_scales = views(values.k_scales, spec.kzero, kv_heads, qk), in.v_scales = views(values.v_scales, spec.vzero, kv_heads, vo);
  in.sm_scale = static_cast<double>(shape.sm_scale), in.soft_cap = static_cast<double>(shape.soft_cap), in.window = shape.window;
  const oracle::AttentionOutput out = oracle::attention(in);
  std::vector<int64_t> found;
  for (size_t row = 0; row < out.spread.size(); ++row) {
    const double* o = &out.o[row * static_cast<size_t>(vo)];
    if (std::sqrt(std::inner_product(o, o + vo, o, 0.0)) < out.spread[row] / 2) found.push_back(static_cast<int64_t>(row));
  }
  return found;
}

template <class T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace

int64_t BatchShape::qo_tokens() const {
  return std::accumulate(qo_lens.begin(), qo_lens.end(), int64_t{0});
}
int64_t BatchShape::kv_tokens() const {
  return std::accumulate(kv_lens.begin(), kv_lens.end(), int64_t{0});
}

BatchValues draw_values(const AttentionSpec& spec, const BatchShape& shape, double logit_gain, std::mt19937_64& rng) {
  const double scale = shape.sm_scale == 0 ? 1 / std::sqrt(spec.head_dim_qk) : static_cast<double>(shape.sm_scale);
  const double gain = std::sqrt(logit_gain / (scale * std::sqrt(spec.head_dim_qk)));  // of q and k each
  const int64_t qo_heads = shape.num_kv_heads * spec.group_size;
  BatchValues values;
  values.q = normal(spec.q_dtype, shape.qo_tokens() * qo_heads * spec.head_dim_qk, gain, rng);
  const auto draw = [&](DType format, KvScale kind, KvZero zero, int64_t dim, double deviation, bool hook,
                        std::vector<uint16_t>& elements, ScaleValues& scales) {
    if (!is_code(format)) {
      elements = normal(format, shape.kv_tokens() * shape.num_kv_heads * dim, deviation, rng);
      return;
    }
    Codes codes = draw_codes(format, kind, zero, shape.kv_tokens(), shape.num_kv_heads, dim, deviation, hook, rng);
    elements = std::move(codes.codes), scales = std::move(codes.scales);
  };
  draw(spec.kfmt, spec.kscale, spec.kzero, spec.head_dim_qk, gain, spec.hooks.has(expr::Hook::key), values.k, values.k_scales);
  draw(spec.vfmt, spec.vscale, spec.vzero, spec.head_dim_vo, 1, spec.hooks.has(expr::Hook::value), values.v, values.v_scales);
  for (int round = 0; round < kMaxRounds && spec.head_dim_vo <= kSmallHeadDim; ++round) {
    const std::vector<int64_t> rows = short_rows(spec, shape, values);
    if (rows.empty()) break;
    for (int64_t row : rows)
      std::ranges::copy(normal(spec.q_dtype, spec.head_dim_qk, gain, rng), values.q.begin() + row * spec.head_dim_qk);
  }
  return values;
}

Batch select(const AttentionSpec& spec, const Batch& batch, const std::vector<size_t>& order) {
  const std::vector<int32_t> qo = indptr(batch.shape.qo_lens), kv = indptr(batch.shape.kv_lens);
  const int64_t kv_heads = batch.shape.num_kv_heads, qo_heads = kv_heads * spec.group_size;
  Batch out;
  out.shape = batch.shape;
  out.shape.qo_lens.clear(), out.shape.kv_lens.clear();
  for (size_t b : order) {
    out.shape.qo_lens.push_back(batch.shape.qo_lens[b]);
    out.shape.kv_lens.push_back(batch.shape.kv_lens[b]);
    append(out.values.q, rows(batch.values.q, qo[b], qo[b + 1], qo_heads * spec.head_dim_qk));
    append(out.values.k, rows(batch.values.k, kv[b], kv[b + 1], kv_heads * spec.head_dim_qk));
    append(out.values.v, rows(batch.values.v, kv[b], kv[b + 1], kv_heads * spec.head_dim_vo));
    const auto select_scales = [&](const ScaleValues& from, KvZero zero, ScaleValues& to) {
      to.scale = from.scale, to.channel_scale = from.channel_scale;
      if (!from.token_scale.empty()) append(to.token_scale, rows(from.token_scale, kv[b], kv[b + 1], kv_heads));
      if (zero == KvZero::token) append(to.zero, rows(from.zero, kv[b], kv[b + 1], kv_heads));
      if (zero == KvZero::channel) to.zero = from.zero;
    };
    select_scales(batch.values.k_scales, spec.kzero, out.values.k_scales);
    select_scales(batch.values.v_scales, spec.vzero, out.values.v_scales);
  }
  return out;
}

std::vector<int32_t> indptr(const std::vector<int32_t>& lens) {
  std::vector<int32_t> out{0};
  for (int32_t n : lens) out.push_back(out.back() + n);
  return out;
}

}  // namespace lathe::testing
