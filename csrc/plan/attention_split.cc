#include "lathe/plan/attention_split.h"

#include <fmt/format.h>

#include <array>

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

Status count_parts(std::span<const RowBlock> blocks, int64_t heads, Schedule& schedule) {
  int64_t items = 0;
  schedule.split_parts = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    int64_t parts = num_parts(blocks[i], schedule.cuts[i]) * heads;
    items += parts;
    if (parts > heads) schedule.split_parts += parts;
    if (items > kMaxPlanItems)
      return invalid_argument(
          "split_kv", fmt::format("makes more than the {} work items of a plan, at request {} with {} parts x heads", kMaxPlanItems,
                                  blocks[i].request, parts));
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

// With target >= an even share s of the work, each split tile of cost c has fewer than c / s + 1 < 2 c / s parts, so all of them
// together have fewer than 2 * num_ctas. Smaller targets are taken only where they keep to that.
Schedule automatic_schedule(const PlanShape& shape, std::span<const RowBlock> blocks) {
  const AttentionCosts costs;
  const int64_t heads = num_item_heads(shape);
  Schedule best;
  best.cuts.resize(blocks.size());
  assign(blocks, heads, shape.num_ctas, best);
  int64_t total = 0;
  for (const RowBlock& block : blocks) total += whole_cost(costs, block) * heads;
  const int64_t share = ceil_div<int64_t>(total, shape.num_ctas);
  for (Fraction f : kTargets) {
    if (best.balance.longest <= share + share / kGoodEnough) break;
    int64_t target = std::max<int64_t>(share / f.den * f.num, 1);
    if (f.num == f.den) target = share;
    Schedule next;
    for (const RowBlock& block : blocks) next.cuts.push_back(even_cuts(block, shape.tile.classes[block.tile_class].kv, target));
    if (!count_parts(blocks, heads, next).ok() || next.split_parts > max_automatic_parts(shape.num_ctas)) break;
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
  LATHE_TRY(count_parts(blocks, num_item_heads(shape), schedule));
  assign(blocks, num_item_heads(shape), shape.num_ctas, schedule);
  return schedule;
}

}  // namespace lathe
