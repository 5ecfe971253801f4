#include "lathe/jit/worker/free_memory.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string_view>

namespace lathe {
namespace {

std::optional<int64_t> number_at_start(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end != text.data() ? std::optional(value) : std::nullopt;
}

// The number in a file that holds nothing else; nothing for "max".
std::optional<int64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  return std::getline(file, line) ? number_at_start(line) : std::nullopt;
}

// The number behind `name` in a file of lines "name number" or "name:   number".
std::optional<int64_t> field_in(const std::string& path, std::string_view name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(name)) continue;
    const size_t at = line.find_first_not_of(": \t", name.size());
    if (at != std::string::npos && at != name.size()) return number_at_start(std::string_view(line).substr(at));
  }
  return std::nullopt;
}

struct Files {
  const char *limit, *usage, *droppable;
};

constexpr Files kVersion1{"/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_inactive_file"};
constexpr Files kVersion2{"/memory.max", "/memory.current", "inactive_file"};

// What one group leaves; nothing when it has no limit.
std::optional<int64_t> left_in(const std::string& group, const Files& files) {
  const auto limit = number_in(group + files.limit), usage = number_in(group + files.usage);
  if (!limit || !usage) return std::nullopt;
  return std::max<int64_t>(0, *limit - *usage + field_in(group + "/memory.stat", files.droppable).value_or(0));
}

// Every group from `path` up to the root: each has a limit of its own. Inside a container the path may be one of the host's, which
// is not seen here; then the root that is seen is the container's group.
void add_groups(const std::string& root, std::string path, const Files& files, std::optional<int64_t>& least) {
  for (;;) {
    if (const auto left = left_in(root + path, files)) least = std::min(least.value_or(*left), *left);
    if (path.empty()) return;
    path.resize(path.find_last_of('/') == std::string::npos ? 0 : path.find_last_of('/'));
  }
}

}  // namespace

std::optional<int64_t> free_memory(const std::string& proc, const std::string& groups) {
  std::optional<int64_t> least;
  if (const auto kilobytes = field_in(proc + "/meminfo", "MemAvailable")) least = *kilobytes * 1024;
  std::ifstream list(proc + "/self/cgroup");
  for (std::string line; std::getline(list, line);) {  // "<number>:<controllers>:<path>"
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    if (path == "/") path.clear();
    if (controllers.empty()) add_groups(groups, path, kVersion2, least);
    if (controllers == "memory") add_groups(groups + "/memory", path, kVersion1, least);
  }
  return least;
}

}  // namespace lathe
