#include <algorithm>
#include <numeric>
#include <optional>

#include "cases.h"
#include "lathe/arch/traits.h"
#include "lathe/proof/cases.h"
#include "lathe/proof/harness.h"
#include "tame_hooks.h"

namespace lathe::testing {
namespace {

// Multiply-adds of one batch: hooks are interpreted by the reference, which takes a good part of a second at this.
constexpr int64_t kBudget = 1'000'000;

AttentionSpec draw_spec(std::mt19937_64& rng) {
  const int shard = static_cast<int>(rng() % kShards);
  const std::vector<AttentionSpec> specs = draw_specs(shard, rng());
  AttentionSpec spec = specs[rng() % specs.size()];
  if (rng() % 4 == 0) return spec;
  add_tame_hooks(spec, rng);
  if (!resolve_tile(spec, *arch_traits("host")).ok()) spec.tile = {};  // other head dims than the given tile was drawn for
  return spec;
}

/// Splits of a mask's keys lie between tiles: fixed ones become multiples of all, or give way.
void fit_split(AttentionSpec& spec, const AttentionTile& tile) {
  if (spec.split_kv.mode != SplitMode::fixed || !spec.hooks.has(expr::Hook::mask)) return;
  int32_t most = 0;
  for (const TileClass& c : tile.classes) most = std::max(most, c.kv);
  const bool nested = std::ranges::all_of(tile.classes, [&](const TileClass& c) { return most % c.kv == 0; });
  spec.split_kv = nested ? SplitSpec{SplitMode::fixed, most} : SplitSpec{SplitMode::off, 0};
}

BatchShape draw_small_batch(const AttentionSpec& spec, const AttentionTile& tile, std::mt19937_64& rng) {
  const bool want_split = rng() % 3 == 0;
  BatchShape least = draw_batch(spec, tile, want_split, rng);
  for (int attempt = 0; attempt < 20 && cost_of(spec, tile, least) > kBudget; ++attempt) {
    BatchShape other = draw_batch(spec, tile, want_split, rng);
    if (cost_of(spec, tile, other) < cost_of(spec, tile, least)) least = std::move(other);
  }
  return least;
}

// The norm over a tensor is a statistic of many rows: the suites' bound of it would refuse one batch of a row or two in ten
// thousand, whose tensor is hardly more than its worst row. Such a tensor is held to the bound of a row; so is one of a few keys,
// whose rows are those keys' values over and over, with one rounding of each.
Bounds bounds_for(const AttentionSpec& spec, const BatchShape& shape) {
  constexpr int64_t kFew = 8;
  const int64_t rows = shape.qo_tokens() * shape.num_kv_heads * spec.group_size;
  const int64_t keys = std::reduce(shape.kv_lens.begin(), shape.kv_lens.end(), int64_t{0}) * shape.num_kv_heads;
  Bounds bounds = bounds_of(spec);
  if (std::min(rows, keys) < kFew) bounds.tensor = bounds.row;
  return bounds;
}

}  // namespace

std::string spec_case(uint64_t seed) {
  std::mt19937_64 rng(seed);
  AttentionSpec spec = draw_spec(rng);
  Result<AttentionTile> tile = resolve_tile(spec, *arch_traits("host"));
  if (!tile.ok()) return to_json(spec) + "\nhas no tile: " + tile.status().to_string();
  fit_split(spec, *tile);
  const auto device = host_device({.seed = rng(), .check = true});
  Result<Attention> attention = Attention::prepare(engine(), device, spec);
  if (!attention.ok()) return to_json(spec) + "\ncannot be prepared: " + attention.status().to_string();
  const BatchShape shape = draw_small_batch(spec, attention->tile(), rng);
  const Bounds bounds = bounds_for(spec, shape);
  return prove(device, *attention, shape, rng(), "the line below", nullptr, &bounds);
}

}  // namespace lathe::testing
