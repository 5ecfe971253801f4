// Looking at the kernel cache without making one.
#pragma once

#include <memory>

#include "lathe/cache/disk_cache.h"

namespace lathe::cli {

/// The cache of the environment, opened for reading only: where there is none, none is made. Why it cannot be used is the caller's
/// to tell, from why_off(); the log is kept out of it.
std::unique_ptr<DiskCache> look_at_cache();

/// What to tell where `cache` has no root.
Status cache_is_off(const DiskCache& cache);

/// `path` as the cache wants it: absolute.
std::string absolute_path(const std::string& path);

}  // namespace lathe::cli
