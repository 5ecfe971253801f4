#include "lathe/oracle/attention.h"

#include <cmath>
#include <limits>

#include "lathe/oracle/float16.h"

namespace lathe::oracle {
namespace {

// The element at [i0, i1, ...] of a tensor.
template <class... I>
double element(const View& t, DType dtype, I... index) {
  int64_t at = 0;
  size_t d = 0;
  ((at += static_cast<int64_t>(index) * t.stride[d++]), ...);
  return decode(dtype, t.data[at]);
}

enum class Part { key, value };

// Element `d` of the key or value `j` of request `b` and kv head `h`.
double kv_element(const AttentionInput& in, Part part, size_t b, int64_t j, int64_t h, int64_t d) {
  const LayoutSpec& layout = in.spec.layout;
  const DType dtype = part == Part::key ? in.spec.kfmt : in.spec.vfmt;
  const bool joint = layout.kind == LayoutKind::paged && layout.storage == KvStorage::joint;
  const View& t = part == Part::key || joint ? in.k : in.v;
  if (layout.kind == LayoutKind::ragged) return element(t, dtype, in.kv_indptr[b] + j, h, d);
  const int64_t first = layout.index == PageIndex::csr
                            ? in.kv_indptr[b]
                            : static_cast<int64_t>(b) * in.block_table_stride;  // the request's first page id
  const int64_t page = in.kv_indices[static_cast<size_t>(first + j / layout.page_size)];
  const int64_t slot = j % layout.page_size;
  const int64_t which = part == Part::key ? 0 : 1;
  if (layout.order == PageOrder::nhd) {
    return joint ? element(t, dtype, page, which, slot, h, d) : element(t, dtype, page, slot, h, d);
  }
  return joint ? element(t, dtype, page, which, h, slot, d) : element(t, dtype, page, h, slot, d);
}

}  // namespace

int64_t kv_len(const AttentionInput& in, size_t b) {
  const LayoutSpec& layout = in.spec.layout;
  if (layout.kind == LayoutKind::paged && layout.index == PageIndex::table) return in.seq_lens[b];
  const int64_t entries = in.kv_indptr[b + 1] - in.kv_indptr[b];
  if (layout.kind == LayoutKind::ragged) return entries;
  return entries == 0 ? 0 : (entries - 1) * layout.page_size + in.last_page_len[b];
}

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

  for (size_t b = 0; b + 1 < in.qo_indptr.size(); ++b) {
    const int64_t num_keys = kv_len(in, b), num_queries = in.qo_indptr[b + 1] - in.qo_indptr[b];
    for (int64_t h = 0; h < in.num_kv_heads && num_queries > 0; ++h) {
      // The head's keys and values, decoded once.
      std::vector<double> k(static_cast<size_t>(num_keys * dim_qk)), v(static_cast<size_t>(num_keys * dim_vo));
      for (int64_t j = 0; j < num_keys; ++j) {
        for (int64_t d = 0; d < dim_qk; ++d) k[static_cast<size_t>(j * dim_qk + d)] = kv_element(in, Part::key, b, j, h, d);
        for (int64_t d = 0; d < dim_vo; ++d) v[static_cast<size_t>(j * dim_vo + d)] = kv_element(in, Part::value, b, j, h, d);
      }
      std::vector<double> q(static_cast<size_t>(dim_qk)), score(static_cast<size_t>(num_keys));
      for (int64_t i = 0; i < num_queries; ++i) {
        for (int64_t g = 0; g < group; ++g) {
          const int64_t token = in.qo_indptr[b] + i, head = h * group + g;
          for (int64_t d = 0; d < dim_qk; ++d) q[static_cast<size_t>(d)] = element(in.q, spec.q_dtype, token, head, d);
          double top = -std::numeric_limits<double>::infinity();
          for (int64_t j = 0; j < num_keys; ++j) {
            const int64_t q_pos = i + num_keys - num_queries;
            double s = -std::numeric_limits<double>::infinity();
            if (!(spec.causal() && j > q_pos) && !(spec.windowed() && q_pos - j >= in.window)) {
              s = 0;
              for (int64_t d = 0; d < dim_qk; ++d) s += q[static_cast<size_t>(d)] * k[static_cast<size_t>(j * dim_qk + d)];
              s *= scale;
              if (spec.soft_cap) s = in.soft_cap * std::tanh(s / in.soft_cap);
            }
            score[static_cast<size_t>(j)] = s;
            top = std::fmax(top, s);
          }
          if (std::isinf(top)) continue;  // no visible key
          double sum = 0;
          for (double s : score) sum += std::exp(s - top);
          const auto row = static_cast<size_t>(token * num_heads + head);
          const double lse = top + std::log(sum);
          out.lse[row] = spec.lse == LseOut::log2 ? lse / std::log(2.0) : lse;
          double* o = &out.o[row * static_cast<size_t>(dim_vo)];
          double spread = 0;
          for (int64_t j = 0; j < num_keys; ++j) {
            const double weight = std::exp(score[static_cast<size_t>(j)] - top) / sum;
            if (weight == 0) continue;
            double length = 0;
            for (int64_t d = 0; d < dim_vo; ++d) {
              const double x = v[static_cast<size_t>(j * dim_vo + d)];
              o[d] += weight * x;
              length += x * x;
            }
            spread += weight * weight * length;
          }
          out.spread[row] = std::sqrt(spread);
        }
      }
    }
  }
  return out;
}

}  // namespace lathe::oracle
