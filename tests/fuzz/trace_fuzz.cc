// Request traces.
#include "fuzz.h"
#include "lathe/replay/traces.h"

using namespace lathe;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int32_t kMost = 1 << 24;
  const Result<std::vector<TraceRequest>> requests = parse_trace("trace", testing::text_of(data, size));
  if (!requests) return 0;
  testing::require(!requests->empty(), "there is a request");
  for (const TraceRequest& request : *requests) {
    testing::require(request.input >= 0 && request.input <= kMost, "inputs are within their limits");
    testing::require(request.output >= 0 && request.output <= kMost, "outputs are within their limits");
    const size_t blocks = (static_cast<size_t>(request.input) + kPrefixBlockTokens - 1) / kPrefixBlockTokens;
    testing::require(request.hash_ids.empty() || request.hash_ids.size() == blocks, "a hash id for each block, or none");
  }
  return 0;
}
