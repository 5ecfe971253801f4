#include "traces.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "input.h"
#include "lathe/spec/json_scan.h"
#include "lathe/spec/text.h"

namespace lathe::cli {
namespace {

constexpr size_t kMaxFileBytes = size_t{256} << 20;
constexpr size_t kMaxLineBytes = 64 * 1024;
constexpr size_t kMaxFiles = 16;
constexpr size_t kListed = 8;
constexpr int32_t kMaxTokens = 1 << 24;

// Takes the next line off `text`, without its end.
std::string_view take_line(std::string_view& text) {
  const size_t end = std::min(text.find('\n'), text.size());
  std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

std::vector<std::string_view> cells_of(std::string_view line) {
  std::vector<std::string_view> cells;
  for (size_t at = 0; at <= line.size();) {
    const size_t end = std::min(line.find(',', at), line.size());
    cells.push_back(line.substr(at, end - at));
    at = end + 1;
  }
  return cells;
}

std::string out_of_range(const std::string& what, std::string_view value) {
  return what + " " + fields::shown(value) + " is not allowed; allowed: whole numbers 0.." + std::to_string(kMaxTokens);
}

// What a reader makes of one line: a request, or words about why not.
struct LineResult {
  TraceRequest request;
  std::string problem;
};
using LineReader = std::function<LineResult(std::string_view line)>;

LineReader azure_reader(size_t input, size_t output, size_t columns) {
  return [=](std::string_view line) {
    LineResult out;
    const std::vector<std::string_view> cells = cells_of(line);
    if (cells.size() != columns) {
      out.problem = "has " + std::to_string(cells.size()) + " cells, the header has " + std::to_string(columns);
      return out;
    }
    const auto number = [&](const char* what, std::string_view cell, int32_t& value) {
      const auto [stop, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
      if (error != std::errc() || stop != cell.data() + cell.size() || value < 0 || value > kMaxTokens) {
        out.problem = out_of_range(what, cell);
      }
    };
    number("ContextTokens", cells[input], out.request.input);
    number("GeneratedTokens", cells[output], out.request.output);
    return out;
  };
}

LineResult read_mooncake(std::string_view line) {
  LineResult out;
  if (auto problem = json_problem(line)) {
    out.problem = *problem;
    return out;
  }
  const auto root = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  const auto number = [&](const char* what, int32_t& value) {
    const auto at = root.is_object() ? root.find(what) : root.end();
    if (!root.is_object() || at == root.end()) {
      out.problem = std::string(what) + " is missing";
    } else if (!at->is_number_unsigned() || at->get<uint64_t>() > kMaxTokens) {
      out.problem = out_of_range(what, at->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    } else {
      value = at->get<int32_t>();
    }
  };
  number("input_length", out.request.input);
  number("output_length", out.request.output);
  return out;
}

// The reader that the first line of `text` asks for; a header is taken off.
std::optional<LineReader> reader_for(std::string_view& text) {
  std::string_view rest = text;
  const std::string_view first = take_line(rest);
  if (first.starts_with('{')) return read_mooncake;
  if (first.size() > kMaxLineBytes) return std::nullopt;
  const std::vector<std::string_view> header = cells_of(first);
  const auto input = std::ranges::find(header, "ContextTokens"), output = std::ranges::find(header, "GeneratedTokens");
  if (input == header.end() || output == header.end()) return std::nullopt;
  text = rest;
  return azure_reader(static_cast<size_t>(input - header.begin()), static_cast<size_t>(output - header.begin()), header.size());
}

}  // namespace

Result<std::vector<TraceRequest>> parse_trace(const std::string& name, std::string_view text) {
  const std::string_view whole = text;
  const auto reader = reader_for(text);
  if (!reader) {
    return invalid_argument(name,
                            "is neither CSV with ContextTokens and GeneratedTokens in its first line nor JSON lines with "
                            "input_length and output_length");
  }
  size_t number = whole.size() == text.size() ? 0 : 1;
  std::vector<TraceRequest> requests;
  Problems problems;
  while (!text.empty() && problems.size() < kListed) {
    const std::string_view line = take_line(text);
    ++number;
    if (line.empty()) continue;
    LineResult read;
    if (line.size() > kMaxLineBytes) {
      read.problem = "is longer than " + std::to_string(kMaxLineBytes) + " bytes";
    } else {
      read = (*reader)(line);
    }
    if (read.problem.empty()) {
      requests.push_back(read.request);
    } else {
      problems.add(name + " line " + std::to_string(number), read.problem);
    }
  }
  if (!problems.empty()) return problems.status();
  if (requests.empty()) return invalid_argument(name, "holds no request");
  return requests;
}

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
    all.insert(all.end(), requests->begin(), requests->end());
  }
  return all;
}

}  // namespace lathe::cli
