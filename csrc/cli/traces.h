// Request traces of public datasets, in their own formats, as hostile as any file.
//   Azure LLM inference traces: CSV with a header that names ContextTokens and GeneratedTokens, in any place
//   Mooncake traces: JSON lines with input_length and output_length
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/base/status.h"

namespace lathe::cli {

struct TraceRequest {
  int32_t input = 0, output = 0;  // tokens
  bool operator==(const TraceRequest&) const = default;
};

/// The requests of a trace's text, in its order, at least one. The format is told by its first line. Refuses lines longer than 64
/// KiB, lengths outside 0..2^24 and everything that is not of the format, naming `name` and the line; the first 8 problems at once.
Result<std::vector<TraceRequest>> parse_trace(const std::string& name, std::string_view text);

/// As above for a file of at most 256 MiB.
Result<std::vector<TraceRequest>> read_trace(const std::string& path);

/// The requests of every *.csv and *.jsonl file in a folder, by file name, which must hold 1..16 of them.
Result<std::vector<TraceRequest>> read_trace_dir(const std::string& folder);

}  // namespace lathe::cli
