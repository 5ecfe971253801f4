#include "lathe/oracle/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "lathe/oracle/float16.h"

namespace lathe::oracle {

using expr::Hook;
using expr::Input;

namespace {

// Where the element [i0, i1, ...] of a tensor lies.
template <class... I>
int64_t place(const std::array<int64_t, 5>& stride, I... index) {
  int64_t at = 0;
  size_t d = 0;
  ((at += static_cast<int64_t>(index) * stride[d++]), ...);
  return at;
}

template <class... I>
double element(const View& t, DType dtype, I... index) {
  return decode(dtype, t.data[place(t.stride, index...)]);
}
template <class... I>
double element(const FloatView& t, I... index) {
  return static_cast<double>(t.data[place(t.stride, index...)]);
}

}  // namespace

int64_t kv_len(const AttentionInput& in, size_t b) {
  const LayoutSpec& layout = in.spec.layout;
  if (layout.kind == LayoutKind::paged && layout.index == PageIndex::table) return in.seq_lens[b];
  const int64_t entries = in.kv_indptr[b + 1] - in.kv_indptr[b];
  if (layout.kind == LayoutKind::ragged) return entries;
  return entries == 0 ? 0 : (entries - 1) * layout.page_size + in.last_page_len[b];
}

namespace {

enum class Part { key, value };

// Page and place in it of key `j` of request `b`; ragged: page 0 and the row.
struct Place {
  int64_t page, slot;
};
Place place_of(const AttentionInput& in, size_t b, int64_t j) {
  const LayoutSpec& layout = in.spec.layout;
  if (layout.kind == LayoutKind::ragged) return {0, in.kv_indptr[b] + j};
  const int64_t first = layout.index == PageIndex::csr
                            ? in.kv_indptr[b]
                            : static_cast<int64_t>(b) * in.block_table_stride;  // the request's first page id
  return {in.kv_indices[static_cast<size_t>(first + j / layout.page_size)], j % layout.page_size};
}

// Element `d` of the key or value at `at` of kv head `h`, as it lies there.
double kv_element(const AttentionInput& in, Part part, Place at, int64_t h, int64_t d) {
  const LayoutSpec& layout = in.spec.layout;
  const DType dtype = part == Part::key ? in.spec.kfmt : in.spec.vfmt;
  const bool joint = layout.kind == LayoutKind::paged && layout.storage == KvStorage::joint;
  const View& t = part == Part::key || joint ? in.k : in.v;
  if (layout.kind == LayoutKind::ragged) return element(t, dtype, at.slot, h, d);
  const int64_t which = part == Part::key ? 0 : 1;
  if (layout.order == PageOrder::nhd) {
    return joint ? element(t, dtype, at.page, which, at.slot, h, d) : element(t, dtype, at.page, at.slot, h, d);
  }
  return joint ? element(t, dtype, at.page, which, h, at.slot, d) : element(t, dtype, at.page, h, at.slot, d);
}

double of_token(const AttentionInput& in, const FloatView& table, Place at, int64_t h) {
  return in.spec.layout.kind == LayoutKind::ragged ? element(table, at.slot, h) : element(table, at.page, at.slot, h);
}

// True when the query takes the channels' scales of keys. A hook key is given what the codes stand for, these included.
bool query_takes_scales(const AttentionSpec& spec) {
  return has_channel_scale(spec.kscale) && !spec.hooks.has(Hook::key);
}

// What the code that kv_element finds stands for, but for what the query takes.
double kv_value(const AttentionInput& in, Part part, Place at, int64_t h, int64_t d) {
  const bool key = part == Part::key;
  const ScaleViews& scales = key ? in.k_scales : in.v_scales;
  const KvScale scale = key ? in.spec.kscale : in.spec.vscale;
  const KvZero zero = key ? in.spec.kzero : in.spec.vzero;
  double x = kv_element(in, part, at, h, d);
  if (!is_code(key ? in.spec.kfmt : in.spec.vfmt)) return x;
  if (zero == KvZero::token) x -= of_token(in, scales.zero, at, h);
  if (zero == KvZero::channel) x -= element(scales.zero, h, d);
  if (has_token_scale(scale)) x *= of_token(in, scales.token_scale, at, h);
  if (has_channel_scale(scale) && !(key && query_takes_scales(in.spec))) x *= element(scales.channel_scale, h, d);
  return x * scales.scale;
}

// Row of the pool that key `j` of request `b` lies in.
int64_t slot_of(const AttentionInput& in, size_t b, int64_t j) {
  const Place at = place_of(in, b, j);
  return in.spec.layout.kind == LayoutKind::ragged ? at.slot : at.page * in.spec.layout.page_size + at.slot;
}

// rot(x): the rotary partner of each element with its sign, 0 where it has none.
std::vector<double> rotated(const expr::Rotary& rotary, const std::vector<double>& x) {
  const size_t dims = rotary.dims == 0 ? x.size() : rotary.dims;
  std::vector<double> out(x.size(), 0.0);
  for (size_t pair = 0; pair < dims / 2; ++pair) {
    const size_t first = rotary.interleaved ? 2 * pair : pair, second = rotary.interleaved ? first + 1 : first + dims / 2;
    out[first] = -x[second], out[second] = x[first];
  }
  return out;
}

// Applies a vector hook to `x`, rounded as the kernel keeps it.
void transform(HookEvaluator& hooks, Hook hook, DType dtype, std::span<double> x) {
  if (!hooks.has(hook)) return;
  const std::vector<double> from(x.begin(), x.end());
  const std::vector<double> rot = rotated(hooks.rotary(), from);
  for (size_t d = 0; d < x.size(); ++d) {
    hooks.set(Input::d, static_cast<int64_t>(d));
    hooks.set_float(Input::x, from[d]);
    hooks.set_float(Input::rot_x, rot[d]);
    x[d] = decode(dtype, encode(dtype, hooks.number(hook)));
  }
}

// The score of one key for the row that the hooks are set to; -infinity where it is hidden.
double score_of(const AttentionInput& in, HookEvaluator& hooks, double dot, double scale, int64_t q_pos, int64_t j) {
  constexpr double kHidden = -std::numeric_limits<double>::infinity();
  const AttentionSpec& spec = in.spec;
  if (spec.causal() && j > q_pos) return kHidden;
  if (spec.windowed() && q_pos - j >= in.window) return kHidden;
  if (hooks.has(Hook::mask) && !hooks.holds(Hook::mask)) return kHidden;
  double s = dot * scale;
  if (spec.soft_cap) s = in.soft_cap * std::tanh(s / in.soft_cap);
  if (!hooks.has(Hook::logits)) return s;
  hooks.set_float(Input::dot, dot);
  hooks.set_float(Input::score, s);
  return hooks.number(Hook::logits);
}

// Weights of the keys, by their scores, in place; returns the log-sum-exp, -infinity where no key is seen.
double normalise(const HookEvaluator& hooks, std::vector<double>& score) {
  if (!hooks.normalizes()) {
    for (double& s : score) s = s == -std::numeric_limits<double>::infinity() ? 0 : s;
    return 0;
  }
  double top = -std::numeric_limits<double>::infinity(), sum = 0;
  for (double s : score) top = std::fmax(top, s);
  if (std::isinf(top)) {
    std::fill(score.begin(), score.end(), 0.0);
    return top;
  }
  for (double s : score) sum += std::exp(s - top);
  for (double& s : score) s = std::exp(s - top) / sum;
  return top + std::log(sum);
}

}  // namespace

AttentionOutput attention(const AttentionInput& in) {
  const AttentionSpec& spec = in.spec;
  const int64_t group = spec.group_size, num_heads = in.num_kv_heads * group;
  const int64_t dim_qk = spec.head_dim_qk, dim_vo = spec.head_dim_vo;
  const int64_t tokens = in.qo_indptr.empty() ? 0 : in.qo_indptr.back();
  const double scale = in.sm_scale == 0 ? 1 / std::sqrt(static_cast<double>(dim_qk)) : in.sm_scale;
  AttentionOutput out;
  out.o.assign(static_cast<size_t>(tokens * num_heads * dim_vo), 0.0);
  out.lse.assign(static_cast<size_t>(tokens * num_heads), -std::numeric_limits<double>::infinity());
  out.spread.assign(static_cast<size_t>(tokens * num_heads), 0.0);
  HookEvaluator hooks(spec.hooks, in.hooks);
  hooks.set(Input::group, group);

  for (size_t b = 0; b + 1 < in.qo_indptr.size(); ++b) {
    const int64_t num_keys = kv_len(in, b), num_queries = in.qo_indptr[b + 1] - in.qo_indptr[b];
    hooks.set(Input::b, static_cast<int64_t>(b)), hooks.set(Input::qo_len, num_queries), hooks.set(Input::kv_len, num_keys);
    for (int64_t h = 0; h < in.num_kv_heads && num_queries > 0; ++h) {
      hooks.set(Input::hk, h);
      const auto see_key = [&](int64_t j) { hooks.set(Input::kv, j), hooks.set(Input::slot, slot_of(in, b, j)); };
      // The head's keys and values, decoded once.
      std::vector<double> k(static_cast<size_t>(num_keys * dim_qk)), v(static_cast<size_t>(num_keys * dim_vo));
      for (int64_t j = 0; j < num_keys; ++j) {
        const Place at = place_of(in, b, j);
        for (int64_t d = 0; d < dim_qk; ++d) k[static_cast<size_t>(j * dim_qk + d)] = kv_value(in, Part::key, at, h, d);
        for (int64_t d = 0; d < dim_vo; ++d) v[static_cast<size_t>(j * dim_vo + d)] = kv_value(in, Part::value, at, h, d);
        see_key(j);
        transform(hooks, Hook::key, spec.q_dtype,
                  std::span(k).subspan(static_cast<size_t>(j * dim_qk), static_cast<size_t>(dim_qk)));
        transform(hooks, Hook::value, spec.q_dtype,
                  std::span(v).subspan(static_cast<size_t>(j * dim_vo), static_cast<size_t>(dim_vo)));
      }
      std::vector<double> q(static_cast<size_t>(dim_qk)), score(static_cast<size_t>(num_keys));
      for (int64_t i = 0; i < num_queries; ++i) {
        for (int64_t g = 0; g < group; ++g) {
          const int64_t token = in.qo_indptr[b] + i, head = h * group + g, q_pos = i + num_keys - num_queries;
          hooks.set(Input::h, head), hooks.set(Input::q, i), hooks.set(Input::tok, token);
          for (int64_t d = 0; d < dim_qk; ++d) q[static_cast<size_t>(d)] = element(in.q, spec.q_dtype, token, head, d);
          transform(hooks, Hook::query, spec.q_dtype, q);
          double sum = 0, squares = 0;
          for (double x : q) sum += x, squares += x * x;
          hooks.set_float(Input::qsum, sum), hooks.set_float(Input::qnorm, std::sqrt(squares));
          for (int64_t d = 0; d < dim_qk && query_takes_scales(spec); ++d) {
            double& x = q[static_cast<size_t>(d)];
            x = decode(spec.q_dtype, encode(spec.q_dtype, x * element(in.k_scales.channel_scale, h, d)));
          }
          for (int64_t j = 0; j < num_keys; ++j) {
            see_key(j);
            double dot = 0;
            for (int64_t d = 0; d < dim_qk; ++d) dot += q[static_cast<size_t>(d)] * k[static_cast<size_t>(j * dim_qk + d)];
            score[static_cast<size_t>(j)] = score_of(in, hooks, dot, scale, q_pos, j);
          }
          double lse = normalise(hooks, score);
          double kept = 1;  // what a sink leaves of the weights
          if (hooks.has(Hook::sink)) {
            const double sink = hooks.number(Hook::sink), top = std::fmax(lse, sink);
            const double with = std::isinf(top) ? top : top + std::log(std::exp(lse - top) + std::exp(sink - top));
            kept = std::isinf(lse) ? 0 : std::exp(lse - with);
            lse = with;
          }
          const auto row = static_cast<size_t>(token * num_heads + head);
          double written = lse;
          if (hooks.has(Hook::lse_transform) && !std::isinf(lse)) {
            hooks.set_float(Input::lse, lse);
            written = hooks.number(Hook::lse_transform);
          }
          out.lse[row] = spec.lse == LseOut::log2 ? written / std::log(2.0) : written;
          double* o = &out.o[row * static_cast<size_t>(dim_vo)];
          double spread = 0;
          for (int64_t j = 0; j < num_keys; ++j) {
            double weight = kept * score[static_cast<size_t>(j)];
            if (weight == 0) continue;
            if (hooks.has(Hook::weight)) {
              see_key(j);
              hooks.set_float(Input::w, weight);
              weight = hooks.number(Hook::weight);
            }
            double length = 0;
            for (int64_t d = 0; d < dim_vo; ++d) {
              const double x = v[static_cast<size_t>(j * dim_vo + d)];
              o[d] += weight * x;
              length += x * x;
            }
            spread += weight * weight * length;
          }
          out.spread[row] = std::sqrt(spread);
          for (int64_t d = 0; d < dim_vo && hooks.has(Hook::output); ++d) {
            hooks.set(Input::d, d), hooks.set_float(Input::o, o[d]), hooks.set_float(Input::lse, lse);
            o[d] = hooks.number(Hook::output);
          }
        }
      }
    }
  }
  return out;
}

}  // namespace lathe::oracle
