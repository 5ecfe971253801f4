// Online softmax over tiles of scores (Milakov and Gimelshein, arXiv 1805.02867), in base 2.
//
// The running maximum m stays in raw score units; weights are 2^(scale * (s - m)) with scale = sm_scale * log2(e), one fma and one
// ex2 each.
#pragma once

#include "kernels/attention/kv_formats.cuh"
#include "kernels/attention/problem.cuh"

namespace attention {

// Factor that turns raw scores into base-2 exponents. With a soft-cap or a hook the scores already carry their scale.
LATHE_DEVICE float exponent_scale(const abi::AttentionParams& params) {
  return config::kSoftCap || hooks::kLogits ? dev::kLog2E : score_scale(params) * dev::kLog2E;
}

// cap * tanh(x / cap), by tanh(y) = 1 - 2 / (1 + e^(2 y)).
LATHE_DEVICE float soft_cap(float x, float inverse_cap, float cap) {
  const float e = dev::ex2(2.0f * dev::kLog2E * inverse_cap * x);
  return dev::fma(-2.0f * cap, dev::rcp(1.0f + e), cap);
}

// What hooks know of the warp's 16 rows, the first of which is row `row_begin` of the tile, and of the N keys from `first_key` on.
// Rows that do not exist are seen as the last one that does, and keys as the request's last: what they come to is never used.
// Each lane looks up the pages of a few keys, which the others get from it: a look-up for each column would take the registers that
// the products need.
template <int N>
struct HookView {
  static constexpr int kEach = config::kPaged ? (N + dev::kWarpSize - 1) / dev::kWarpSize : 0;  // of a lane

  const abi::AttentionParams& params;
  const Problem& problem;
  const int first_key;
  const hooks::Tile tile;
  dev::Row<hooks::Row> rows;
  int slots[kEach + 1];

  LATHE_DEVICE HookView(const abi::AttentionParams& par, const Problem& prob, int row_begin, int key)
      : params(par), problem(prob), first_key(key), tile(hooks::tile(par.hooks, prob.hook_tile())) {
    const int last = problem.num_rows(1 << 30) - 1;
    dev::for_each_row(
        [&](int row, hooks::Row& r) {
          hooks::RowInputs in = problem.hook_row(row_begin + row < last ? row_begin + row : last);
          add_query_sums(in, row);
          r = hooks::row(params.hooks, tile, in);
        },
        rows);
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      slots[i] = problem.hook_column(params, inside(first_key + dev::kWarpSize * i + static_cast<int>(dev::lane_index()))).slot;
  }
  // By all lanes, each for a column of its own within the same 8.
  LATHE_DEVICE hooks::Column column(int column) const {
    hooks::ColumnInputs in{inside(first_key + column), 0};
    if constexpr (config::kPaged) {
      const u32 lane = static_cast<u32>(column) % dev::kWarpSize;
      in.slot = static_cast<int>(dev::shuffle(static_cast<u32>(slots[column / dev::kWarpSize]), lane));
    } else {
      in.slot = problem.hook_column(params, in.kv).slot;
    }
    return hooks::column(params.hooks, tile, in);
  }

