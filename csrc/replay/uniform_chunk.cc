// Written from a description of the formula, see policies.h.
#include <algorithm>
#include <chrono>
#include <functional>
#include <queue>
#include <utility>

#include "lathe/base/bytes.h"
#include "policies.h"

namespace lathe {
namespace {

constexpr int32_t kCtasPerSm = 2;
constexpr int32_t kMinChunkTokens = 128;

class UniformChunk : public Policy {
 public:
  explicit UniformChunk(const PolicyShape& shape) : shape_(shape), group_(shape.num_qo_heads / shape.num_kv_heads) {}

  Result<Timed> assign(const PolicyBatch& batch, Assignment& out) override {
    const auto [qo_lens, kv_lens, page_ids] = batch;
    const auto start = std::chrono::steady_clock::now();
    const int32_t tile = tile_rows(qo_lens);
    const int64_t chunk = chunk_tokens(qo_lens, kv_lens, tile);
    out.num_ctas = kCtasPerSm * shape_.num_sms;
    out.ctas_per_sm = kCtasPerSm;
    out.num_heads = shape_.num_kv_heads;
    out.rows_per_token = group_;
    list_pieces(qo_lens, kv_lens, tile, chunk, out);
    const Timed timed{std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count()};
    place(shape_.batch(qo_lens, kv_lens), out);
    return timed;
  }

 private:
  int32_t tile_rows(std::span<const int32_t> qo_lens) const {
    int64_t rows = 0;
    for (int32_t qo_len : qo_lens) rows += int64_t{qo_len} * group_;
    const int64_t average = rows / static_cast<int64_t>(qo_lens.size());
    return average > 64 ? 128 : average > 16 ? 64 : 16;
  }

  int64_t tiles_of(int32_t qo_len, int32_t tile) const { return ceil_div<int64_t>(int64_t{qo_len} * group_, tile); }

  // The length of all chunks; at least the longest kv_len when nothing is cut.
  int64_t chunk_tokens(std::span<const int32_t> qo_lens, std::span<const int32_t> kv_lens, int32_t tile) const {
    const int64_t page = shape_.page_size, budget = int64_t{kCtasPerSm} * shape_.num_sms / shape_.num_kv_heads;
    const auto parts = [&](int64_t pages) {
      int64_t sum = 0;
      for (size_t b = 0; b < qo_lens.size(); ++b) {
        sum += tiles_of(qo_lens[b], tile) * std::max<int64_t>(ceil_div<int64_t>(kv_lens[b], pages * page), 1);
      }
      return sum;
    };
    const int64_t most = std::max<int64_t>(ceil_div<int64_t>(*std::ranges::max_element(kv_lens), page), 1);
    if (parts(most) >= budget) return most * page;
    int64_t low = std::max<int64_t>(kMinChunkTokens / page, 1), high = std::max(low, most);
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (parts(middle) <= budget) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low * page;
  }

  void list_pieces(std::span<const int32_t> qo_lens, std::span<const int32_t> kv_lens, int32_t tile, int64_t chunk,
                   Assignment& out) const {
    out.pieces.clear();
    int64_t parts_of_a_head = 0;
    bool split = false;
    for (int32_t head = 0; head < shape_.num_kv_heads; ++head) {
      parts_of_a_head = 0;
      for (size_t b = 0; b < qo_lens.size(); ++b) {
        const int64_t rows = int64_t{qo_lens[b]} * group_, chunks = std::max<int64_t>(ceil_div<int64_t>(kv_lens[b], chunk), 1);
        split |= chunks > 1;
        for (int64_t row = 0; row < rows; row += tile) {
          const int64_t last_token = (std::min(row + tile, rows) - 1) / group_;
          const int64_t visible = std::max<int64_t>(int64_t{kv_lens[b]} - qo_lens[b] + last_token + 1, 0);
          for (int64_t c = 0; c < chunks; ++c) {
            const auto begin = static_cast<int32_t>(std::min(c * chunk, visible));
            const auto end = static_cast<int32_t>(std::min((c + 1) * chunk, visible));
            out.pieces.push_back({.request = static_cast<int32_t>(b),
                                  .head = head,
                                  .row_begin = static_cast<int32_t>(row),
                                  .rows = tile,
                                  .kv_begin = begin,
                                  .kv_end = end,
                                  .partial = chunks > 1});
          }
        }
        parts_of_a_head += tiles_of(qo_lens[b], tile) * chunks;
      }
    }
    // One fp32 state and one log-sum-exp for every part, tile row and query head.
    out.workspace_bytes = split ? parts_of_a_head * tile * shape_.num_qo_heads * (int64_t{shape_.head_dim} + 1) * 4 : 0;
  }

  // The hardware's part: blocks start in order, each where a slot is free first.
  static void place(const EvaluatedBatch& batch, Assignment& out) {
    using Slot = std::pair<int64_t, int32_t>;  // when it is free, which
    std::priority_queue<Slot, std::vector<Slot>, std::greater<>> slots;
    for (int32_t cta = 0; cta < out.num_ctas; ++cta) slots.emplace(0, cta);
    for (Piece& piece : out.pieces) {
      Slot slot = slots.top();
      slots.pop();
      piece.cta = slot.second;
      slot.first += piece_picoseconds(batch, out, piece);
      slots.push(slot);
    }
  }

  const PolicyShape shape_;
  const int32_t group_;
};

}  // namespace

std::unique_ptr<Policy> make_uniform_chunk(const PolicyShape& shape) {
  return std::make_unique<UniformChunk>(shape);
}

}  // namespace lathe
