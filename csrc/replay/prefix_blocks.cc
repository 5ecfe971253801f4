#include "prefix_blocks.h"

#include <algorithm>
#include <limits>
#include <string>
#include <unordered_map>

#include "lathe/base/bytes.h"

namespace lathe {

PrefixBlocks::PrefixBlocks(std::span<const TraceRequest> trace) {
  std::unordered_map<int64_t, int32_t> number_of;
  begin_.push_back(0);
  for (const TraceRequest& request : trace) {
    for (int64_t id : request.hash_ids)
      ids_.push_back(number_of.try_emplace(id, static_cast<int32_t>(number_of.size())).first->second);
    begin_.push_back(ids_.size());
  }
  count_ = static_cast<int32_t>(number_of.size());
}

Result<PageIds> PageIds::make(std::span<const TraceRequest> trace, int32_t page_size) {
  if (page_size < 1 || kPrefixBlockTokens % page_size != 0) {
    return invalid_argument(
        "page_size", std::to_string(page_size) + " is not allowed; allowed: divisors of " + std::to_string(kPrefixBlockTokens));
  }
  PageIds ids(trace, page_size);
  int64_t next = int64_t{ids.blocks_.count()} * (kPrefixBlockTokens / page_size);
  for (const TraceRequest& request : trace) {
    const int32_t shared = request.hash_ids.empty() ? 0 : request.input / page_size;
    ids.shared_.push_back(shared);
    ids.private_.push_back(static_cast<int32_t>(next));
    next += ceil_div(std::max<int64_t>(int64_t{request.input} + request.output, 1), int64_t{page_size}) - shared;
    if (next > std::numeric_limits<int32_t>::max()) {
      return invalid_argument("trace", "takes more than 2147483647 pages of " + std::to_string(page_size) + " tokens");
    }
  }
  ids.num_pages_ = static_cast<int32_t>(next);
  return ids;
}

void PageIds::append(int32_t request, int32_t kv_len, std::vector<int32_t>& pages) const {
  const std::span<const int32_t> blocks = blocks_.of(request);
  const int32_t pages_per_block = kPrefixBlockTokens / page_size_;
  const int32_t count = ceil_div(kv_len, page_size_), shared = std::min(shared_[request], count);
  for (int32_t p = 0; p < shared; ++p) pages.push_back(blocks[p / pages_per_block] * pages_per_block + p % pages_per_block);
  for (int32_t p = shared; p < count; ++p) pages.push_back(private_[request] + p - shared_[request]);
}

}  // namespace lathe
