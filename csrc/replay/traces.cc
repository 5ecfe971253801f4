#include "traces.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

#include "lathe/base/bytes.h"
#include "lathe/spec/json_scan.h"
#include "lathe/spec/text.h"

namespace lathe {
namespace {

constexpr size_t kMaxLineBytes = 64 * 1024;
constexpr size_t kListed = 8;
constexpr int32_t kMaxTokens = 1 << 24;
constexpr int64_t kMaxExact = int64_t{1} << 53;  // what JSON's readers agree on

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

std::string not_allowed(const std::string& what, std::string_view value, int64_t max) {
  return what + " " + fields::shown(value) + " is not allowed; allowed: whole numbers 0.." + std::to_string(max);
}

// Takes a whole number of exactly `digits` digits and then `end` off `text`.
bool take_number(std::string_view& text, size_t digits, std::string_view end, int& value) {
  if (text.size() < digits || !std::all_of(text.begin(), text.begin() + digits, [](char c) { return c >= '0' && c <= '9'; }))
    return false;
  std::from_chars(text.data(), text.data() + digits, value);
  text.remove_prefix(digits);
  if (!text.starts_with(end)) return false;
  text.remove_prefix(end.size());
  return true;
}

// Milliseconds of "YYYY-MM-DD HH:MM:SS", perhaps with a fraction and the offset of UTC; nothing when it is no such time.
std::optional<int64_t> milliseconds_of(std::string_view text) {
  int year, month, day, hour, minute, second;
  if (!take_number(text, 4, "-", year) || !take_number(text, 2, "-", month) || !take_number(text, 2, " ", day) ||
      !take_number(text, 2, ":", hour) || !take_number(text, 2, ":", minute) || !take_number(text, 2, "", second))
    return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok() || hour > 23 || minute > 59 || second > 60) return std::nullopt;
  int64_t fraction = 0;
  if (text.starts_with('.')) {
    size_t digits = 1;
    for (int64_t unit = 100; digits < text.size() && text[digits] >= '0' && text[digits] <= '9'; ++digits, unit /= 10)
      fraction += (text[digits] - '0') * unit;
    if (digits == 1) return std::nullopt;
    text.remove_prefix(digits);
  }
  if (!text.empty() && text != "+00:00" && text != "Z") return std::nullopt;
  const int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
  return (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + fraction;
}

// What a reader makes of one line: a request, or words about why not.
struct LineResult {
  TraceRequest request;
  std::string problem;
};
using LineReader = std::function<LineResult(std::string_view line)>;

struct AzureColumns {
  size_t input, output;
  std::optional<size_t> time;
  size_t count;
};

LineResult read_azure(const AzureColumns& columns, std::string_view line) {
  LineResult out;
  const std::vector<std::string_view> cells = cells_of(line);
  if (cells.size() != columns.count) {
    out.problem = "has " + std::to_string(cells.size()) + " cells, the header has " + std::to_string(columns.count);
    return out;
  }
  const auto number = [&](const char* what, std::string_view cell, int32_t& value) {
    const auto [stop, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
    if (error != std::errc() || stop != cell.data() + cell.size() || value < 0 || value > kMaxTokens) {
      out.problem = not_allowed(what, cell, kMaxTokens);
    }
  };
  number("ContextTokens", cells[columns.input], out.request.input);
  number("GeneratedTokens", cells[columns.output], out.request.output);
  if (columns.time) {
    const std::string_view cell = cells[*columns.time];
    if (const auto time = milliseconds_of(cell)) {
      out.request.arrival_ms = *time;
    } else {
      out.problem = "TIMESTAMP " + fields::in_quotes(cell) + " is not allowed; allowed: times like 2023-11-16 18:17:03.9799600";
    }
  }
  return out;
}

std::string dumped(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// The number at `at`, or words in `problem`.
int64_t whole_number(const std::string& what, const nlohmann::json& at, int64_t max, std::string& problem) {
  if (at.is_number_unsigned() && at.get<uint64_t>() <= static_cast<uint64_t>(max)) return at.get<int64_t>();
  problem = not_allowed(what, dumped(at), max);
  return 0;
}

void read_hash_ids(const nlohmann::json& list, LineResult& out) {
  if (!list.is_array()) {
    out.problem = "hash_ids " + fields::shown(dumped(list)) + " is not a list";
    return;
  }
  const auto blocks = static_cast<size_t>(ceil_div(out.request.input, kPrefixBlockTokens));
  if (list.size() != blocks) {
    out.problem = "hash_ids has " + std::to_string(list.size()) + " entries; allowed: one for each " +
                  std::to_string(kPrefixBlockTokens) + " tokens of input_length begun, which is " + std::to_string(blocks);
    return;
  }
  out.request.hash_ids.reserve(blocks);
  for (const nlohmann::json& id : list) out.request.hash_ids.push_back(whole_number("hash_ids", id, kMaxExact, out.problem));
}

LineResult read_mooncake(std::string_view line) {
  LineResult out;
  if (auto problem = json_problem(line)) {
    out.problem = *problem;
    return out;
  }
  const auto root = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) {
    out.problem = "is not a JSON object";
    return out;
  }
  const auto tokens = [&](const char* what, int32_t& value) {
    const auto at = root.find(what);
    if (at == root.end()) {
      out.problem = std::string(what) + " is missing";
    } else {
      value = static_cast<int32_t>(whole_number(what, *at, kMaxTokens, out.problem));
    }
  };
  tokens("input_length", out.request.input);
  tokens("output_length", out.request.output);
  if (const auto at = root.find("timestamp"); at != root.end()) {
    out.request.arrival_ms = whole_number("timestamp", *at, kMaxExact, out.problem);
  }
  if (const auto at = root.find("hash_ids"); at != root.end() && out.problem.empty()) read_hash_ids(*at, out);
  return out;
}

// The reader that the first line of `text` asks for; a header is taken off.
std::optional<LineReader> reader_for(std::string_view& text) {
  std::string_view rest = text;
  const std::string_view first = take_line(rest);
  if (first.starts_with('{')) return read_mooncake;
  if (first.size() > kMaxLineBytes) return std::nullopt;
  const std::vector<std::string_view> header = cells_of(first);
  const auto column = [&](std::string_view name) -> std::optional<size_t> {
    const auto at = std::ranges::find(header, name);
    if (at == header.end()) return std::nullopt;
    return static_cast<size_t>(at - header.begin());
  };
  const auto input = column("ContextTokens"), output = column("GeneratedTokens");
  if (!input || !output) return std::nullopt;
  text = rest;
  const AzureColumns columns{*input, *output, column("TIMESTAMP"), header.size()};
  return [columns](std::string_view line) { return read_azure(columns, line); };
}

// Azure's times are dates; what counts is the time since the first row. Mooncake's begin at 0 themselves.
void count_from_first(std::vector<TraceRequest>& requests) {
  const int64_t first = requests.front().arrival_ms;
  for (TraceRequest& request : requests) request.arrival_ms -= first;
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
  const bool azure = whole.size() != text.size();
  size_t number = azure ? 1 : 0;
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
      requests.push_back(std::move(read.request));
    } else {
      problems.add(name + " line " + std::to_string(number), read.problem);
    }
  }
  if (!problems.empty()) return problems.status();
  if (requests.empty()) return invalid_argument(name, "holds no request");
  if (azure) count_from_first(requests);
  return requests;
}

}  // namespace lathe
