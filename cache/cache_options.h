// How a kernel cache is to be used, and where that is said.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

enum class CacheMode : uint8_t { read_write, read_only, off };

/// Whether an entry is brought to the disk (fsync) before it gets its name. Its checksum makes this a matter of what is left after
/// a power failure, not of what is believed. automatic: on network file systems, which report failed writes only then.
enum class CacheSync : uint8_t { automatic, always, never };

struct CacheOptions {
  std::string root;  // an absolute path; empty: default_root()
  CacheMode mode = CacheMode::read_write;
  bool shared = false;  // accept a root that the group may write, and the group's entries in it
  /// Absolute paths of bundles (bundle.h): looked into before the root, in this order, in every mode.
  std::vector<std::string> bundles{};
  uint64_t max_bytes = uint64_t{2} << 30;  // of the root; 0: no limit
  int lock_wait_ms = 10'000;               // the longest wait for another process that has missed the same key; 0: no locks
  CacheSync sync = CacheSync::automatic;

  /// From LATHE_CACHE_MODE, _SHARED, _SIZE, _FSYNC and LATHE_BUNDLE, read now. A mode that is not one of rw, ro, off counts as off;
  /// a size or sync that is none counts as unset; each with a warning.
  static CacheOptions from_environment();
};

/// A number of bytes as people write it: "4096", "300K", "64M", "2G" (powers of 1024). Nothing for any other text.
std::optional<uint64_t> parse_bytes(std::string_view text);

}  // namespace lathe
