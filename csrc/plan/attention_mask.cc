#include "lathe/plan/attention_mask.h"

#include <algorithm>

#include "lathe/plan/attention_work.h"
#include "lathe/spec/expr/kv_ranges.h"

namespace lathe {
namespace {

using expr::Interval;
using expr::Truth;

/// Tiles [begin, end) of a request, all of one truth.
struct TileRun {
  int32_t begin = 0, end = 0;
  bool full = false;
};

/// Whether nothing in the tile is seen, where its truth as a whole was not decided: halves of it are asked, of whichever of rows
/// and keys are more, until one is found to be full or a single element is left. `budget` is how often the mask is asked at most.
bool is_empty(const expr::MaskTiles& mask, const expr::Scope& scope, const expr::Tile& tile, int& budget) {
  const bool by_rows = tile.q.hi - tile.q.lo >= tile.kv.hi - tile.kv.lo;
  const Interval whole = by_rows ? tile.q : tile.kv;
  if (whole.lo == whole.hi) return false;
  const int64_t middle = whole.lo + (whole.hi - whole.lo) / 2;
  // The later rows and the earlier keys first: under causal masks they see most.
  for (const Interval half : {Interval{middle + 1, whole.hi}, Interval{whole.lo, middle}}) {
    if (--budget < 0) return false;
    expr::Tile part = tile;
    (by_rows ? part.q : part.kv) = half;
    const Truth truth = mask(scope, part);
    if (truth == Truth::full) return false;
    if (truth == Truth::partial && !is_empty(mask, scope, part, budget)) return false;
  }
  return true;
}

Truth truth_of(const expr::MaskTiles& mask, const expr::Scope& scope, const expr::Tile& tile) {
  const Truth truth = mask(scope, tile);
  if (truth != Truth::partial) return truth;
  // Enough for paths down to single elements, and for a look at each row: a tile costs a bounded time.
  int budget = 64 + 4 * static_cast<int>(tile.q.hi - tile.q.lo + 1);
  return is_empty(mask, scope, tile, budget) ? Truth::empty : Truth::partial;
}

void append(std::vector<TileRun>& list, int32_t tile, bool full) {
  if (!list.empty() && list.back().end == tile && list.back().full == full) {
    ++list.back().end;
  } else {
    list.push_back({tile, tile + 1, full});
  }
}

/// Tile by tile.
std::vector<TileRun> by_tile(const AttentionHooks& hooks, const expr::Scope& scope, Interval q, Interval h, int32_t tile_keys) {
  std::vector<TileRun> list;
  const auto num_tiles = static_cast<int32_t>((scope.kv_len + tile_keys - 1) / tile_keys);
  for (int32_t t = 0; t < num_tiles; ++t) {
    // Keys beyond the request's are hidden by the kernel itself, so that its last tile can be full too.
    const int64_t begin = int64_t{t} * tile_keys, end = std::min<int64_t>(begin + tile_keys, scope.kv_len);
    const Truth truth = truth_of(hooks.mask_tiles(), scope, {q, {begin, end - 1}, h});
    if (truth != Truth::empty) append(list, t, truth == Truth::full);
  }
  return list;
}

/// The same from ranges of keys, where the mask is made of them.
std::vector<TileRun> by_range(const AttentionHooks& hooks, const expr::Scope& scope, Interval q, Interval h, int32_t tile_keys) {
  const expr::SeenKeys keys = seen_keys(hooks.mask_tiles(), scope, q, h);
  std::vector<TileRun> list;
  int32_t next = 0;
  for (const Interval& seen : keys.seen.list()) {
    const auto end = static_cast<int32_t>(seen.hi / tile_keys) + 1;
    for (int32_t t = std::max(next, static_cast<int32_t>(seen.lo / tile_keys)); t < end; ++t) {
      const int64_t begin = int64_t{t} * tile_keys, last = std::min<int64_t>(begin + tile_keys, scope.kv_len) - 1;
      const bool full = std::ranges::any_of(keys.full.list(), [&](const Interval& f) { return f.lo <= begin && last <= f.hi; });
      if (full || truth_of(hooks.mask_tiles(), scope, {q, {begin, last}, h}) != Truth::empty) append(list, t, full);
    }
    next = std::max(next, end);
  }
  return list;
}

/// Joins runs until at most `most` are left, each time those with the fewest tiles to take in.
void join(std::vector<TileRun>& list, size_t most) {
  while (list.size() > most) {
    size_t nearest = 1;
    const auto price = [&](size_t i) { return list[i].begin - list[i - 1].end; };
    for (size_t i = 2; i < list.size(); ++i) {
      if (price(i) < price(nearest)) nearest = i;
    }
    list[nearest - 1] = {list[nearest - 1].begin, list[nearest].end, false};
    list.erase(list.begin() + static_cast<std::ptrdiff_t>(nearest));
  }
}

}  // namespace

bool skips_tiles(const AttentionSpec& spec) {
  return spec.hooks.has(expr::Hook::mask);
}

int32_t add_runs(const AttentionHooks& hooks, const MaskValues& values, const MaskedRequest& request, int32_t first_token,
                 int32_t last_token, int32_t tile_keys, int32_t max_runs, std::vector<abi::AttentionKeyRun>& runs) {
  if (request.kv_len == 0) return 0;
  expr::Scope scope;
  scope.b = request.index;
  scope.group = request.group_size;
  scope.qo_len = request.qo_len;
  scope.kv_len = request.kv_len;
  scope.tok_begin = request.qo_begin;
  scope.params = values.params;
  if (values.tensors != nullptr) scope.summary = *values.tensors;
  const Interval q{first_token, last_token}, h{0, request.num_qo_heads - 1};
  std::vector<TileRun> list;
  switch (hooks.skip_class()) {
    case expr::SkipClass::ranges:
      list = by_range(hooks, scope, q, h, tile_keys);
      break;
    case expr::SkipClass::tiles:
      list = by_tile(hooks, scope, q, h, tile_keys);
      break;
    case expr::SkipClass::off:
      list = {{0, (request.kv_len + tile_keys - 1) / tile_keys, false}};
      break;
  }
  join(list, static_cast<size_t>(max_runs));
  int32_t place = 0;
  for (const TileRun& run : list) {
    runs.push_back({place, run.begin * tile_keys, run.full ? 1 : 0, 0});
    place += std::min(run.end * tile_keys, request.kv_len) - run.begin * tile_keys;
  }
  return place;
}

Status mask_blocks(const PlanShape& shape, const PlanBatch& batch, const abi::AttentionScheduleShape& schedule, int32_t max_runs,
                   std::vector<abi::AttentionRowBlock>& blocks, KeyRuns& key_runs) {
  if (batch.mask.params.size() != shape.spec.hooks.canonical().params.size())
    return invalid_argument("mask.params", std::to_string(batch.mask.params.size()) + " values; the mask's hooks have " +
                                               std::to_string(shape.spec.hooks.canonical().params.size()) + " params");
  key_runs.first_blocks.assign(batch.kv_lens.size(), 0);
  key_runs.run_indptr.assign(1, 0);
  key_runs.runs.clear();
  for (size_t i = 0; i < blocks.size(); ++i) {
    abi::AttentionRowBlock& block = blocks[i];
    const auto b = static_cast<size_t>(block.request);
    if (block.row_begin == 0) key_runs.first_blocks[b] = static_cast<int>(i);
    const int32_t qo_begin = batch.qo_indptr[b], qo_len = batch.qo_indptr[b + 1] - qo_begin;
    const int32_t last_row = block.row_begin + block.rows - 1;
    const int tile_class = block.tile_class;
    block.kv_begin = 0;
    const MaskedRequest request{
        block.request, qo_begin, qo_len, batch.kv_lens[b], shape.num_kv_heads * shape.spec.group_size, shape.spec.group_size};
    block.kv_end = add_runs(shape.spec.hooks, batch.mask, request, block.row_begin / schedule.rows_per_token,
                            last_row / schedule.rows_per_token, schedule.keys_per_cut[tile_class], max_runs, key_runs.runs);
    if (key_runs.runs.size() > static_cast<size_t>(kMaxPlanItems))
      return invalid_argument("hooks", "mask makes more than " + std::to_string(kMaxPlanItems) + " runs of keys in this batch");
    key_runs.run_indptr.push_back(static_cast<int>(key_runs.runs.size()));
    abi::set_tile_cost(schedule, block);
  }
  return {};
}

}  // namespace lathe
