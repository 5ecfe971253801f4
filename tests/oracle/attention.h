// The meaning of attention in double precision: plain loops over the definition in csrc/spec/attention_spec.h and the tensor forms
// of csrc/api/attention.h. It shares no code with the kernels, their templates or the planner, and never will: it is what they are
// judged by.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "lathe/oracle/hooks.h"
#include "lathe/spec/attention_spec.h"

namespace lathe::oracle {

/// A tensor in host memory, codes of 8 bits in 16 too; strides count elements and stand in the order of the tensor's dimensions.
struct View {
  const uint16_t* data = nullptr;
  std::array<int64_t, 5> stride{};
};

/// An fp32 table in host memory, likewise; without data where there is none.
struct FloatView {
  const float* data = nullptr;
  std::array<int64_t, 5> stride{};
};

/// Of codes, as csrc/api/kv_scales.h has them.
struct ScaleViews {
  double scale = 1;
  FloatView token_scale, channel_scale, zero;
};

/// One batch, in the caller's terms. All memory is the host's.
struct AttentionInput {
  AttentionSpec spec;  // tile, split and arch do not matter
  int32_t num_kv_heads = 0;

  std::span<const int32_t> qo_indptr;      // [batch + 1]
  std::span<const int32_t> kv_indptr;      // ragged: tokens; csr: entries of kv_indices
  std::span<const int32_t> last_page_len;  // csr
  std::span<const int32_t> seq_lens;       // table
  int64_t block_table_stride = 0;          // table
  std::span<const int32_t> kv_indices;     // paged: page ids

  View q;  // [tokens, heads, head_dim_qk]
  View k;  // ragged [tokens, heads, dim]; paged NHD [page, token, head, dim], HND [page, head, token, dim]; joint: [page, 2, ...]
  View v;  // joint: unused

  ScaleViews k_scales, v_scales;

  double sm_scale = 0;  // 0: 1 / sqrt(head_dim_qk)
  double soft_cap = 0;
  int64_t window = 0;
  HookValues hooks;
};

struct AttentionOutput {
  std::vector<double> o;    // [tokens, num_qo_heads, head_dim_vo]
  std::vector<double> lse;  // [tokens, num_qo_heads]; base 2 when the spec says so, else natural
  /// [tokens, num_qo_heads]: the length o would have if the values pointed in independent directions, sqrt(sum_j w_j^2 |v_j|^2).
  /// What rounding of the weights does to o is proportional to this. No judgement uses it: inputs are drawn by it.
  std::vector<double> spread;
};

/// How many keys request `b` has.
int64_t kv_len(const AttentionInput& in, size_t b);

AttentionOutput attention(const AttentionInput& in);

}  // namespace lathe::oracle
