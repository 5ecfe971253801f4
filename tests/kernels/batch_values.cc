#include "lathe/proof/batch_values.h"

#include <cmath>
#include <numeric>

#include "lathe/oracle/float16.h"

namespace lathe::testing {
namespace {

std::vector<uint16_t> normal(DType dtype, int64_t n, double deviation, std::mt19937_64& rng) {
  std::normal_distribution<double> draw(0, deviation);
  std::vector<uint16_t> out(static_cast<size_t>(n));
  for (uint16_t& x : out) x = oracle::encode(dtype, draw(rng));
  return out;
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
  values.k = normal(spec.kfmt, shape.kv_tokens() * shape.num_kv_heads * spec.head_dim_qk, gain, rng);
  values.v = normal(spec.vfmt, shape.kv_tokens() * shape.num_kv_heads * spec.head_dim_vo, 1, rng);
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
  }
  return out;
}

std::vector<int32_t> indptr(const std::vector<int32_t>& lens) {
  std::vector<int32_t> out{0};
  for (int32_t n : lens) out.push_back(out.back() + n);
  return out;
}

}  // namespace lathe::testing
