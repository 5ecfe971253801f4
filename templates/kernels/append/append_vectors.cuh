// Every warp takes groups of vectors, spread over the whole grid: first those of q, then k's, then v's. Bound by reading them and
// writing the cache once.
#pragma once

#include "kernels/append/rope.cuh"
#include "kernels/append/store_vector.cuh"

namespace append {

LATHE_DEVICE dev::Vec16 load_elements(const void* base, i64 stride_token, i64 stride_head, const Vector& at) {
  if (!at.exists) return {};
  return dev::global_load_vec16(dev::at(base, at.token * stride_token + at.head * stride_head + 16 * at.chunk));
}

// One head of q of a token that is no padding, turned.
LATHE_DEVICE void turn_query(const abi::AppendParams& params, i64 group) {
  constexpr int kDim = config::kHeadDimQk;
  Vector at = Vector::of_lane<kDim>(group, params.num_tokens, params.num_qo_heads);
  at.exists = at.exists && place_of(params, at.token).page >= 0;
  const dev::Vec16 own = load_elements(params.q, params.q_stride_token, params.q_stride_head, at);
  float x[8];
  turn(with_pairs<kLanesOf<kDim>>(own, at), at, params, x);
  if (at.exists) {
    dev::global_store8<config::Element>(
        dev::at(params.q_out, at.token * params.q_out_stride_token + at.head * params.q_out_stride_head + 16 * at.chunk), x);
  }
}

LATHE_DEVICE void append_key(const abi::AppendParams& params, i64 group) {
  constexpr int kDim = config::kHeadDimQk;
  constexpr i64 kChunkBytes = 8 * sizeof(config::KeyFormat::Element);
  Vector at = Vector::of_lane<kDim>(group, params.num_tokens, params.num_kv_heads);
  const kv::Place place = place_of(params, at.token);
  at.exists = at.exists && place.page >= 0;
  const dev::Vec16 own = load_elements(params.k, params.k_stride_token, params.k_stride_head, at);
  float x[8];
  turn(with_pairs<kLanesOf<kDim>>(own, at), at, params, x);
  store_vector<config::KeyFormat, kLanesOf<kDim>>(
      x,
      dev::at(params.k_cache, place.page * params.k_cache_stride_page + place.index * params.k_cache_stride_token +
                                  at.head * params.k_cache_stride_head + at.chunk * kChunkBytes),
      params.k_scales, at, place);
}

LATHE_DEVICE void append_value(const abi::AppendParams& params, i64 group) {
  constexpr int kDim = config::kHeadDimVo;
  constexpr i64 kChunkBytes = 8 * sizeof(config::ValueFormat::Element);
  Vector at = Vector::of_lane<kDim>(group, params.num_tokens, params.num_kv_heads);
  const kv::Place place = place_of(params, at.token);
  at.exists = at.exists && place.page >= 0;
  const dev::Vec16 own = load_elements(params.v, params.v_stride_token, params.v_stride_head, at);
  float x[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = dev::unpack<config::Element>(own.word[i / 2], i % 2);
  store_vector<config::ValueFormat, kLanesOf<kDim>>(
      x,
      dev::at(params.v_cache, place.page * params.v_cache_stride_page + place.index * params.v_cache_stride_token +
                                  at.head * params.v_cache_stride_head + at.chunk * kChunkBytes),
      params.v_scales, at, place);
}

LATHE_DEVICE void append_vectors(const abi::AppendParams& params) {
  const i64 queries =
      params.q == nullptr || config::kTurnedDims == 0 ? 0 : num_groups<config::kHeadDimQk>(params.num_tokens, params.num_qo_heads);
  const i64 keys = num_groups<config::kHeadDimQk>(params.num_tokens, params.num_kv_heads);
  const i64 values = num_groups<config::kHeadDimVo>(params.num_tokens, params.num_kv_heads);
  const i64 step = static_cast<i64>(dev::grid_size()) * config::kWarps;
  for (i64 i = static_cast<i64>(dev::block_index()) * config::kWarps + dev::warp_index(); i < queries + keys + values; i += step) {
    if (i < queries) {
      turn_query(params, i);
    } else if (i < queries + keys) {
      append_key(params, i - queries);
    } else {
      append_value(params, i - queries - keys);
    }
  }
}

}  // namespace append
