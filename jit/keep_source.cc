#include "lathe/jit/keep_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <span>
#include <system_error>

#include "lathe/base/knobs.h"
#include "lathe/jit/compile_key.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// Never through a link, and never half: a temporary file takes the name when it is whole.
bool write_file(const std::string& path, std::string_view text) {
  const std::string temporary = path + "." + std::to_string(getpid());
  Fd fd = open_in(real_fs(), AT_FDCWD, temporary, O_WRONLY | O_CREAT | O_EXCL, 0600);
  if (!fd) return false;
  bool written = write_full(real_fs(), fd.get(), std::as_bytes(std::span(text)));
  bool closed = fd.close();
  if (written && closed && std::rename(temporary.c_str(), path.c_str()) == 0) return true;
  unlink(temporary.c_str());
  return false;
}

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
  const std::string stem = into + "/" + request.family + "-" + request.arch + "-" + digest_of(std::as_bytes(std::span(key))).hex();
  if (!write_file(stem + ".cu", source)) return {};
  write_file(stem + ".key", key_text(key));
  if (!log.empty()) write_file(stem + ".log", log);
  return stem + ".cu";
}

}  // namespace lathe
