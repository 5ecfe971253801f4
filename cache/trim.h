// Keeping a root within its size.
#pragma once

#include <cstdint>

#include "lathe/cache/entry_dir.h"

namespace lathe {

struct TrimReport {
  uint64_t entries = 0, bytes = 0;                  // left; bytes of all files
  uint64_t removed_entries = 0, removed_bytes = 0;  // bytes of all files
  uint64_t removed_litter = 0;                      // temporary and quarantined files
};

/// Removes temporary files of an hour and quarantined files of a day, by the file system's own clock; then, if more than
/// `max_bytes` are left (0: any number is allowed), what is in quarantine and the entries longest not used, until nine tenths of it
/// are. The entry used last stays, whatever its size. Readers are not disturbed: they have the file open, or miss. What cannot be
/// removed is left.
TrimReport trim(const EntryDir& dir, uint64_t max_bytes);

}  // namespace lathe
