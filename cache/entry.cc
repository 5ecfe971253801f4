#include "lathe/cache/entry.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <span>

namespace lathe {
namespace {

// The first byte is not text and not valid UTF-8; the last two show a file that went through a line-end conversion.
constexpr std::array<uint8_t, 8> kMagic{0x89, 'L', 'A', 'T', 'H', 'E', '\r', '\n'};

template <class T>
void put(Bytes& out, T value) {
  for (size_t i = 0; i < sizeof(T); i++) out.push_back(static_cast<std::byte>(value >> (8 * i)));
}

// Reads little-endian integers one after the other. The caller has checked that they are there.
struct Cursor {
  BytesView rest;

  template <class T>
  T take() {
    T value = 0;
    for (size_t i = 0; i < sizeof(T); i++) value |= std::to_integer<T>(rest[i]) << (8 * i);
    rest = rest.subspan(sizeof(T));
    return value;
  }
  BytesView take_bytes(uint64_t count) {
    BytesView head = rest.first(count);
    rest = rest.subspan(count);
    return head;
  }
};

std::string to_text(BytesView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Status bad(std::string message) {
  return invalid_argument("cache entry", std::move(message));
}

struct Sizes {
  uint64_t key, metadata, payload;

  bool within_limits() const { return key <= kMaxKeyBytes && metadata <= kMaxMetadataBytes && payload <= kMaxPayloadBytes; }
  uint64_t file() const { return kEntryHeaderBytes + key + metadata + payload + kEntryTrailerBytes; }
};

Sizes sizes_of(const Entry& entry) {
  return {entry.key.size(), entry.metadata.size(), entry.payload.size()};
}

// From a header that is all there.
Result<Sizes> sizes_in(BytesView file, uint32_t schema) {
  if (!std::ranges::equal(file.first(kMagic.size()), std::as_bytes(std::span(kMagic)))) {
    return bad("does not start as an entry does");
  }
  Cursor cursor{file.subspan(kMagic.size())};
  if (auto found = cursor.take<uint32_t>(); found != schema) {
    return bad(fmt::format("schema {}, this library reads {}", found, schema));
  }
  if (auto reserved = cursor.take<uint32_t>(); reserved != 0) return bad(fmt::format("reserved field is {}, not 0", reserved));
  Sizes sizes{};
  sizes.key = cursor.take<uint64_t>();
  sizes.metadata = cursor.take<uint64_t>();
  sizes.payload = cursor.take<uint64_t>();
  // Bounded first, so that their sum cannot wrap.
  if (!sizes.within_limits()) {
    return bad(fmt::format("sizes {}, {}, {} exceed the limits {}, {}, {}", sizes.key, sizes.metadata, sizes.payload, kMaxKeyBytes,
                           kMaxMetadataBytes, kMaxPayloadBytes));
  }
  return sizes;
}

}  // namespace

bool within_limits(const Entry& entry) {
  return sizes_of(entry).within_limits();
}

Bytes encode(const Entry& entry, uint32_t schema) {
  Sizes sizes = sizes_of(entry);
  Bytes out;
  out.reserve(sizes.file());
  for (uint8_t c : kMagic) out.push_back(std::byte{c});
  put(out, schema);
  put(out, uint32_t{0});  // reserved
  put(out, sizes.key);
  put(out, sizes.metadata);
  put(out, sizes.payload);
  for (const std::string* text : {&entry.key, &entry.metadata}) {
    BytesView bytes = std::as_bytes(std::span(*text));
    out.insert(out.end(), bytes.begin(), bytes.end());
  }
  out.insert(out.end(), entry.payload.begin(), entry.payload.end());
  Digest digest = digest_of(out);
  put(out, digest.hi);
  put(out, digest.lo);
  return out;
}

Result<Entry> decode(BytesView file, uint32_t schema) {
  constexpr uint64_t least = kEntryHeaderBytes + kEntryTrailerBytes;
  if (file.size() < least) return bad(fmt::format("{} bytes, fewer than the {} of an empty entry", file.size(), least));
  Result<Sizes> header = sizes_in(file, schema);
  LATHE_TRY(header);
  const Sizes& sizes = *header;
  if (file.size() != sizes.file()) return bad(fmt::format("{} bytes, its header says {}", file.size(), sizes.file()));

  Digest actual = digest_of(file.first(file.size() - kEntryTrailerBytes));
  Cursor trailer{file.last(kEntryTrailerBytes)};
  Digest stored;
  stored.hi = trailer.take<uint64_t>();
  stored.lo = trailer.take<uint64_t>();
  if (actual != stored) return bad(fmt::format("checksum {}, its bytes give {}", stored.hex(), actual.hex()));

  Cursor cursor{file.subspan(kEntryHeaderBytes)};
  Entry entry;
  entry.key = to_text(cursor.take_bytes(sizes.key));
  entry.metadata = to_text(cursor.take_bytes(sizes.metadata));
  BytesView payload = cursor.take_bytes(sizes.payload);
  entry.payload.assign(payload.begin(), payload.end());
  return entry;
}

std::optional<std::string> key_in(BytesView start, uint32_t schema) {
  if (start.size() < kEntryHeaderBytes) return std::nullopt;
  Result<Sizes> sizes = sizes_in(start, schema);
  if (!sizes || start.size() - kEntryHeaderBytes < sizes->key) return std::nullopt;
  return to_text(start.subspan(kEntryHeaderBytes, sizes->key));
}

std::string Digest::hex() const {
  return fmt::format("{:016x}{:016x}", hi, lo);
}

Digest digest_of(BytesView bytes) {
  XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.high64, hash.low64};
}

}  // namespace lathe
