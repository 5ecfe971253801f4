// Entries from a cache into a bundle and back.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lathe/cache/bundle.h"
#include "lathe/cache/disk_cache.h"

namespace lathe {

/// Adds the entries `names` of the root of `from`, or all of them when there are none, to the bundle at absolute `path`, which is
/// made if need be, and writes its manifest. Nothing is written unless all of them are sound: invalid_argument names the first that
/// is not.
Result<SealReport> export_bundle(const DiskCache& from, const std::vector<std::string>& names, const std::string& path);

struct ImportReport {
  uint64_t entries = 0, bytes = 0;
};

/// Stores every entry of `bundle` in the root of `into`. Nothing is stored unless all of them are what the manifest says and sound:
/// invalid_argument names the first that is not. unavailable when one could not be stored.
Result<ImportReport> import_bundle(const Bundle& bundle, DiskCache& into);

}  // namespace lathe
