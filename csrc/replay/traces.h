// Request traces of public datasets, in their own formats, as hostile as any file.
//   Azure LLM inference traces: CSV with a header that names ContextTokens, GeneratedTokens and perhaps TIMESTAMP, in any place
//   Mooncake traces: JSON lines with input_length, output_length and perhaps timestamp and hash_ids
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/base/status.h"

namespace lathe {

/// Tokens of a prefix block, for which a Mooncake trace has one hash id.
constexpr int32_t kPrefixBlockTokens = 512;

struct TraceRequest {
  int32_t input = 0, output = 0;    // tokens
  int64_t arrival_ms = 0;           // Azure: since the first row; Mooncake: as written; 0 where the trace has no times
  std::vector<int64_t> hash_ids{};  // of its prefix blocks, one for each kPrefixBlockTokens of the input begun; or none at all
  bool operator==(const TraceRequest&) const = default;
};

/// The requests of a trace's text, in its order, at least one. The format is told by its first line. Refuses lines longer than 64
/// KiB, lengths outside 0..2^24 and everything that is not of the format, naming `name` and the line; the first 8 problems at once.
Result<std::vector<TraceRequest>> parse_trace(const std::string& name, std::string_view text);

}  // namespace lathe
