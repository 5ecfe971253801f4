// What host and device agree on for the append kernel (csrc/spec/append_spec.h). Strides are bytes.
#pragma once

#include "abi/kv_scales.h"

namespace lathe::abi {

struct alignas(64) AppendParams {
  const void* q;  // null: no query is turned
  void* q_out;    // may be q
  const void* k;
  const void* v;
  void* k_cache;
  void* v_cache;                  // may lie inside k_cache
  const long long* slot_mapping;  // [tokens], negative: padding; null where tokens have requests and positions
  const int* batch_indices;       // [tokens], negative: padding
  const int* positions;           // [tokens]
  const int* kv_indptr;           // [batch + 1] of kv_indices; null: block tables
  const int* kv_indices;          // page ids, or block_table [batch, block_table_stride]
  const float* cos_sin;           // [positions, turned dimensions]: half of them cosines, then as many sines
  long long q_stride_token, q_stride_head;
  long long q_out_stride_token, q_out_stride_head;
  long long k_stride_token, k_stride_head;
  long long v_stride_token, v_stride_head;
  long long k_cache_stride_page, k_cache_stride_token, k_cache_stride_head;
  long long v_cache_stride_page, v_cache_stride_token, v_cache_stride_head;
  long long cos_sin_stride;
  KvScales k_scales, v_scales;  // scale is read of codes; the tables where the spec has them, those of tokens are written
  int num_tokens, num_qo_heads, num_kv_heads;
  int block_table_stride;
};

}  // namespace lathe::abi
