#include "lathe/plan/attention_split.h"

#include <fmt/format.h>

#include <array>
#include <limits>
#include <numeric>

#include "lathe/plan/attention_image.h"

namespace lathe {
namespace {

// What is tried: how long an item's keys may take, as a fraction of an even share of the batch's work, and whether the parts of a
// tile are equal or as long as may be with one shorter rest (which fits beside others where equal parts would not). From few parts
// to many; later trials are made only when those before leave the longest block too far from even.
struct Trial {
  int32_t num, den;
  bool equal;
};
constexpr std::array kTrials{Trial{1, 1, true},  Trial{1, 1, false}, Trial{3, 4, true}, Trial{3, 5, true}, Trial{1, 2, true},
                             Trial{1, 2, false}, Trial{3, 8, true},  Trial{1, 4, true}, Trial{1, 8, true}};
// A schedule whose longest block is within 1/32 of an even share is good enough to stop at.
constexpr int64_t kGoodEnough = 32;

// Parts of at most `target` each, in whole kv tiles; at least one tile, since less keeps warps idle.
Cuts cuts_of(const RowBlock& block, int32_t kv_tile, int64_t target, bool equal) {
  int64_t parts = ceil_div<int64_t>(block.keys() * block.key_cost, target);
  if (parts <= 1) return {};
  int64_t keys = equal ? ceil_div<int64_t>(block.keys(), parts) : ceil_div<int64_t>(target, block.key_cost);
  int64_t chunk = round_up<int64_t>(keys, kv_tile);
  if (chunk >= block.keys()) return {};
  return {block.kv_begin, static_cast<int32_t>(chunk), 0};
}

Status check_counts(const PlanShape& shape, std::span<const RowBlock> blocks, std::span<const Cuts> cuts) {
  const int64_t heads = num_item_heads(shape);
  int64_t items = 0, partial_rows = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    int64_t parts = num_parts(blocks[i], cuts[i]), split = split_heads(blocks[i], cuts[i]);
    items += heads - split + parts * split;
    partial_rows += parts * split * shape.tile.classes[blocks[i].tile_class].q;
    if (items > kMaxPlanItems)
      return invalid_argument(
          "split_kv", fmt::format("makes more than the {} work items of a plan, at request {}: {} parts x {} heads", kMaxPlanItems,
                                  blocks[i].request, parts, heads));
    if (partial_rows > std::numeric_limits<int32_t>::max())
      return invalid_argument("split_kv",
                              fmt::format("makes more than 2^31 - 1 rows of partial states, at request {}: {} parts x {} heads",
                                          blocks[i].request, parts, heads));
  }
  return {};
}

// Fills refs, runs and balance from the cuts.
void assign(std::span<const RowBlock> blocks, int64_t heads, int32_t num_ctas, Schedule& schedule) {
  const AttentionCosts costs;
  schedule.refs.clear();
  schedule.runs.clear();
  for (int32_t i = 0; i < static_cast<int32_t>(blocks.size()); ++i) {
    const RowBlock& block = blocks[i];
    const int32_t split = split_heads(block, schedule.cuts[i]);
    if (split < heads) {
      schedule.refs.push_back({i, kWhole, split});
      schedule.runs.push_back({whole_cost(costs, block), heads - split});
    }
    if (split == 0) continue;
    for (int32_t p = 0; p < num_parts(block, schedule.cuts[i]); ++p) {
      Part part = part_of(block, schedule.cuts[i], p);
      schedule.refs.push_back({i, p, 0});
      schedule.runs.push_back({costs.item + costs.partial + (int64_t{part.kv_end} - part.kv_begin) * block.key_cost, split});
    }
  }
  schedule.balance = balance(schedule.runs, num_ctas);
}

// Row blocks, costliest first. Those of one cost stand together, so that a cut-off between costs treats equal blocks alike.
std::vector<int32_t> by_cost(std::span<const RowBlock> blocks) {
  const AttentionCosts costs;
  std::vector<int32_t> order(blocks.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return whole_cost(costs, blocks[a]) > whole_cost(costs, blocks[b]); });
  return order;
}

// Cuts for items of at most `target`. Where they would make more parts than a plan may have, the costliest blocks are cut, and of
// the first cost that does not fit entirely only as many heads as do: small parts of some tiles even out the rest, and equal blocks
// are still treated alike. With target at an even share s of the work, none is left out: a split tile of cost c has fewer than c /
// s + 1 < 2 c / s parts, so all of them together have fewer than 2 * num_ctas.
std::vector<Cuts> cuts_within_budget(const PlanShape& shape, std::span<const RowBlock> blocks, std::span<const int32_t> order,
                                     int64_t target, bool equal) {
  const AttentionCosts costs;
  const int64_t heads = num_item_heads(shape);
  int64_t budget = max_automatic_parts(shape.num_ctas);
  std::vector<Cuts> cuts(blocks.size());
  for (size_t begin = 0; begin < order.size() && budget > 0;) {
    const int64_t cost = whole_cost(costs, blocks[order[begin]]);
    size_t end = begin;
    int64_t parts_per_head = 0;
    for (; end < order.size() && whole_cost(costs, blocks[order[end]]) == cost; ++end) {
      const RowBlock& block = blocks[order[end]];
      cuts[order[end]] = cuts_of(block, shape.tile.classes[block.tile_class].kv, target, equal);
      int64_t parts = num_parts(block, cuts[order[end]]);
      parts_per_head += parts > 1 ? parts : 0;
    }
    const int64_t fit = parts_per_head > 0 ? std::min(heads, budget / parts_per_head) : 0;
    for (size_t i = begin; i < end; ++i) cuts[order[i]].heads = static_cast<int32_t>(fit);
    budget = fit < heads && parts_per_head > 0 ? 0 : budget - fit * parts_per_head;
    begin = end;
  }
  return cuts;
}

Schedule automatic_schedule(const PlanShape& shape, std::span<const RowBlock> blocks) {
  const AttentionCosts costs;
  const int64_t heads = num_item_heads(shape);
  Schedule best;
  best.cuts.resize(blocks.size());
  assign(blocks, heads, shape.num_ctas, best);
  int64_t total = 0;
  for (const RowBlock& block : blocks) total += whole_cost(costs, block) * heads;
  const int64_t share = ceil_div<int64_t>(total, shape.num_ctas);
  const std::vector<int32_t> order = by_cost(blocks);
  for (Trial t : kTrials) {
    if (best.balance.longest <= share + share / kGoodEnough) break;
    Schedule next;
    next.cuts = cuts_within_budget(shape, blocks, order, ceil_div<int64_t>(share, t.den) * t.num, t.equal);
    assign(blocks, heads, shape.num_ctas, next);
    if (next.balance.longest < best.balance.longest) best = std::move(next);
  }
  return best;
}

}  // namespace

Result<Schedule> make_schedule(const PlanShape& shape, std::span<const RowBlock> blocks) {
  const SplitSpec& split = shape.spec.split_kv;
  if (split.mode == SplitMode::automatic && shape.spec.determinism != Determinism::batch_invariant)
    return automatic_schedule(shape, blocks);
  Schedule schedule;
  const int32_t heads = static_cast<int32_t>(num_item_heads(shape));
  schedule.cuts.assign(blocks.size(), split.mode == SplitMode::fixed ? Cuts{0, split.tokens, heads} : Cuts{});
  LATHE_TRY(check_counts(shape, blocks, schedule.cuts));
  assign(blocks, num_item_heads(shape), shape.num_ctas, schedule);
  return schedule;
}

}  // namespace lathe
