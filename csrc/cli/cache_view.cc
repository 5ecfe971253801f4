#include "cache_view.h"

#include <filesystem>
#include <system_error>

#include "lathe/base/log.h"

namespace lathe::cli {

std::unique_ptr<DiskCache> look_at_cache() {
  CacheOptions options = CacheOptions::from_environment();
  if (options.mode == CacheMode::read_write) options.mode = CacheMode::read_only;
  set_log_callback([](LogLevel, std::string_view) {});
  auto cache = std::make_unique<DiskCache>(options);
  set_log_callback({});
  return cache;
}

Status cache_is_off(const DiskCache& cache) {
  return {Code::unavailable, cache.why_off(), "kernel cache" + (cache.root().empty() ? "" : " " + cache.root())};
}

std::string absolute_path(const std::string& path) {
  std::error_code error;
  const std::filesystem::path out = std::filesystem::absolute(path, error);
  return error ? path : out.lexically_normal().string();
}

}  // namespace lathe::cli
