#include "lathe/jit/keep_source.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <span>
#include <system_error>
#include <tuple>
#include <vector>

#include "lathe/base/knobs.h"
#include "lathe/jit/compile_key.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostKept = 64;  // below a cache's root
constexpr const char* kSource = "kernel.cu";
constexpr const char* kKey = "key";
constexpr const char* kLog = "log";

// Whether `name` is one that keep_source() gives a folder: words, then 32 hex digits.
bool is_kept_name(std::string_view name) {
  constexpr size_t kDigits = 32;
  if (name.size() <= kDigits + 1 || name[name.size() - kDigits - 1] != '-') return false;
  return name.find_first_not_of("0123456789abcdef", name.size() - kDigits) == std::string_view::npos;
}

bool is_kept_file(std::string_view name) {
  return name == kSource || name == kKey || name == kLog || name.ends_with(".tmp");
}

// A folder with anything else in it stays as it is: somebody put it there.
void remove_kept(Fs& system, int into, const std::string& name) {
  const Fd dir = open_in(system, into, name, O_RDONLY | O_DIRECTORY);
  std::vector<std::string> files;
  if (!dir || system.names_in(dir.get(), &files) != 0 || !std::ranges::all_of(files, is_kept_file)) return;
  for (const std::string& file : files) system.unlinkat(dir.get(), file.c_str());
  unlinkat(into, name.c_str(), AT_REMOVEDIR);
}

// Removes the oldest folders of `path` beyond the newest; `newest` is one of those whatever its time. Links are not followed.
void keep_newest(Fs& system, const std::string& path, const std::string& newest) {
  const Fd into = open_in(system, AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
  std::vector<std::string> names;
  if (!into || system.names_in(into.get(), &names) != 0 || names.size() <= kMostKept) return;
  struct Kept {
    timespec time;
    std::string name;
  };
  std::vector<Kept> others;
  for (const std::string& name : names) {
    struct stat found {};
    if (name == newest || !is_kept_name(name) || system.lstatat(into.get(), name.c_str(), &found) != 0) continue;
    if (S_ISDIR(found.st_mode) && found.st_uid == geteuid()) others.push_back({found.st_mtim, name});
  }
  std::ranges::sort(others, std::greater<>(), [](const Kept& k) { return std::tuple(k.time.tv_sec, k.time.tv_nsec, k.name); });
  for (size_t i = kMostKept - 1; i < others.size(); ++i) remove_kept(system, into.get(), others[i].name);
}

struct Place {
  std::string path;  // empty: there is none
  bool ours = false;
};

Place place(const DiskCache& cache) {
  if (auto given = knob("LATHE_KEEP_DIR")) return {*given};
  if (!cache.on_disk() || !cache.writable()) return {};
  return {cache.root() + "/lathe-failed", true};
}

}  // namespace

std::string keep_source(const DiskCache& cache, const KernelRequest& request, std::string_view key, std::string_view source,
                        std::string_view log) {
  const auto [into, ours] = place(cache);
  if (into.empty()) return {};
  std::error_code error;
  if (fs::create_directories(into, error)) fs::permissions(into, fs::perms::owner_all, error);
  const std::string name = request.family + "-" + request.arch + "-" + digest_of(std::as_bytes(std::span(key))).hex();
  const std::string path = into + "/" + name;
  Fs& system = real_fs();
  // What is there already must be a folder and no link to one; below it, files are published whole, never through a link.
  if (system.mkdirat(AT_FDCWD, path.c_str(), 0700) != 0 && errno != EEXIST) return {};
  const Fd dir = open_in(system, AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
  const Trust us{geteuid()};
  auto write = [&](const char* file, std::string_view text) {
    return publish_file(system, dir.get(), file, std::as_bytes(std::span(text)), us, /*sync=*/false);
  };
  if (!dir || !write(kSource, source)) return {};
  write(kKey, key_text(key));
  if (!log.empty()) write(kLog, log);
  if (ours) keep_newest(system, into, name);
  return path;
}

}  // namespace lathe
