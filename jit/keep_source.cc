#include "lathe/jit/keep_source.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <span>
#include <system_error>

#include "lathe/base/knobs.h"
#include "lathe/jit/compile_key.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

std::string folder(const DiskCache& cache) {
  if (auto given = knob("LATHE_KEEP_DIR")) return *given;
  return cache.on_disk() && cache.writable() ? cache.root() + "/lathe-failed" : std::string();
}

}  // namespace

std::string keep_source(const DiskCache& cache, const KernelRequest& request, std::string_view key, std::string_view source,
                        std::string_view log) {
  const std::string into = folder(cache);
  if (into.empty()) return {};
  std::error_code error;
  if (fs::create_directories(into, error)) fs::permissions(into, fs::perms::owner_all, error);
  const std::string path = into + "/" + request.family + "-" + request.arch + "-" + digest_of(std::as_bytes(std::span(key))).hex();
  Fs& system = real_fs();
  // What is there already must be a folder and no link to one; below it, files are published whole, never through a link.
  if (system.mkdirat(AT_FDCWD, path.c_str(), 0700) != 0 && errno != EEXIST) return {};
  const Fd dir = open_in(system, AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
  const Trust us{geteuid()};
  auto write = [&](const char* name, std::string_view text) {
    return publish_file(system, dir.get(), name, std::as_bytes(std::span(text)), us, /*sync=*/false);
  };
  if (!dir || !write("kernel.cu", source)) return {};
  write("key", key_text(key));
  if (!log.empty()) write("log", log);
  return path;
}

}  // namespace lathe
