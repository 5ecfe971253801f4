// Keeping sources for people to look at: of failed compiles, and of all under LATHE_DEBUG=3.
#pragma once

#include <string>
#include <string_view>

#include "lathe/jit/engine.h"

namespace lathe {

/// Writes `<family>-<arch>-<hex>.cu`, with the key as text beside it (.key) and the log when there is one (.log), into
/// LATHE_KEEP_DIR, else into lathe-failed below the cache's root. The path of the source; empty when it could not be written or
/// there is no folder.
std::string keep_source(const DiskCache& cache, const KernelRequest& request, std::string_view key, std::string_view source,
                        std::string_view log);

}  // namespace lathe
