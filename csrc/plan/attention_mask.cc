#include "lathe/plan/attention_mask.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>

#include "lathe/plan/attention_work.h"

namespace lathe {
namespace {

using expr::Interval;
using expr::TileRun;

/// Joins runs until at most `most` are left: those with the fewest tiles to take in between.
void join(std::vector<TileRun>& list, size_t most) {
  if (list.size() <= most) return;
  const auto gap = [&](size_t i) { return list[i].begin - list[i - 1].end; };
  std::vector<size_t> nearest(list.size() - 1);
  std::iota(nearest.begin(), nearest.end(), size_t{1});
  std::ranges::sort(nearest, [&](size_t a, size_t b) { return gap(a) != gap(b) ? gap(a) < gap(b) : a < b; });
  std::vector<bool> joins(list.size());
  for (size_t i = 0; i < list.size() - most; ++i) joins[nearest[i]] = true;
  size_t count = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    if (joins[i]) {
      list[count - 1] = {list[count - 1].begin, list[i].end, false};
    } else {
      list[count++] = list[i];
    }
  }
  list.resize(count);
}

}  // namespace

bool skips_tiles(const AttentionSpec& spec) {
  return spec.hooks.has(expr::Hook::mask);
}

RequestMask::RequestMask(const AttentionHooks& hooks, const MaskValues& values, const MaskedRequest& request) : request_(request) {
  if (request.kv_len == 0) return;
  scope_.b = request.index;
  scope_.group = request.group_size;
  scope_.qo_len = request.qo_len;
  scope_.kv_len = request.kv_len;
  scope_.tok_begin = request.qo_begin;
  scope_.params = values.params;
  if (values.tensors != nullptr) scope_.summary = *values.tensors;
  const expr::Tile whole{{0, request.qo_len - 1}, {0, request.kv_len - 1}, {request.first_head, request.last_head}};
  search_.emplace(hooks.mask_tiles(), hooks.skip_class(), scope_, whole, request.tile_keys);
}

int32_t RequestMask::add_runs(int32_t first_token, int32_t last_token, int64_t max_runs, std::vector<abi::AttentionKeyRun>& runs) {
  if (!search_) return 0;
  const int32_t tile_keys = request_.tile_keys;
  std::vector<TileRun> list = search_->runs({first_token, last_token});
  join(list, static_cast<size_t>(max_runs));
  int32_t place = 0;
  for (const TileRun& run : list) {
    runs.push_back({place, run.begin * tile_keys, run.full ? 1 : 0, 0});
    place += std::min(run.end * tile_keys, request_.kv_len) - run.begin * tile_keys;
  }
  return place;
}

Status mask_blocks(const PlanShape& shape, const PlanBatch& batch, const abi::AttentionScheduleShape& schedule, int64_t max_runs,
                   std::vector<abi::AttentionRowBlock>& blocks, KeyRuns& key_runs) {
  if (batch.mask.params.size() != shape.spec.hooks.canonical().params.size())
    return invalid_argument("mask.params", std::to_string(batch.mask.params.size()) + " values; the mask's hooks have " +
                                               std::to_string(shape.spec.hooks.canonical().params.size()) + " params");
  const auto apart = static_cast<size_t>(heads_apart(shape));
  const int32_t qo_heads = shape.num_kv_heads * shape.spec.group_size / static_cast<int32_t>(apart);  // of a row block
  key_runs.first_blocks.assign(batch.kv_lens.size() * apart, 0);
  key_runs.run_indptr.assign(1, 0);
  key_runs.runs.clear();
  std::optional<RequestMask> mask;
  for (size_t i = 0; i < blocks.size(); ++i) {
    abi::AttentionRowBlock& block = blocks[i];
    const auto b = static_cast<size_t>(block.request);
    if (block.row_begin == 0) {
      key_runs.first_blocks[b * apart + static_cast<size_t>(block.head)] = static_cast<int>(i);
      const int32_t qo_begin = batch.qo_indptr[b], qo_len = batch.qo_indptr[b + 1] - qo_begin;
      mask.emplace(shape.spec.hooks, batch.mask,
                   MaskedRequest{.index = block.request,
                                 .qo_begin = qo_begin,
                                 .qo_len = qo_len,
                                 .kv_len = batch.kv_lens[b],
                                 .first_head = block.head * qo_heads,
                                 .last_head = (block.head + 1) * qo_heads - 1,
                                 .group_size = shape.spec.group_size,
                                 .tile_keys = schedule.keys_per_cut[static_cast<int>(block.tile_class)]});
    }
    const int32_t last_row = block.row_begin + block.rows - 1;
    // Every block behind this one has a run of its own at least.
    const auto made = static_cast<int64_t>(key_runs.runs.size()), behind = static_cast<int64_t>(blocks.size() - i) - 1;
    block.kv_begin = 0;
    block.kv_end = mask->add_runs(block.row_begin / schedule.rows_per_token, last_row / schedule.rows_per_token,
                                  std::max<int64_t>(max_runs - made - behind, 1), key_runs.runs);
    if (key_runs.runs.size() > static_cast<size_t>(kMaxPlanItems))
      return invalid_argument("hooks", "mask makes more than " + std::to_string(kMaxPlanItems) + " runs of keys in this batch");
    key_runs.run_indptr.push_back(static_cast<int>(key_runs.runs.size()));
    abi::set_tile_cost(schedule, block);
  }
  return {};
}

}  // namespace lathe
