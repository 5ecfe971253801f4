#include "page_tables.h"

#include <algorithm>

namespace lathe {

Result<PageTables> PageTables::make(std::span<const TraceRequest> trace, int32_t page_size) {
  Result<PageIds> ids = PageIds::make(trace, page_size);
  LATHE_TRY(ids);
  return PageTables(*std::move(ids), page_size);
}

void PageTables::lay_out(const Step& step) {
  last_step_.resize(static_cast<size_t>(ids_.num_pages()), 0);
  page_ids_.clear();
  distinct_keys_ = 0;
  ++steps_;
  for (size_t i = 0; i < step.requests.size(); ++i) {
    const size_t begin = page_ids_.size();
    ids_.append(step.requests[i], step.kv_lens[i], page_ids_);
    for (size_t p = begin; p < page_ids_.size(); ++p) {
      int64_t& last = last_step_[static_cast<size_t>(page_ids_[p])];
      if (last == steps_) continue;
      last = steps_;
      distinct_keys_ += std::min<int64_t>(page_size_, step.kv_lens[i] - static_cast<int64_t>(p - begin) * page_size_);
    }
  }
}

}  // namespace lathe
