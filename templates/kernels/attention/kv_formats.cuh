// Keys and values as 8-bit codes c that stand for (c - zero) * scale, a scale being a product of one for all, one for each token
// and head, and one for each head and channel. The products are of the codes themselves; everything else is done where it costs
// least. With the tokens' scales t, the channels' s and zero-points z of tokens (those of channels leave the sums likewise):
//
//   <q, k_j> = t_j (sum_d q'_d c_jd - z_j sum_d q'_d),   q'_d = q_d s_d
//   o_d = s_d (sum_j w'_j c_jd - sum_j w'_j z_j),        w'_j = w_j t_j
//
// The channels' scales of keys go to the query, the tokens' scales of values to the weights; both are then rounded to elements.
//
// All of this is about codes that the products read. Where a hook key or value stands between, it makes elements of them first
// (vector_hooks.cuh), and the products are those of elements.
#pragma once

#include "device/gemm_codes.cuh"
#include "kernels/attention/problem.cuh"
#include "kernels/attention/query_sums.cuh"

namespace attention {

using kv::ZeroPoint;

// What the products read: keys, or values, as they lie in memory, or elements where a hook has changed them.
template <class STORED, bool CHANGED>
struct InProducts {
  using Format = STORED;
};
template <class STORED>
struct InProducts<STORED, true> {
  using Format = kv::Format<Element, false, false, ZeroPoint::none>;
};
using KeyFormat = InProducts<config::KeyFormat, hooks::kKey>::Format;
using ValueFormat = InProducts<config::ValueFormat, hooks::kValue>::Format;

template <class FORMAT>
constexpr bool kCodes = sizeof(typename FORMAT::Element) == 1;
template <class FORMAT>
constexpr bool kHasZero = FORMAT::kZero != ZeroPoint::none;

// Columns of the output as the values' format leaves them.
constexpr dev::Columns kOutputColumns = kCodes<ValueFormat> ? dev::Columns::quads : dev::Columns::pairs;

// A power of two near a code's largest value: weights times scales times this are about as large as the values themselves, so that
// they keep their digits in an element. Codes of e5m2 have f16's range and often no scale at all.
template <class E>
constexpr float kCodeUnit = dev::kSame<E, dev::e4m3> ? 256.0f
                            : dev::kSame<E, dev::i8> ? 128.0f
                                                     : 1.0f;

// What a score is multiplied with: sm_scale, and the scale of all keys.
LATHE_DEVICE float score_scale(const abi::AttentionParams& params) {
  return kCodes<KeyFormat> ? params.sm_scale * params.k_scales.scale : params.sm_scale;
}

// Scales and zero-points of N tokens, spread over the lanes of a warp; 1 where the format has none. Read well before they are used.
template <class FORMAT, int N>
class TokenScales {
 public:
  LATHE_DEVICE TokenScales(const abi::AttentionParams& params, const abi::KvScales& scales, const Problem& problem, int first_key) {
    if constexpr (!kHasScale && !kHasZeroPoint) return;
    // Keys past the item's last one are seen as that one: what they come to is never used, but must be a number.
    const int last = (hooks::kMask ? problem.request.kv_len : problem.item.kv_end) - 1;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int key = first_key + dev::kWarpSize * i + static_cast<int>(dev::lane_index());
      const kv::Place at = problem.place_of(params, key < last ? key : last);
      if constexpr (kHasScale) scale_[i] = kv::Table{scales.token_scale, problem.kv_head()}.of_token(at);
      if constexpr (kHasZeroPoint) zero_[i] = kv::Table{scales.zero, problem.kv_head()}.of_token(at);
    }
  }

  struct Values {
    float scale = 1.0f, zero = 1.0f;
  };
  // By all lanes, each for a column of its own within the same 8.
  LATHE_DEVICE Values operator()(int column) const {
    Values out;
    if constexpr (kHasScale) out.scale = of_lane(scale_[column / dev::kWarpSize], column);
    if constexpr (kHasZeroPoint) out.zero = of_lane(zero_[column / dev::kWarpSize], column);
    return out;
  }

 private:
  static constexpr bool kHasScale = FORMAT::kTokenScale, kHasZeroPoint = FORMAT::kZero == ZeroPoint::token;
  static constexpr int kEach = (N + dev::kWarpSize - 1) / dev::kWarpSize;
  LATHE_DEVICE static float of_lane(float x, int column) {
    return dev::float_from_bits(dev::shuffle(dev::float_bits(x), static_cast<u32>(column) % dev::kWarpSize));
  }

  float scale_[kEach], zero_[kEach];
};

