#include "evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>

namespace lathe {
namespace {

constexpr double kPicosecondsPerMicrosecond = 1e6;
constexpr int32_t kFragmentRows = 16;

int64_t dims_of(const EvaluatedBatch& batch) {
  return int64_t{batch.head_dim_qk} + batch.head_dim_vo;
}

int64_t key_picoseconds(const EvaluatedBatch& batch, int64_t rows) {
  const int64_t fragments = (rows + kFragmentRows - 1) / kFragmentRows;
  return std::max(kByteCost * kElementBytes, kFragmentDimCost * fragments) * dims_of(batch);
}

// Keys that packed row `row` of a request sees.
int64_t visible_keys(int64_t qo_len, int64_t kv_len, int64_t row, int64_t rows_per_token) {
  return std::max<int64_t>(kv_len - qo_len + row / rows_per_token + 1, 0);
}

// The pieces by request, head and tile, and in the order of their keys.
std::vector<Piece> in_order(const Assignment& assignment) {
  std::vector<Piece> pieces;
  for (const Piece& piece : assignment.pieces) {
    for (int32_t h = 0; h < piece.num_heads; ++h) {
      pieces.push_back(piece);
      pieces.back().head += h;
    }
  }
  std::ranges::sort(pieces, {}, [](const Piece& p) {
    return std::array<int32_t, 5>{p.request, p.head, p.row_begin, p.kv_begin, p.kv_end};
  });
  return pieces;
}

std::string describe(const Piece& p) {
  return fmt::format("request {} head {} rows [{}, {}) keys [{}, {})", p.request, p.head, p.row_begin, p.row_begin + p.rows,
                     p.kv_begin, p.kv_end);
}

// What is wrong with the parts of one tile, which has rows up to `row_end`.
std::string tile_problem(const EvaluatedBatch& batch, const Assignment& assignment, std::span<const Piece> parts, int64_t row_end) {
  const Piece& first = parts.front();
  const int64_t visible =
      visible_keys(batch.qo_lens[first.request], batch.kv_lens[first.request], row_end - 1, assignment.rows_per_token);
  int64_t covered = 0;
  for (const Piece& part : parts) {
    if (part.rows != first.rows) return "parts of different heights: " + describe(part);
    if (part.partial != (parts.size() > 1)) return "partial and not cut, or cut and not partial: " + describe(part);
    if (part.kv_begin > part.kv_end || part.kv_end > batch.kv_lens[part.request]) return "keys that are none: " + describe(part);
    if (part.kv_begin == part.kv_end) continue;
    if (part.kv_begin < covered) return "keys covered twice: " + describe(part);
    if (part.kv_begin > covered) return fmt::format("keys [{}, {}) not covered before {}", covered, part.kv_begin, describe(part));
    covered = part.kv_end;
  }
  if (covered < visible) return fmt::format("keys [{}, {}) not covered after {}", covered, visible, describe(parts.back()));
  return {};
}

}  // namespace

int64_t piece_picoseconds(const EvaluatedBatch& batch, const Assignment& assignment, const Piece& piece) {
  const int64_t keys = int64_t{piece.kv_end} - piece.kv_begin;
  const int64_t once =
      kTileCost + keys * key_picoseconds(batch, piece.rows) * assignment.ctas_per_sm + (piece.partial ? kPartialCost : 0);
  return once * piece.num_heads;
}

int64_t useful_picoseconds(const EvaluatedBatch& batch) {
  int64_t of_one_head = 0;
  for (size_t b = 0; b < batch.qo_lens.size(); ++b) {
    const int64_t rows = int64_t{batch.qo_lens[b]} * batch.group_size;
    for (int64_t begin = 0; begin < rows; begin += kUsefulRows) {
      const int64_t end = std::min(begin + kUsefulRows, rows);
      of_one_head +=
          visible_keys(batch.qo_lens[b], batch.kv_lens[b], end - 1, batch.group_size) * key_picoseconds(batch, end - begin);
    }
  }
  return of_one_head * batch.num_kv_heads;
}

int64_t kv_bytes(const EvaluatedBatch& batch, int64_t keys) {
  return keys * dims_of(batch) * kElementBytes * batch.num_kv_heads;
}

Evaluation evaluate(const EvaluatedBatch& batch, const Assignment& assignment) {
  std::vector<int64_t> busy(assignment.num_ctas);
  Evaluation out;
  for (const Piece& piece : assignment.pieces) {
    busy[piece.cta] += piece_picoseconds(batch, assignment, piece);
    out.kv_bytes += (int64_t{piece.kv_end} - piece.kv_begin) * dims_of(batch) * kElementBytes * piece.num_heads;
  }
  const auto in_us = [](int64_t picoseconds, int64_t shared_by) {
    return static_cast<double>(picoseconds) / kPicosecondsPerMicrosecond / static_cast<double>(shared_by);
  };
  out.longest_us = in_us(*std::ranges::max_element(busy), 1);
  out.mean_us = in_us(std::accumulate(busy.begin(), busy.end(), int64_t{0}), assignment.num_ctas);
  out.ideal_us = in_us(useful_picoseconds(batch), batch.num_sms);
  return out;
}

std::string coverage_problem(const EvaluatedBatch& batch, const Assignment& assignment) {
  const std::vector<Piece> pieces = in_order(assignment);
  auto at = pieces.begin();
  for (size_t b = 0; b < batch.qo_lens.size(); ++b) {
    const int64_t rows = int64_t{batch.qo_lens[b]} * assignment.rows_per_token;
    for (int32_t head = 0; head < assignment.num_heads; ++head) {
      int64_t covered = 0;  // rows
      while (at != pieces.end() && at->request == static_cast<int64_t>(b) && at->head == head) {
        if (at->row_begin != covered || covered >= rows)
          return fmt::format("rows from {} on expected, not {}", covered, describe(*at));
        const auto end = std::find_if(at, pieces.end(), [&](const Piece& p) {
          return p.request != at->request || p.head != head || p.row_begin != at->row_begin;
        });
        covered += at->rows;
        const std::string problem = tile_problem(batch, assignment, {at, end}, std::min(covered, rows));
        if (!problem.empty()) return problem;
        at = end;
      }
      if (covered < rows) return fmt::format("request {} head {} rows [{}, {}) not covered", b, head, covered, rows);
    }
  }
  if (at != pieces.end()) return "of no request or head: " + describe(*at);
  return {};
}

}  // namespace lathe
