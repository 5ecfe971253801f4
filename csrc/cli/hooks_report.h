// The hooks of a spec and its mask as `lathe explain` tells of them: as words and as JSON.
#pragma once

#include <array>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "lathe/plan/attention_tile.h"
#include "lathe/spec/attention_spec.h"
#include "mask_arg.h"

namespace lathe::cli {

/// How often the printed source (csrc/spec/expr/device_hooks.h) does each operator of a hook.
struct HookCost {
  const char* unit;  // what `each` counts by: "an element", "a row", "8 elements of a row"
  int each = 0;
  // Of hooks of scores, which are computed in steps and kept: those that a column, a row or a tile takes, beside `each`.
  bool in_steps = false;
  int column = 0, row = 0, tile = 0;
  int constant = 0;  // of hooks in one step: those of `each` that change with no element, and are computed again for each
};
HookCost cost_of(const expr::Hooks& canonical, expr::Hook hook);

/// The hooks as the kernel has them, what each costs, how the mask is skipped, and advice.
std::string hooks_text(const AttentionHooks& hooks);
nlohmann::ordered_json hooks_json(const AttentionHooks& hooks);

/// The mask of `spec`, a field or a hook, for one request, in tiles of its tallest class; writes its picture where one is asked
/// for.
struct MaskReport {
  MaskProblem problem;
  MaskMap map;
  std::vector<MaskLine> lines;
};
Result<MaskReport> report_mask(const AttentionSpec& spec, const AttentionTile& tile, MaskArgs args);
std::string mask_text(const MaskReport& report);
nlohmann::ordered_json mask_json(const MaskReport& report);

}  // namespace lathe::cli
