#include "trace_files.h"

#include <algorithm>
#include <filesystem>
#include <iterator>

#include "input.h"
#include "lathe/spec/text.h"

namespace lathe::cli {
namespace {

constexpr size_t kMaxFileBytes = size_t{256} << 20;
constexpr size_t kMaxFiles = 16;

}  // namespace

Result<std::vector<TraceRequest>> read_trace(const std::string& path) {
  Result<std::string> text = read_file("--trace", path, kMaxFileBytes);
  LATHE_TRY(text);
  return parse_trace(fields::shown(path, 256), *text);
}

Result<std::vector<TraceRequest>> read_trace_dir(const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code error;
  std::vector<std::string> paths;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    const std::string extension = at->path().extension().string();
    if (extension == ".csv" || extension == ".jsonl") paths.push_back(at->path().string());
  }
  const std::string name = fields::in_quotes(folder, 256);
  if (error) return invalid_argument("LATHE_TRACE_DIR", name + " cannot be listed: " + error.message());
  if (paths.empty() || paths.size() > kMaxFiles) {
    return invalid_argument("LATHE_TRACE_DIR", name + " holds " + std::to_string(paths.size()) +
                                                   " files named *.csv or *.jsonl; allowed: 1.." + std::to_string(kMaxFiles));
  }
  std::ranges::sort(paths);
  std::vector<TraceRequest> all;
  for (const std::string& path : paths) {
    Result<std::vector<TraceRequest>> requests = read_trace(path);
    LATHE_TRY(requests);
    std::ranges::move(*requests, std::back_inserter(all));
  }
  return all;
}

}  // namespace lathe::cli
