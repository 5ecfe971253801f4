// Keeping a root within its size.
#pragma once

#include <cstdint>
#include <string>

#include "lathe/cache/entry_dir.h"

namespace lathe {

struct TrimReport {
  uint64_t entries = 0, bytes = 0;                  // left; bytes of all files
  uint64_t removed_entries = 0, removed_bytes = 0;  // bytes of all files
  uint64_t removed_litter = 0;                      // temporary and quarantined files
};

/// One that is about to be stored.
struct NewEntry {
  std::string name;    // what it replaces, if there is such an entry
  uint64_t bytes = 0;  // 0: none is
};

/// Removes temporary files of an hour and quarantined files of a day, by the file system's own clock; then, if what is left and
/// what is coming are more than `max_bytes` (0: any number is allowed), what is in quarantine and the entries longest not used,
/// until nine tenths of it are taken. The entry used last stays, whatever its size: that is the one that is coming, if there is
/// one. Readers are not disturbed: they have the file open, or miss. What cannot be removed is left. The report leaves out what is
/// replaced.
TrimReport trim(const EntryDir& dir, uint64_t max_bytes, const NewEntry& coming);

}  // namespace lathe
