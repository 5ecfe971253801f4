// The page tables of a step, and how much of what they hold is there only once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lathe/replay/prefix_blocks.h"
#include "lathe/replay/simulate.h"

namespace lathe {

/// Keeps its memory between steps. Not thread-safe.
class PageTables {
 public:
  /// Refuses what PageIds::make refuses.
  static Result<PageTables> make(std::span<const TraceRequest> trace, int32_t page_size);

  /// Those of `step`, until the next call.
  void lay_out(const Step& step);
  /// Tables of ceil(kv_len / page_size) pages, one after another.
  std::span<const int32_t> page_ids() const { return page_ids_; }
  /// Keys of the step, those in a page that several requests have counted once.
  int64_t distinct_keys() const { return distinct_keys_; }

 private:
  PageTables(PageIds ids, int32_t page_size) : ids_(std::move(ids)), page_size_(page_size) {}

  PageIds ids_;
  int32_t page_size_;
  std::vector<int32_t> page_ids_;
  std::vector<int64_t> last_step_;  // per page, the step that had it last
  int64_t steps_ = 0, distinct_keys_ = 0;
};

}  // namespace lathe
