#include "lathe/plan/attention_work.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "lathe/plan/attention_image.h"

namespace lathe {
namespace {

constexpr int64_t kInt32Max = std::numeric_limits<int32_t>::max();
// A kernel's indices run past the end of a request by up to a few tiles before they are masked; this much room keeps them in 32
// bits.
constexpr int64_t kMaxLength = kInt32Max - 4096;
// Loads are sums of costs; what splitting adds to this stays far below the other half of the range.
constexpr int64_t kMaxCost = std::numeric_limits<int64_t>::max() / 2;

struct KeyRange {
  int64_t begin = 0, end = 0;
};

// Keys that any of the queries [first, last] of a request sees. With a rising query both ends of its range rise, so the first query
// gives the lower end and the last one the upper.
KeyRange visible_keys(const AttentionSpec& spec, int64_t window, int64_t qo_len, int64_t kv_len, int64_t first, int64_t last) {
  int64_t shift = kv_len - qo_len;  // position of query 0
  KeyRange range{0, kv_len};
  if (spec.causal()) range.end = std::min(range.end, last + shift + 1);
  if (spec.windowed()) range.begin = std::max(range.begin, first + shift - window + 1);
  if (range.begin >= range.end) return {};
  // Whole pages and fragments; the mask hides what lies before. Never past a fixed cut, which would make a part of hidden keys
  // alone.
  int64_t aligned = range.begin / 16 * 16;
  if (spec.split_kv.mode == SplitMode::fixed)
    aligned = std::max(aligned, range.begin / spec.split_kv.tokens * spec.split_kv.tokens);
  range.begin = aligned;
  return range;
}

void check_request(const PlanShape& shape, const PlanBatch& batch, size_t b, Problems& problems) {
  int64_t qo_len = int64_t{batch.qo_indptr[b + 1]} - batch.qo_indptr[b];
  if (qo_len < 0)
    problems.add(fmt::format("qo_indptr[{}]", b + 1),
                 fmt::format("is {} after {}: request {} would have {} query tokens; must not fall", batch.qo_indptr[b + 1],
                             batch.qo_indptr[b], b, qo_len));
  int64_t kv_len = batch.kv_lens[b], kv_begin = batch.kv_begin[b];
  if (kv_len < 0 || kv_len > kMaxLength)
    problems.add(fmt::format("kv_lens[{}]", b), fmt::format("is {}; must be 0..{}", kv_len, kMaxLength));
  if (kv_begin < 0) problems.add(fmt::format("kv_begin[{}]", b), fmt::format("is {}; must not be negative", kv_begin));
  if (kv_len < 0 || kv_begin < 0) return;
  bool paged = shape.spec.layout.kind == LayoutKind::paged;
  int64_t entries = paged ? ceil_div<int64_t>(kv_len, shape.spec.layout.page_size) : kv_len;
  if (kv_begin + entries > kInt32Max)
    problems.add(fmt::format("kv_begin[{}]", b), fmt::format("is {}; with {} {} of request {} it passes 2^31 - 1", kv_begin,
                                                             entries, paged ? "pages" : "tokens", b));
}

}  // namespace

int32_t class_of_rows(const AttentionTile& tile, int64_t rows) {
  int32_t best = 0;
  for (int32_t c = 1; c < static_cast<int32_t>(tile.classes.size()); ++c) {
    if (ceil_div<int64_t>(rows, tile.classes[c].q) <= ceil_div<int64_t>(rows, tile.classes[best].q)) best = c;
  }
  return best;
}

Status check_shape(const PlanShape& shape) {
  Problems problems;
  if (shape.num_kv_heads < 1) problems.add("num_kv_heads", fmt::format("is {}; must be at least 1", shape.num_kv_heads));
  if (shape.num_ctas < 1) problems.add("num_ctas", fmt::format("is {}; must be at least 1", shape.num_ctas));
  if (shape.tile.classes.empty()) problems.add("tile.classes", "is empty; the tile must come from resolve_tile");
  if (shape.num_kv_heads >= 1 && int64_t{shape.num_kv_heads} * shape.spec.group_size > kInt32Max)
    problems.add("num_kv_heads * group_size",
                 fmt::format("is {}; must not pass 2^31 - 1", int64_t{shape.num_kv_heads} * shape.spec.group_size));
  return problems.status();
}

Status check_batch(const PlanShape& shape, const PlanBatch& batch) {
  Problems problems;
  size_t size = batch.kv_lens.size();
  if (batch.qo_indptr.size() != size + 1)
    problems.add("qo_indptr",
                 fmt::format("has {} entries; kv_lens has {}, so it must have {}", batch.qo_indptr.size(), size, size + 1));
  if (batch.kv_begin.size() != size)
    problems.add("kv_begin", fmt::format("has {} entries; must have as many as kv_lens, {}", batch.kv_begin.size(), size));
  if (shape.spec.windowed() && batch.window < 1) problems.add("window", fmt::format("is {}; must be at least 1", batch.window));
  if (!problems.empty()) return problems.status();

  if (batch.qo_indptr[0] != 0) problems.add("qo_indptr[0]", fmt::format("is {}; must be 0", batch.qo_indptr[0]));
  for (size_t b = 0; b < size; ++b) check_request(shape, batch, b, problems);
  int64_t tokens = batch.qo_indptr[size];
  int64_t qo_heads = int64_t{shape.num_kv_heads} * shape.spec.group_size;
  if (tokens > 0 && tokens > kMaxLength / qo_heads)
    problems.add("qo_indptr", fmt::format("{} query tokens x {} heads pass {} rows", tokens, qo_heads, kMaxLength));
  return problems.status();
}

Result<std::vector<RowBlock>> row_blocks(const PlanShape& shape, const PlanBatch& batch) {
  const AttentionCosts costs;
  const int64_t group = rows_per_token(shape);
  const int64_t heads = num_item_heads(shape);
  std::vector<int32_t> class_of(batch.kv_lens.size());
  int64_t count = 0;
  for (size_t b = 0; b < class_of.size(); ++b) {
    int64_t rows = (int64_t{batch.qo_indptr[b + 1]} - batch.qo_indptr[b]) * group;
    class_of[b] = rows == 0 ? 0 : class_of_rows(shape.tile, rows);
    count += ceil_div<int64_t>(rows, shape.tile.classes[class_of[b]].q);
  }
  if (count > kMaxPlanItems / heads)
    return invalid_argument("qo_indptr",
                            fmt::format("{} row blocks x {} heads pass the {} work items of a plan", count, heads, kMaxPlanItems));

  std::vector<RowBlock> blocks;
  blocks.reserve(count);
  int64_t cost = 0;
  for (size_t b = 0; b < class_of.size(); ++b) {
    const TileClass& tile = shape.tile.classes[class_of[b]];
    const int64_t qo_len = int64_t{batch.qo_indptr[b + 1]} - batch.qo_indptr[b];
    for (int64_t row = 0; row < qo_len * group; row += tile.q) {
      int64_t last_row = std::min(row + tile.q, qo_len * group) - 1;
      KeyRange keys = visible_keys(shape.spec, batch.window, qo_len, batch.kv_lens[b], row / group, last_row / group);
      blocks.push_back({static_cast<int32_t>(b), class_of[b], static_cast<int32_t>(row), static_cast<int32_t>(keys.begin),
                        static_cast<int32_t>(keys.end), key_cost(costs, shape.spec, tile)});
      std::optional<int64_t> each = checked_mul(whole_cost(costs, blocks.back()), heads);
      std::optional<int64_t> sum = each ? checked_add(cost, *each) : std::nullopt;
      if (!sum || *sum > kMaxCost)
        return invalid_argument("kv_lens",
                                fmt::format("rows x keys of the batch pass what one plan can balance, at request {}", b));
      cost = *sum;
    }
  }
  return blocks;
}

}  // namespace lathe
