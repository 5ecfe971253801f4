#include "warm_specs.h"

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <system_error>
#include <utility>

#include "input.h"
#include "lathe/spec/text.h"

namespace lathe::cli {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxListBytes = size_t{16} << 20;
constexpr size_t kMostSpecs = 10'000;

struct Place {
  std::string from, argument;
};

Status too_many() {
  return invalid_argument("--specs", "are more than " + std::to_string(kMostSpecs) + ", the most that are taken");
}

Result<std::vector<Place>> places_in_folder(const std::string& path) {
  std::vector<Place> out;
  std::error_code error;
  for (auto at = fs::directory_iterator(path, error); !error && at != fs::directory_iterator(); at.increment(error)) {
    if (at->path().extension() == ".json") out.push_back({at->path().string(), at->path().string()});
    if (out.size() > kMostSpecs) return too_many();
  }
  if (error) return invalid_argument("--specs", fields::in_quotes(path, 256) + " could not be read: " + error.message());
  std::ranges::sort(out, {}, &Place::from);
  return out;
}

Result<std::vector<Place>> places_in_list(const std::string& path) {
  Result<std::string> text = read_file("--specs", path, kMaxListBytes);
  LATHE_TRY(text);
  std::vector<Place> out;
  std::istringstream lines(*text);
  size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    number++;
    const size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string::npos || line[begin] == '#') continue;
    line = line.substr(begin, line.find_last_not_of(" \t\r") + 1 - begin);
    std::string argument = line.starts_with('{') ? line : (fs::path(path).parent_path() / line).string();
    out.push_back({path + ":" + std::to_string(number), std::move(argument)});
    if (out.size() > kMostSpecs) return too_many();
  }
  return out;
}

Result<std::vector<Place>> places(const std::string& path) {
  if (path.starts_with('{')) return std::vector<Place>{{"--specs", path}};
  std::error_code error;
  if (fs::is_directory(path, error)) return places_in_folder(path);
  if (fs::path(path).extension() == ".json") return std::vector<Place>{{path, path}};
  return places_in_list(path);
}

}  // namespace

Result<std::vector<NamedSpec>> read_specs(const std::string& path) {
  Result<std::vector<Place>> found = places(path);
  LATHE_TRY(found);
  if (found->empty()) return invalid_argument("--specs", fields::in_quotes(path, 256) + " holds no spec");
  std::vector<NamedSpec> specs;
  Problems problems;
  for (const Place& place : *found) {
    Result<AnySpec> spec = read_spec(place.argument);
    if (spec.ok()) {
      specs.push_back({place.from, *std::move(spec)});
    } else {
      problems.add(place.from, spec.status().to_string());
    }
  }
  LATHE_TRY(problems.status());
  return specs;
}

}  // namespace lathe::cli
