// Which requests of a trace share what: its prefix blocks, and the pages that their keys and values lie in.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lathe/base/status.h"
#include "lathe/replay/traces.h"

namespace lathe {

/// The prefix blocks of a trace's requests, numbered from 0 in the order they first appear. Equal hash ids are equal blocks.
class PrefixBlocks {
 public:
  explicit PrefixBlocks(std::span<const TraceRequest> trace);

  std::span<const int32_t> of(int32_t request) const { return std::span(ids_).subspan(begin_[request], size_of(request)); }
  int32_t count() const { return count_; }

 private:
  size_t size_of(int32_t request) const { return begin_[request + 1] - begin_[request]; }

  std::vector<size_t> begin_;  // [requests + 1]
  std::vector<int32_t> ids_;
  int32_t count_ = 0;
};

/// Page ids of every request's tokens, a function of the trace and the page size alone. A page that is full of tokens of a prefix
/// block is that block's, so requests with equal blocks share it; every other page, such as those of the output, is its request's
/// own. Immutable.
class PageIds {
 public:
  /// `page_size` must divide kPrefixBlockTokens. Refuses a trace whose pages are more than 2^31 - 1.
  static Result<PageIds> make(std::span<const TraceRequest> trace, int32_t page_size);

  /// Appends the pages of the first `kv_len` tokens of `request`; at most input + output tokens (one of them when both are 0).
  void append(int32_t request, int32_t kv_len, std::vector<int32_t>& pages) const;
  /// All page ids are below this.
  int32_t num_pages() const { return num_pages_; }

 private:
  PageIds(std::span<const TraceRequest> trace, int32_t page_size) : blocks_(trace), page_size_(page_size) {}

  PrefixBlocks blocks_;
  int32_t page_size_;
  std::vector<int32_t> shared_;   // per request: leading pages that are those of its prefix blocks
  std::vector<int32_t> private_;  // per request: id of the first page after them
  int32_t num_pages_ = 0;
};

}  // namespace lathe
