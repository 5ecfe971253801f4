// The kernel cache on disk: one verified entry per file, docs/cache-format.md. It knows bytes, not kernels.
//
// Trouble here is never an error: a find that cannot answer is a miss, a store that cannot write stores nothing, and a counter and
// one warning tell of it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/cache/bundle.h"
#include "lathe/cache/cache_options.h"
#include "lathe/cache/entry.h"
#include "lathe/cache/entry_dir.h"
#include "lathe/cache/key_lock.h"
#include "lathe/cache/trim.h"

namespace lathe {

struct CacheStats {
  uint64_t hits = 0, misses = 0, stores = 0;
  uint64_t rejected = 0;     // files that are no entry (damaged, another schema), not trusted, or not what a bundle's manifest says
  uint64_t quarantined = 0;  // of these, and of those that a driver refused: set aside in the root
  uint64_t collisions = 0;   // entries of the right name and another key
  uint64_t errors = 0;       // failed calls to the system, directories below the root that are not trusted
  uint64_t waits = 0;        // misses that waited for another process
  uint64_t evicted = 0;      // entries that this cache trimmed
  uint64_t bytes_read = 0, bytes_written = 0;  // of whole files
};

/// What tests replace: the system, the number of hash bits that name an entry (1 to 64; 128 in earnest), the version of the layout.
struct CacheSeams {
  Fs& fs = real_fs();
  unsigned hash_bits = 128;
  uint32_t schema = kCacheSchema;
};

/// Where a key was found, unverified.
struct KeyPlace {
  std::string key;
  std::string name;   // of its entry
  size_t bundle = 0;  // which of the bundles; their number: the root
};

/// Thread-safe, and usable by several processes on one root, also across fork. It holds directory descriptors and counters; entries
/// are not kept in memory.
class DiskCache {
 public:
  /// Opens the bundles, and opens or makes the root. Never fails: where the root or a bundle cannot be used the cache does without,
  /// with one warning.
  explicit DiskCache(CacheOptions options, CacheSeams seams = {});
  ~DiskCache();
  DiskCache(const DiskCache&) = delete;
  DiskCache& operator=(const DiskCache&) = delete;

  /// The whole, verified entry whose stored key equals `key`, from the first bundle that has it, else from the root; nothing on any
  /// trouble. The bytes are the caller's own: what happens to the file afterwards does not reach them. A file in the root that is
  /// there and is no entry is set aside.
  std::optional<Entry> find(const std::string& key);

  /// As find; on a miss, `lock` becomes the lock of `key`, to be held until the entry is stored. When another process has it, waits
  /// for that one, at most CacheOptions::lock_wait_ms, and looks again. Without locks, or at the end of the wait, `lock` stays
  /// empty: it only saves work.
  std::optional<Entry> find_or_lock(const std::string& key, KeyLock& lock);

  /// As find, for an entry whose key begins with `prefix`: in the first place that has one, that with the greatest key. For callers
  /// who cannot know the end of the key. Reads the start of every file.
  std::optional<Entry> find_prefix(const std::string& prefix);

  /// Publishes `entry` under its key, whole or not at all, in place of what was there; false on any trouble, when the cache is not
  /// writable, for an entry outside within_limits, and for a payload that was rejected. Makes room for it first.
  bool store(const Entry& entry);

  /// `payload`, found under `key`, is sound as a file and still useless (a driver refuses it): it is set aside in the root, and
  /// this cache finds or stores it no more, wherever it lies.
  void reject(const std::string& key, BytesView payload);

  /// Trims the root to `max_bytes` now (trim.h); nothing when it is not writable, or when others trim or store for all of `wait`.
  std::optional<TrimReport> trim(uint64_t max_bytes, std::chrono::milliseconds wait = std::chrono::milliseconds(0));

  bool on_disk() const { return static_cast<bool>(dir_); }
  bool writable() const { return dir_.writable(); }
  std::string root() const { return path_; }                       ///< the path as asked for; empty when none was found
  std::string why_off() const { return why_off_; }                 ///< empty while on_disk
  const std::vector<Bundle>& bundles() const { return bundles_; }  ///< those in use
  const std::vector<Status>& bundle_troubles() const { return bundle_troubles_; }  ///< of those that are not
  CacheStats stats() const;

  struct Listing {
    std::string name;  // 32 hex digits
    uint64_t bytes = 0;
    int64_t mtime = 0;  // seconds since 1970
  };
  /// The entries that are in the root now, by name; what cannot be read is left out. Does not look inside the files.
  std::vector<Listing> list() const;

  /// All keys, in the order of the places and there by key, as they stand in the files; unverified. Of each place at most `most`:
  /// of the root those used last. Keys of more than 64 KB are left out.
  std::vector<KeyPlace> keys(size_t most = SIZE_MAX) const;

  /// The entry of this name in the root, as listed. invalid_argument for a name that is not 32 lower-case hex digits or a file that
  /// is not an entry, unavailable for one that cannot be read. Counts nothing.
  Result<Entry> read_file(const std::string& hex_name) const;

  /// Where the entry of `key` lies in the root; for messages only. Empty when not on_disk.
  std::string path_of(const std::string& key) const;

 private:
  std::string name_of(const std::string& key) const;
  std::optional<Entry> look(const std::string& key);
  std::optional<Entry> accept(const FileRead& file, const std::string& name, const std::string& key, bool in_root);
  bool is_rejected(BytesView payload) const;
  void set_aside(const std::string& name);
  void open_bundles(const std::vector<std::string>& paths);
  void open_lock_dir();
  KeyLock make_room(const std::string& name, uint64_t bytes);
  KeyLock lock_trimmer(std::chrono::milliseconds wait, bool& busy);
  TrimReport trim_now(uint64_t max_bytes, const NewEntry& coming);
  void warn(const char* what, const std::string& message) const;

  const CacheOptions options_;
  Fs& fs_;
  const unsigned hash_bits_;
  const uint32_t schema_;
  const Trust trust_;
  std::string path_, why_off_;
  EntryDir dir_;
  std::vector<Bundle> bundles_;
  std::vector<Status> bundle_troubles_;
  bool sync_ = false, network_ = false;
  Fd lock_dir_;  // where the lock file lies; none: no locks

  // No mutex anywhere: one that was held while the process forked would stay so in the child.
  static constexpr size_t kMostRejected = 64;
  std::array<std::atomic<uint64_t>, kMostRejected> rejected_{};  // digests of payloads, 0: free
  std::atomic<int64_t> unseen_{0};  // bytes that may be stored before the root's size is looked at again
  std::atomic<const std::vector<KeyPlace>*> known_keys_{nullptr};  // as find_prefix first saw them; owned

  struct Counters {
    std::atomic<uint64_t> hits, misses, stores, rejected, quarantined, collisions, errors, waits, evicted, bytes_read,
        bytes_written;
  };
  Counters count_{};
};

}  // namespace lathe
