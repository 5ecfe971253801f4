#include "lathe/plan/attention_split.h"

#include <fmt/format.h>

#include <array>
#include <limits>
#include <numeric>

#include "lathe/plan/attention_image.h"

namespace lathe {
namespace {

// How long an item's keys may take, as fractions of an even share of the batch's work: from few parts to many. Smaller ones are
// tried only when what came before leaves the longest block too far from even.
struct Fraction {
  int32_t num, den;
};
constexpr std::array kTargets{Fraction{1, 1}, Fraction{3, 4}, Fraction{1, 2}, Fraction{3, 8}, Fraction{1, 4}, Fraction{1, 8}};
// A schedule whose longest block is within 1/32 of an even share is good enough to stop at.
constexpr int64_t kGoodEnough = 32;

// Equal parts of at most `target` each, in whole kv tiles; at least one tile, since less keeps warps idle.
Cuts even_cuts(const RowBlock& block, int32_t kv_tile, int64_t target) {
  int64_t parts = ceil_div<int64_t>(block.keys() * block.key_cost, target);
  if (parts <= 1) return {};
  int64_t chunk = round_up<int64_t>(ceil_div<int64_t>(block.keys(), parts), kv_tile);
  if (chunk >= block.keys()) return {};
  return {block.kv_begin, static_cast<int32_t>(chunk)};
}

Status check_counts(const PlanShape& shape, std::span<const RowBlock> blocks, std::span<const Cuts> cuts) {
  const int64_t heads = num_item_heads(shape);
  int64_t items = 0, partial_rows = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    int64_t parts = num_parts(blocks[i], cuts[i]);
    items += parts * heads;
    if (parts > 1) partial_rows += parts * heads * shape.tile.classes[blocks[i].tile_class].q;
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
  for (size_t i = 0; i < blocks.size(); ++i) {
    int32_t parts = num_parts(blocks[i], schedule.cuts[i]);
    for (int32_t p = 0; p < parts; ++p) {
      Part part = part_of(blocks[i], schedule.cuts[i], p);
      int64_t cost = costs.item + (parts > 1 ? costs.partial : 0) + (int64_t{part.kv_end} - part.kv_begin) * blocks[i].key_cost;
      schedule.refs.push_back({static_cast<int32_t>(i), p});
      schedule.runs.push_back({cost, heads});
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

// Cuts for items of at most `target`. Where they would make more parts than a plan may have, only the costliest blocks are cut:
// small parts of some even out the rest. With target at an even share s of the work, none is left out: a split tile of cost c has
// fewer than c / s + 1 < 2 c / s parts, so all of them together have fewer than 2 * num_ctas.
std::vector<Cuts> cuts_within_budget(const PlanShape& shape, std::span<const RowBlock> blocks, std::span<const int32_t> order,
                                     int64_t target) {
  const AttentionCosts costs;
  const int64_t heads = num_item_heads(shape);
  int64_t budget = max_automatic_parts(shape.num_ctas);
  std::vector<Cuts> cuts(blocks.size());
  for (size_t begin = 0; begin < order.size();) {
    int64_t cost = whole_cost(costs, blocks[order[begin]]);
    size_t end = begin;
    for (; end < order.size() && whole_cost(costs, blocks[order[end]]) == cost; ++end) {
      const RowBlock& block = blocks[order[end]];
      cuts[order[end]] = even_cuts(block, shape.tile.classes[block.tile_class].kv, target);
      int64_t parts = num_parts(block, cuts[order[end]]);
      budget -= parts > 1 ? parts * heads : 0;
    }
    if (budget < 0) {
      for (size_t i = begin; i < end; ++i) cuts[order[i]] = {};
      return cuts;
    }
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
  for (Fraction f : kTargets) {
    if (best.balance.longest <= share + share / kGoodEnough) break;
    Schedule next;
    next.cuts = cuts_within_budget(shape, blocks, order, ceil_div<int64_t>(share, f.den) * f.num);
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
  schedule.cuts.assign(blocks.size(), Cuts{0, split.mode == SplitMode::fixed ? split.tokens : 0});
  LATHE_TRY(check_counts(shape, blocks, schedule.cuts));
  assign(blocks, num_item_heads(shape), shape.num_ctas, schedule);
  return schedule;
}

}  // namespace lathe
