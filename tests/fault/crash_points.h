// Where a process may die on its way through the cache: the moments that leave something different behind.
#pragma once

#include <array>
#include <ostream>

namespace lathe::testing {

struct CrashPoint {
  const char* name;
  const char* when;     // before | after
  const char* call;     // as the shim names it
  const char* pattern;  // of the call's path
};

/// Names the case in ctest's list.
inline void PrintTo(const CrashPoint& point, std::ostream* out) {
  *out << point.name;
}

inline constexpr std::array kCrashPoints{
    CrashPoint{"root_made", "after", "mkdirat", "*/root"},
    CrashPoint{"schema_made", "after", "mkdirat", "*/root/v1"},
    CrashPoint{"shard_made", "after", "mkdirat", "*/root/v1/[0-9a-f][0-9a-f]"},
    CrashPoint{"lock_file_opened", "after", "openat", "*/root/locks"},
    CrashPoint{"lock_taken", "after", "lock", "*/root/locks"},
    CrashPoint{"lock_kept", "before", "unlock", "*/root/locks"},
    CrashPoint{"lock_dropped", "after", "unlock", "*/root/locks"},
    CrashPoint{"publish_begun", "after", "openat", "*/root/v1/*/*.tmp"},
    CrashPoint{"publish_partly_written", "after", "write", "*/root/v1/*/*.tmp"},
    CrashPoint{"publish_synced", "after", "fsync", "*/root/v1/*/*.tmp"},
    CrashPoint{"publish_written", "before", "close", "*/root/v1/*/*.tmp"},
    CrashPoint{"publish_closed", "before", "renameat", "*/root/v1/*/*.tmp"},
    CrashPoint{"publish_done", "after", "renameat", "*/root/v1/*/*.tmp"},
    CrashPoint{"entry_opened", "after", "openat", "*/root/v1/*/*.lathe"},
    CrashPoint{"entry_partly_read", "after", "read", "*/root/v1/*/*.lathe"},
    CrashPoint{"entry_refreshed", "after", "futimens", "*/root/v1/*/*.lathe"},
    CrashPoint{"quarantine_begun", "before", "renameat", "*/root/v1/*/*.lathe"},
    CrashPoint{"quarantine_done", "after", "renameat", "*/root/v1/*/*.lathe"},
    CrashPoint{"trim_clock_made", "after", "openat", "*/root/v1/00/????????????????.tmp"},
    CrashPoint{"trim_litter_removed", "after", "unlinkat", "*/root/v1/00/*"},
    CrashPoint{"trim_entry_removed", "after", "unlinkat", "*/root/v1/*/*.lathe"},
    CrashPoint{"bundle_entry_closed", "before", "renameat", "*/bundle/v1/*/*.tmp"},
    CrashPoint{"manifest_partly_written", "after", "write", "*/bundle/*.tmp"},
    CrashPoint{"manifest_closed", "before", "renameat", "*/bundle/????????????????.tmp"},
    CrashPoint{"manifest_done", "after", "renameat", "*/bundle/????????????????.tmp"},
    CrashPoint{"failed_source_written", "before", "renameat", "*/lathe-failed/*.tmp"},
};

}  // namespace lathe::testing
