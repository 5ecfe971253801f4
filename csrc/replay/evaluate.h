// What a schedule is worth, whoever made it. Written apart from the planner: it shares neither code nor constants with csrc/plan,
// so a mistake there is not repeated here. The constants are fixed, and are never refitted, so that figures of different days
// compare.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lathe {

// Picoseconds of one block of a device with 3.0 TB/s and about 370 TFLOP/s for 132 multiprocessors, with one block on each.
constexpr int64_t kByteCost = 44;            // reading a byte of K or V
constexpr int64_t kFragmentDimCost = 11;     // 16 rows against one key, per element of head_dim_qk + head_dim_vo
constexpr int64_t kTileCost = 1'400'000;     // starting and ending a tile, or a part of one
constexpr int64_t kPartialCost = 1'000'000;  // writing a partial state and reading it for the merge
constexpr int32_t kElementBytes = 2;         // of K and V
constexpr int32_t kUsefulRows = 128;         // rows for which the useful work reads each key once

/// A batch under a causal mask, aligned at the end: query token i of a request sees its first kv_len - qo_len + i + 1 keys.
struct EvaluatedBatch {
  int32_t num_kv_heads = 0, group_size = 0;
  int32_t head_dim_qk = 0, head_dim_vo = 0;
  int32_t num_sms = 0;
  std::span<const int32_t> qo_lens, kv_lens;  // [requests]
};

/// A piece of work of one block: a tile of packed rows against a range of keys, for some heads one after another. Packed row r of
/// a request is query token r / rows_per_token.
struct Piece {
  int32_t cta = 0;
  int32_t request = 0;
  int32_t head = 0, num_heads = 1;
  int32_t row_begin = 0, rows = 0;   // `rows` as the tile has them, which may pass the request's last
  int32_t kv_begin = 0, kv_end = 0;  // keys that are read
  bool partial = false;              // its states are merged with others'
};

/// A schedule: what each block of a grid does, in order.
struct Assignment {
  int32_t num_ctas = 0;     // of the grid, idle ones included
  int32_t ctas_per_sm = 1;  // blocks that share a multiprocessor: each has an equal part of its speed, busy or not
  int32_t num_heads = 0;    // that pieces count: KV heads, or query heads where rows_per_token is 1
  int32_t rows_per_token = 0;
  std::vector<Piece> pieces;
  bool shares = false;  // some pieces are of requests past the batch's: rows of several against keys that they share
  int64_t workspace_bytes = 0;
};

struct Evaluation {
  double longest_us = 0, mean_us = 0;  // over all blocks of the grid
  double ideal_us = 0;                 // useful work over multiprocessors
  int64_t kv_bytes = 0;                // K and V read

  double imbalance() const { return longest_us / mean_us; }
  double efficiency_loss() const { return longest_us / ideal_us; }
};

/// Time of `piece`: for each head kTileCost, keys times the time of a key, and kPartialCost if it is partial. The time of a key is
/// that of its bytes or that of its arithmetic, whichever is more, and is multiplied by ctas_per_sm.
int64_t piece_picoseconds(const EvaluatedBatch& batch, const Assignment& assignment, const Piece& piece);

/// The time that the visible keys alone take with one block on each multiprocessor: tiles of kUsefulRows packed rows, each reading
/// the keys that its last row sees once; no tile, partial or masked key costs anything. The same for every schedule of a batch.
int64_t useful_picoseconds(const EvaluatedBatch& batch);

/// K and V of `keys` tokens, in bytes.
int64_t kv_bytes(const EvaluatedBatch& batch, int64_t keys);

/// Times are of the model above. Every piece's block must be in 0..num_ctas - 1.
Evaluation evaluate(const EvaluatedBatch& batch, const Assignment& assignment);

/// What is wrong with the coverage: every (request, head, packed row, visible key) must be in exactly one piece, and pieces must be
/// partial exactly when their tile is cut. Empty when nothing is.
std::string coverage_problem(const EvaluatedBatch& batch, const Assignment& assignment);

}  // namespace lathe
