// A batch's lengths and numbers, free of any layout: what the same attention problem keeps when it is laid out in another way.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "lathe/spec/attention_spec.h"

namespace lathe::testing {

/// The lengths of a batch and its run-time arguments.
struct BatchShape {
  int32_t num_kv_heads = 1;
  std::vector<int32_t> qo_lens, kv_lens;  // [batch]
  int32_t window = 0;                     // >= 1 when the mask has a window
  float sm_scale = 0;                     // 0: the default
  float soft_cap = 0;                     // > 0 with soft_cap

  size_t batch() const { return qo_lens.size(); }
  int64_t qo_tokens() const;
  int64_t kv_tokens() const;
};

/// What codes stand for, contiguous; tables that the spec does not have are empty.
struct ScaleValues {
  float scale = 1;
  std::vector<float> token_scale;    // [kv tokens, num_kv_heads]
  std::vector<float> channel_scale;  // [num_kv_heads, head_dim]
  std::vector<float> zero;           // as one of these
};

/// Patterns of elements, contiguous, requests one after another; codes of 8 bits in 16 too.
struct BatchValues {
  std::vector<uint16_t> q;  // [qo tokens, num_qo_heads, head_dim_qk]
  std::vector<uint16_t> k;  // [kv tokens, num_kv_heads, head_dim_qk]
  std::vector<uint16_t> v;  // [kv tokens, num_kv_heads, head_dim_vo]
  ScaleValues k_scales, v_scales;
};

/// Normal numbers. `logit_gain` is the standard deviation of the scores before soft-cap. A query whose values all but cancel by
/// chance is drawn again: rounding the weights moves its result by more than the bounds of a row allow, in any kernel.
BatchValues draw_values(const AttentionSpec& spec, const BatchShape& shape, double logit_gain, std::mt19937_64& rng);

/// The rows [begin, end) of a contiguous array whose rows hold `width` elements.
template <class T>
std::vector<T> rows(const std::vector<T>& array, int64_t begin, int64_t end, int64_t width) {
  return {array.begin() + begin * width, array.begin() + end * width};
}

/// The requests `order` of a batch, in that order; a request may be left out or come twice.
struct Batch {
  BatchShape shape;
  BatchValues values;
};
Batch select(const AttentionSpec& spec, const Batch& batch, const std::vector<size_t>& order);

/// First row of each request, and the total at the end.
std::vector<int32_t> indptr(const std::vector<int32_t>& lens);

}  // namespace lathe::testing
