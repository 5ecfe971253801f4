#include "cache_view.h"

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

}  // namespace lathe::cli
