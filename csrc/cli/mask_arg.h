// A mask and a request to look at it for, as `lathe mask` and `lathe explain` take them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lathe/base/status.h"
#include "mask_map.h"

namespace CLI {
class App;
}  // namespace CLI

namespace lathe::cli {

struct MaskArgs {
  int64_t q_len = 0, kv_len = 0;             // 0: not given
  int64_t heads = 0;                         // query heads; 0: one KV head's
  int64_t group = 0;                         // query heads for each KV head; 0: 1, or the spec's
  std::optional<int64_t> head;               // the only one that is looked at
  std::vector<std::string> params, tensors;  // name=value, name=file
  std::string svg;                           // file to write; empty: none

  /// The first option that was given and means nothing without --q-len and --kv-len; nullptr: none.
  const char* first_given() const;
};

/// Adds --q-len, --kv-len, --heads, --head, --param, --tensor and --svg; `required` says whether the lengths must be given.
void add_mask_options(CLI::App& job, MaskArgs& args, bool required);

/// --param as names and numbers.
Result<std::vector<HookParam>> read_params(const std::vector<std::string>& texts);

/// The problem that `hooks` and `args` pose, in tiles of `tile_rows` by `tile_keys`. Refuses lengths, heads and numbers of tiles
/// past what a picture is made of, hooks without a mask, and params and tensors that do not fit their declarations or come twice.
Result<MaskProblem> read_mask_problem(AttentionHooks hooks, const MaskArgs& args, int64_t tile_rows, int64_t tile_keys);

/// Writes the map's picture to args.svg, where that is given.
Status write_picture(const MaskArgs& args, const MaskMap& map);

}  // namespace lathe::cli
