// One cache entry as one run of bytes: docs/cache-format.md. Pure functions of their arguments, thread-safe.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>

#include "lathe/base/bytes.h"
#include "lathe/base/status.h"

namespace lathe {

/// Version of the layout, in the header and in the directory's name. Anything that changes the meaning of a byte raises it, so that
/// two versions of the library never read each other's entries.
inline constexpr uint32_t kCacheSchema = 1;

/// Upper bounds of the three parts, in bytes. Far above any real kernel; they bound what a hostile file can make a reader allocate.
inline constexpr uint64_t kMaxKeyBytes = uint64_t{16} << 20;
inline constexpr uint64_t kMaxMetadataBytes = uint64_t{1} << 20;
inline constexpr uint64_t kMaxPayloadBytes = uint64_t{256} << 20;

inline constexpr uint64_t kEntryHeaderBytes = 40;
inline constexpr uint64_t kEntryTrailerBytes = 16;
inline constexpr uint64_t kMaxEntryBytes =
    kEntryHeaderBytes + kMaxKeyBytes + kMaxMetadataBytes + kMaxPayloadBytes + kEntryTrailerBytes;

struct Entry {
  std::string key;       // the full key material, any bytes; compared on a hit
  std::string metadata;  // JSON text, opaque here
  Bytes payload;         // the compiled kernel
};

/// Whether each part is within its bound: what decode(encode(entry)) accepts.
bool within_limits(const Entry& entry);

/// The file's bytes. Never fails; an entry outside the limits gives bytes that decode refuses. Another schema is for tests, which
/// need two versions of the library.
Bytes encode(const Entry& entry, uint32_t schema = kCacheSchema);

/// Reads any bytes whatsoever. Refuses (invalid_argument, saying what is wrong) all but the exact output of encode for an entry
/// within the limits, as far as a 128-bit checksum can tell. It does not authenticate: whoever can write the file can make a valid
/// one.
Result<Entry> decode(BytesView file, uint32_t schema = kCacheSchema);

/// The key in the first bytes of a file, without a look at the checksum: to find an entry by, which decode then verifies. Nothing
/// when `start` does not hold a whole header and key.
std::optional<std::string> key_in(BytesView start, uint32_t schema = kCacheSchema);

/// XXH3-128: names entries and detects damage. Not a cryptographic hash.
struct Digest {
  uint64_t hi = 0, lo = 0;

  std::string hex() const;  ///< 32 lower-case digits, hi first
  auto operator<=>(const Digest&) const = default;
};

Digest digest_of(BytesView bytes);

}  // namespace lathe
