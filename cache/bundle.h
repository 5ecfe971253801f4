// Bundles: entries that were compiled ahead of time, as a folder that can be copied anywhere, docs/bundle-format.md. A bundle is
// laid out as a cache root is; its manifest pins each entry by SHA-256, and no other entry in it is ever served.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/cache/entry_dir.h"
#include "lathe/cache/sha256.h"

namespace lathe {

inline constexpr const char* kManifestName = "manifest";
inline constexpr uint64_t kMaxManifestBytes = uint64_t{16} << 20;
inline constexpr uint64_t kMaxBundleBytes = uint64_t{16} << 30;  // of all entries together

struct BundleItem {
  std::string name;  // of the entry: 32 hex digits
  uint64_t bytes = 0;
  Sha256 digest;  // of the file
  bool operator==(const BundleItem&) const = default;
};

/// The manifest of `items`, which are sorted by name.
std::string manifest_text(const std::vector<BundleItem>& items);

/// Reads any text whatsoever; accepts exactly what manifest_text prints for sizes within the limits and sorted, distinct names.
/// Otherwise invalid_argument, naming the line.
Result<std::vector<BundleItem>> parse_manifest(std::string_view text);

/// An open bundle, for reading. Thread-safe.
class Bundle {
 public:
  /// Opens the bundle at absolute `path`: a directory that `trust` believes, with a manifest. unavailable with the reason when it
  /// cannot be opened, invalid_argument when its manifest is not one.
  static Result<Bundle> open(Fs& fs, const std::string& path, const Trust& trust);

  const std::string& path() const { return path_; }
  const std::vector<BundleItem>& items() const { return items_; }
  /// SHA-256 of the manifest: pins all of the bundle.
  const Sha256& digest() const { return digest_; }

  /// The bytes of entry `name`: absent when the manifest has not got it, refused when the file is not what the manifest says.
  FileRead read(const std::string& name) const;
  /// As above, decoded; also refused unless its key gives its name. The Status says what is wrong.
  Result<Entry> entry(const std::string& name) const;
  /// As EntryDir::read_start, for entries of the manifest; not verified.
  FileRead read_start(const std::string& name, size_t most) const;

 private:
  const BundleItem* find(const std::string& name) const;

  std::string path_;
  EntryDir dir_;
  std::vector<BundleItem> items_;  // sorted by name
  Sha256 digest_;
};

struct SealReport {
  uint64_t entries = 0, bytes = 0;
  std::vector<std::string> left_out;  // "name: why", files that are no sound entries
  Sha256 digest;                      // of the manifest
};

/// Writes the manifest of all sound entries in the cache root at absolute `path`, which makes it a bundle; in place of an older
/// manifest, whole or not at all. unavailable when it cannot be written.
Result<SealReport> seal_bundle(Fs& fs, const std::string& path, const Trust& trust);

}  // namespace lathe
