// The kernel cache on disk: one verified entry per file, docs/cache-format.md. It knows bytes, not kernels.
//
// Trouble here is never an error: a find that cannot answer is a miss, a store that cannot write stores nothing, and a counter and
// one warning tell of it.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lathe/cache/entry.h"
#include "lathe/cache/root.h"

namespace lathe {

enum class CacheMode : uint8_t { read_write, read_only, off };

struct CacheOptions {
  std::string root;  // an absolute path; empty: default_root()
  CacheMode mode = CacheMode::read_write;
  bool shared = false;  // accept a root that the group may write, and the group's entries in it

  /// From LATHE_CACHE_MODE and LATHE_CACHE_SHARED, read now. A mode that is not one of rw, ro, off counts as off, with a warning.
  static CacheOptions from_environment();
};

struct CacheStats {
  uint64_t hits = 0, misses = 0, stores = 0;
  uint64_t rejected = 0;    // files that are no entry (damaged, another schema) or whose owner or mode is not trusted; misses too
  uint64_t collisions = 0;  // entries of the right name and another key; misses too
  uint64_t errors = 0;  // failed calls to the system, directories below the root that are not trusted: a miss, or nothing stored
  uint64_t bytes_read = 0, bytes_written = 0;  // of whole files
};

/// What tests replace: the system, and the number of hash bits that name an entry (1 to 64; 128 in earnest).
struct CacheSeams {
  Fs& fs = real_fs();
  unsigned hash_bits = 128;
};

/// Thread-safe, and usable by several processes on one root, also across fork. It holds a directory descriptor and counters;
/// entries are neither kept in memory nor locked.
class DiskCache {
 public:
  /// Opens or makes the root. Never fails: where the root cannot be used the cache is off, with one warning.
  explicit DiskCache(CacheOptions options, CacheSeams seams = {});

  /// The whole, verified entry whose stored key equals `key`; nothing on any trouble. The bytes are the caller's own: what happens
  /// to the file afterwards does not reach them.
  std::optional<Entry> find(const std::string& key);

  /// Publishes `entry` under its key, whole or not at all, in place of what was there; false on any trouble, when the cache is not
  /// writable, and for an entry outside within_limits.
  bool store(const Entry& entry);

  bool on_disk() const { return static_cast<bool>(root_.dir); }
  bool writable() const { return root_.writable; }
  std::string root() const { return path_; }        ///< the path as asked for; empty when none was found
  std::string why_off() const { return why_off_; }  ///< empty while on_disk
  CacheStats stats() const;

  struct Listing {
    std::string name;  // 32 hex digits
    uint64_t bytes = 0;
    int64_t mtime = 0;  // seconds since 1970
  };
  /// The entries that are there now, by name; what cannot be read is left out. Does not look inside the files.
  std::vector<Listing> list() const;

  /// The entry of this name, as listed. invalid_argument for a name that is not 32 lower-case hex digits or a file that is not an
  /// entry, unavailable for one that cannot be read. Counts nothing.
  Result<Entry> read_file(const std::string& hex_name) const;

  /// Where the entry of `key` lies; for messages only. Empty when not on_disk.
  std::string path_of(const std::string& key) const;

 private:
  struct Read;

  std::string name_of(const std::string& key) const;
  Fd open_shard(const std::string& name, bool create) const;
  Read read(const std::string& name) const;
  bool publish(const std::string& name, BytesView file) const;  // false with errno
  void warn(const char* what, const std::string& message) const;

  Fs& fs_;
  const unsigned hash_bits_;
  Trust trust_;
  std::string path_, why_off_;
  Root root_;

  struct Counters {
    std::atomic<uint64_t> hits, misses, stores, rejected, collisions, errors, bytes_read, bytes_written;
  };
  Counters count_{};
};

}  // namespace lathe
