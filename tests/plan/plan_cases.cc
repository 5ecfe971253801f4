#include "plan_cases.h"

#include <fmt/format.h>

#include <array>

namespace lathe::testing {
namespace {

AttentionTile make_tile(bool packed, std::vector<TileClass> classes) {
  AttentionTile tile;
  tile.warps = 8;
  tile.stages = 2;
  tile.packed = packed;
  tile.classes = std::move(classes);
  return tile;
}

}  // namespace

PlanShape llama_shape(Mask mask) {
  PlanShape shape;
  shape.spec.mask = mask;
  shape.spec.group_size = 4;
  shape.tile = make_tile(true, {{128, 64}, {16, 128}});
  shape.num_kv_heads = 8;
  shape.num_ctas = 132;
  return shape;
}

PlanShape random_shape(std::mt19937_64& rng) {
  static const std::vector<std::vector<TileClass>> kClasses{
      {{128, 64}, {16, 128}}, {{128, 64}}, {{16, 128}}, {{64, 32}, {16, 64}}, {{128, 32}, {64, 64}, {32, 64}, {16, 256}}};
  static constexpr std::array kGroups{1, 2, 3, 4, 5, 8, 16, 17, 128};
  PlanShape shape;
  AttentionSpec& spec = shape.spec;
  spec.mask = static_cast<Mask>(draw_int(rng, 0, 3));
  spec.determinism = static_cast<Determinism>(draw_int(rng, 0, 2));
  spec.split_kv.mode = static_cast<SplitMode>(std::max(draw_int(rng, -1, 2), 0));  // automatic twice as often
  if (spec.split_kv.mode == SplitMode::fixed) spec.split_kv.tokens = std::array{1, 16, 33, 128, 2048}[draw_int(rng, 0, 4)];
  spec.group_size = kGroups[draw_int(rng, 0, static_cast<int>(kGroups.size()) - 1)];
  spec.head_dim_qk = 16 * draw_int(rng, 1, 16);
  spec.head_dim_vo = 16 * draw_int(rng, 1, 16);
  spec.layout.kind = static_cast<LayoutKind>(draw_int(rng, 0, 1));
  spec.layout.page_size = draw_int(rng, 1, 40);
  bool packed = draw_int(rng, 0, 3) > 0;
  shape.tile = make_tile(packed, kClasses[draw_int(rng, 0, static_cast<int>(kClasses.size()) - 1)]);
  shape.num_kv_heads = draw_int(rng, 1, packed ? 4 : 2);
  if (!packed && spec.group_size > 8) spec.group_size = 8;  // many items of one kind show nothing new
  shape.num_ctas = draw_int(rng, 0, 7) == 0 ? 132 : draw_int(rng, 1, 24);
  return shape;
}

std::string print(const PlanShape& shape) {
  std::string classes;
  for (const TileClass& c : shape.tile.classes) classes += fmt::format(" {}x{}", c.q, c.kv);
  const AttentionSpec& s = shape.spec;
  return fmt::format("mask {} determinism {} split {}({}) group {} packed {} kv heads {} blocks {} head dims {}/{} tiles{}",
                     name_of(s.mask), name_of(s.determinism), static_cast<int>(s.split_kv.mode), s.split_kv.tokens, s.group_size,
                     shape.tile.packed, shape.num_kv_heads, shape.num_ctas, s.head_dim_qk, s.head_dim_vo, classes);
}

}  // namespace lathe::testing
