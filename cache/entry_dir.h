// The entries of one root as files: <root>/v<schema>/<2 digits>/<32 digits>.lathe, docs/cache-format.md. It reads, writes and lists
// bytes by name; what is in them is the caller's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/base/bytes.h"
#include "lathe/cache/entry.h"
#include "lathe/cache/root.h"

namespace lathe {

/// Whether `name` is an entry's: 32 lower-case hex digits.
bool is_entry_name(std::string_view name);

/// What reading one file gave.
struct FileRead {
  enum class Outcome : uint8_t { whole, absent, refused, failed };
  Outcome outcome = Outcome::failed;
  Bytes bytes;
  std::string why;    // for refused (what it is makes it no entry of ours) and failed (a call to the system did)
  int64_t mtime = 0;  // seconds since 1970
  Fd fd;              // open on the file that was read; for whole

  static FileRead refuse(std::string why);
};

/// A file below the schema's directory.
struct EntryFile {
  enum class Kind : uint8_t { entry, temporary, quarantined };
  Kind kind = Kind::entry;
  std::string name;   // of the entry, or of a temporary file without its ending
  std::string shard;  // its directory
  uint64_t bytes = 0;
  timespec mtime{};
};

/// Thread-safe; holds one directory descriptor. May be default-made: then there is no root, and everything fails with ENOENT.
class EntryDir {
 public:
  EntryDir() = default;
  EntryDir(Fs& fs, const Trust& trust, Root root, uint32_t schema = kCacheSchema)
      : fs_(&fs), trust_(trust), root_(std::move(root)), schema_(schema) {}

  explicit operator bool() const { return static_cast<bool>(root_.dir); }
  bool writable() const { return root_.writable; }
  int root() const { return root_.dir.get(); }
  Fs& fs() const { return *fs_; }
  const Trust& trust() const { return trust_; }

  /// The file of entry `name`: a trusted regular file of at most kMaxEntryBytes, read once. A file that a network file system has
  /// lost underneath (ESTALE) is absent.
  FileRead read(const std::string& name) const;
  /// At most its first `most` bytes; the same checks.
  FileRead read_start(const std::string& name, size_t most) const;
  /// Marks a file that was read as used now, at most once an hour. Failure does not matter.
  void refresh(const FileRead& file) const;

  /// Makes `bytes` the file of entry `name`: whole or not at all, in place of what was there. With `sync`, it is on the disk before
  /// it gets its name. False with errno on failure.
  bool publish(const std::string& name, BytesView bytes, bool sync) const;
  /// Sets the file of entry `name` aside as <name>.bad, in place of one set aside before. False with errno on failure.
  bool quarantine(const std::string& name) const;
  /// Removes a listed file. False with errno on failure.
  bool remove(const EntryFile& file) const;

  /// What is there, in no order; what cannot be read is left out, and `complete`, when given, says whether nothing was. Does not
  /// look inside the files.
  std::vector<EntryFile> files(bool* complete = nullptr) const;
  /// The time of the file system's own clock, from a file made and removed for it; nothing on failure.
  std::optional<timespec> time_here() const;

  /// "v1/ab/ab...lathe"
  std::string path_of(const std::string& name) const;

 private:
  FileRead read_most(const std::string& name, uint64_t most) const;
  bool add_files(int schema, const std::string& shard_name, std::vector<EntryFile>& out) const;
  Fd open_schema(bool create) const;
  Fd open_shard(const std::string& name, bool create) const;

  Fs* fs_ = &real_fs();
  Trust trust_;
  Root root_;
  uint32_t schema_ = kCacheSchema;
};

/// Writes `bytes` as the file `name` in the open directory `dir`, as EntryDir::publish does.
bool publish_file(Fs& fs, int dir, const std::string& name, BytesView bytes, const Trust& trust, bool sync);

}  // namespace lathe
