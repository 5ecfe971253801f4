// Request traces (lathe/replay/traces.h) from files.
#pragma once

#include <string>
#include <vector>

#include "lathe/replay/traces.h"

namespace lathe::cli {

/// The requests of a file of at most 256 MiB.
Result<std::vector<TraceRequest>> read_trace(const std::string& path);

/// The requests of every *.csv and *.jsonl file in a folder, by file name, which must hold 1..16 of them.
Result<std::vector<TraceRequest>> read_trace_dir(const std::string& folder);

}  // namespace lathe::cli