 private:
  LATHE_DEVICE int inside(int key) const {
    const int last = problem.request.kv_len - 1;
    return key < last ? key : last;
  }
};

// What a key that a row must not see has for a score.
constexpr float kMasked = hooks::kNormalizes ? -dev::kInfinity : 0.0f;

// The hooks logits and mask, the latter only where `judges`.
template <int N>
LATHE_DEVICE void apply_score_hooks(dev::Accumulator<N>& scores, const abi::AttentionParams& params, const Problem& problem,
                                    int row_begin, int first_key, bool judges) {
  if (!hooks::kLogits && !judges) return;
  HookView<N> view(params, problem, row_begin, first_key);
  if constexpr (hooks::kLogits) {
    dev::for_each_by_column(
        scores, [&](int column) { return view.column(column); },
        [&](float& s, const hooks::Column& column, const hooks::Row& row) {
          if constexpr (kCodes<KeyFormat>) s *= params.k_scales.scale;
          s = hooks::logit(params.hooks, view.tile, row, column, s, s * params.sm_scale);
        },
        view.rows);
  }
  if constexpr (hooks::kMask) {
    if (!judges) return;
    dev::for_each_by_column(
        scores, [&](int column) { return view.column(column); },
        [&](float& s, const hooks::Column& column, const hooks::Row& row) {
          s = hooks::visible(params.hooks, view.tile, row, column) ? s : kMasked;
        },
        view.rows);
  }
}

// The hook weight, on weights of the keys from `first_key` on.
template <int N>
LATHE_DEVICE void apply_weight_hook(dev::Accumulator<N>& weights, const abi::AttentionParams& params, const Problem& problem,
                                    int row_begin, int first_key) {
  HookView<N> view(params, problem, row_begin, first_key);
  dev::for_each_by_column(
      weights, [&](int column) { return view.column(column); },
      [&](float& w, const hooks::Column& column, const hooks::Row& row) {
        w = hooks::weight(params.hooks, view.tile, row, column, w);
      },
      view.rows);
}

// Scores of the keys [first_key, first_key + N) for the warp's 16 rows, the first of which is row `row_begin` of the tile: applies
// the soft-cap or the hooks, and gives keys that a row must not see the score -inf. Where `full`, the mask of hooks hides none.
template <int N>
LATHE_DEVICE void shape_scores(dev::Accumulator<N>& scores, const abi::AttentionParams& params, const Problem& problem,
                               int row_begin, int first_key, bool full) {
  if constexpr (config::kSoftCap) {
    const float inverse_cap = score_scale(params) / params.soft_cap;
    dev::for_each(scores, [&](float& s, int, int) { s = soft_cap(s, inverse_cap, params.soft_cap); });
  }
  apply_score_hooks(scores, params, problem, row_begin, first_key, !full);  // after the cap, which would give hidden keys a score
  const int last_row = row_begin + dev::kFragmentRows - 1;
  const bool all_visible = problem.first_key(last_row, params.window) <= first_key && first_key + N <= problem.end_key(row_begin);
  if (all_visible) return;
  dev::Row<int> first, end;
  dev::for_each_row(
      [&](int row, int& f, int& e) {
        f = problem.first_key(row_begin + row, params.window) - first_key;
        e = problem.end_key(row_begin + row) - first_key;
      },
      first, end);
  dev::for_each(
      scores,
      [](float& s, int, int column, int f, int e) {
        const bool begun = !config::kWindow || column >= f;  // else the item's first key is every row's
        s = begun && column < e ? s : kMasked;
      },
      first, end);
}

// Maximum and sum of a warp's rows so far.
struct Softmax {
  dev::Row<float> max;
  dev::Row<float> sum;  // of this lane's columns only, until finish()

  LATHE_DEVICE Softmax() {
    // Without a normalizer the sums stay relative to 2^0.
    dev::for_each_row([](int, float& m, float& l) { m = hooks::kNormalizes ? -dev::kInfinity : 0.0f, l = 0.0f; }, max, sum);
  }

  // Turns scores into weights relative to the new maximum and gives the factor by which earlier results shrink.
  template <int N>
  LATHE_DEVICE void update(dev::Accumulator<N>& scores, dev::Row<float>& shrink, float scale) {
    dev::Row<float> offset = max;  // becomes -scale * m, with 0 in place of m while no key was visible
    dev::row_max(max, scores);
    dev::for_each_row(
        [&](int, float& m, float& l, float& o, float& a) {
          const float base = m == -dev::kInfinity ? 0.0f : m;
          a = dev::ex2((o - base) * scale);
          o = -base * scale;
          l *= a;
        },
        max, sum, offset, shrink);
    dev::for_each(
        scores,
        [&](float& s, int, int, float o, float& l) {
          s = dev::ex2(dev::fma(s, scale, o));
          l += s;
        },
        offset, sum);
  }

  LATHE_DEVICE void finish() { dev::row_add_lanes(sum); }
};

}  // namespace attention
