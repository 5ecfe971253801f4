// A mask of hooks, as the planner sees it: which key tiles each row block may see.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "lathe/abi/attention.h"
#include "lathe/abi/attention_schedule.h"
#include "lathe/base/status.h"
#include "lathe/spec/attention_spec.h"
#include "lathe/spec/expr/tile_runs.h"

namespace lathe {

/// What is known of a mask's params and tensors while a batch is planned. A view.
struct MaskValues {
  std::span<const expr::Value> params;     // by slot of spec.hooks.canonical(); those that the mask does not use may be anything
  const expr::Summary* tensors = nullptr;  // by slot; null: nothing is known of any
};

/// Key runs of a batch's row blocks: the lists of the plan (abi::AttentionPlanHeader).
struct KeyRuns {
  std::vector<int> first_blocks;  // [requests], or [requests, heads] where the mask differs by head
  std::vector<int> run_indptr;    // [row blocks + 1]
  std::vector<abi::AttentionKeyRun> runs;
};

/// Whether the plan of `spec` skips tiles: it has a mask of hooks.
bool skips_tiles(const AttentionSpec& spec);

/// A request as a mask of hooks sees it.
struct MaskedRequest {
  int32_t index = 0, qo_begin = 0, qo_len = 0, kv_len = 0;
  int32_t first_head = 0, last_head = 0, group_size = 1;  // query heads, [first_head, last_head]
  int32_t tile_keys = 1;                                  // keys of a tile
};

/// The key tiles of one request, for the row blocks of some of its heads.
class RequestMask {
 public:
  /// `hooks` and what `values` views must outlive this.
  RequestMask(const AttentionHooks& hooks, const MaskValues& values, const MaskedRequest& request);
  RequestMask(const RequestMask&) = delete;
  RequestMask& operator=(const RequestMask&) = delete;

  /// The runs of the row block of these tokens, appended to `runs`. Every tile that any of its rows sees is in a run; a run is
  /// `full` only where every row sees every key. At most `max_runs` (at least 1) are made, by joining the nearest. Returns how many
  /// keys they hold.
  int32_t add_runs(int32_t first_token, int32_t last_token, int64_t max_runs, std::vector<abi::AttentionKeyRun>& runs);

 private:
  MaskedRequest request_;
  expr::Scope scope_;
  std::optional<expr::TileSearch> search_;  // none where there is no key
};

}  // namespace lathe
