// Keeping what was compiled for people to look at: of failed compiles, and of all under LATHE_DEBUG=3.
#pragma once

#include <string>
#include <string_view>

#include "lathe/jit/engine.h"

namespace lathe {

/// Makes a folder `<family>-<arch>-<hex>` with all that it takes to repeat a compile: kernel.cu, the text that the compiler saw;
/// key, as text, whose last line names the compiler and its options; log, when there is one. It lies in LATHE_KEEP_DIR, else in
/// lathe-failed below the cache's root, which keeps the newest 64 folders. The folder's path; empty when it could not be written or
/// there is nowhere to put it.
std::string keep_source(const DiskCache& cache, const KernelRequest& request, std::string_view key, std::string_view source,
                        std::string_view log);

}  // namespace lathe