// Multiplies queries by their channels' scales and puts them in the order that codes of keys ask for. By the whole block.
template <class TILE>
LATHE_DEVICE void fold_query_scales(TILE tile, const abi::AttentionParams& params, const Problem& problem) {
  const kv::Table scale{params.k_scales.channel_scale, problem.kv_head()};
  dev::order_for_codes(tile, problem.num_rows(TILE::kRows), static_cast<int>(dev::thread_index()), config::kWarps * dev::kWarpSize,
                       [&](int, int column, float(&x)[16]) {
                         if constexpr (KeyFormat::kChannelScale) {
#pragma unroll
                           for (int d = 0; d < 16; ++d) x[d] *= scale.of_channel(column + d);
                         }
                       });
}

// What a warp's rows owe to the keys' zero-points: sum_d q'_d, or with zero-points of channels sum_d q'_d z_d. Of queries that
// fold_query_scales has dealt with.
template <class TILE>
LATHE_DEVICE void sum_queries(dev::Row<float>& sums, TILE tile, int row_begin, const abi::AttentionParams& params,
                              const Problem& problem) {
  const kv::Table zero{params.k_scales.zero, problem.kv_head()};
  add_up_queries(sums, tile, row_begin, [&](float sum, float x, int step, int word, int c) {
    float z = 1.0f;
    if constexpr (KeyFormat::kZero == ZeroPoint::channel) z = zero.of_channel(16 * step + dev::column_for_codes(word, c));
    return dev::fma(x, z, sum);
  });
}

// Makes scores of the products with codes, but for score_scale.
template <int N>
LATHE_DEVICE void apply_key_scales(dev::Accumulator<N>& scores, dev::Row<float>& query_sums,
                                   const TokenScales<KeyFormat, N>& tokens) {
  if constexpr (!KeyFormat::kTokenScale && !kHasZero<KeyFormat>) return;
  dev::for_each_by_column(
      scores, tokens,
      [&](float& s, const auto& column, float query_sum) {
        if constexpr (kHasZero<KeyFormat>) s = dev::fma(-query_sum, column.zero, s);
        if constexpr (KeyFormat::kTokenScale) s *= column.scale;
      },
      query_sums);
}

// What the rows' outputs owe to the values' zero-points so far: sum_j w'_j z_j, or with zero-points of channels sum_j w'_j, of this
// lane's columns only until finish().
struct ValueDebt {
  dev::Row<float> owed;

  LATHE_DEVICE ValueDebt() {
    dev::for_each_row([](int, float& x) { x = 0.0f; }, owed);
  }
  LATHE_DEVICE void shrink(dev::Row<float>& factor) {
    if constexpr (!kHasZero<ValueFormat>) return;
    dev::for_each_row([](int, float& x, float f) { x *= f; }, owed, factor);
  }

  // Makes w' of weights, and adds what they owe.
  template <int N>
  LATHE_DEVICE void apply_scales(dev::Accumulator<N>& weights, const TokenScales<ValueFormat, N>& tokens) {
    if constexpr (!ValueFormat::kTokenScale && !kHasZero<ValueFormat>) return;
    dev::for_each_by_column(
        weights, tokens,
        [&](float& w, const auto& column, float& debt) {
          if constexpr (ValueFormat::kTokenScale) w *= column.scale * kCodeUnit<ValueFormat::Element>;
          if constexpr (kHasZero<ValueFormat>) {
            w = dev::unpack<Element>(dev::pack2<Element>(w, 0.0f), 0);  // as the product will have it
            debt = dev::fma(w, column.zero, debt);
          }
        },
        owed);
  }

  LATHE_DEVICE void finish() {
    if constexpr (kHasZero<ValueFormat>) dev::row_add_lanes(owed);
  }
};

// Makes output of 8 columns of a row's products with codes, the first of which is `channel`.
LATHE_DEVICE void apply_value_scales(float (&x)[8], float debt, int channel, const abi::AttentionParams& params, int kv_head) {
  if constexpr (!kCodes<ValueFormat>) return;
  constexpr float kUnit = ValueFormat::kTokenScale ? 1.0f / kCodeUnit<ValueFormat::Element> : 1.0f;
  const kv::Table scale{params.v_scales.channel_scale, kv_head}, zero{params.v_scales.zero, kv_head};
#pragma unroll
  for (int c = 0; c < 8; ++c) {
    if constexpr (kHasZero<ValueFormat>)
      x[c] = dev::fma(-debt, ValueFormat::kZero == ZeroPoint::channel ? zero.of_channel(channel + c) : 1.0f, x[c]);
    x[c] *= params.v_scales.scale * kUnit;
    if constexpr (ValueFormat::kChannelScale) x[c] *= scale.of_channel(channel + c);
  }
}

}  // namespace attention
