// Cache entries: any bytes, and the same with the checksum that they should have, which fuzzing would never guess.
#include <algorithm>
#include <span>

#include "fuzz.h"
#include "lathe/cache/entry.h"

namespace {

using namespace lathe;

void read(BytesView file) {
  const Result<Entry> entry = decode(file);
  const std::optional<std::string> key = key_in(file);
  if (!entry) return;
  testing::require(within_limits(*entry), "what is read is within the limits");
  const Bytes again = encode(*entry);
  testing::require(std::ranges::equal(again, file), "one entry has one form");
  testing::require(key == entry->key, "the key is found without reading the rest");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const BytesView file = std::as_bytes(std::span(data, size));
  read(file);
  if (size < kEntryHeaderBytes + kEntryTrailerBytes) return 0;
  Bytes mended(file.begin(), file.end());
  const Digest digest = digest_of(file.first(size - kEntryTrailerBytes));
  auto trailer = std::span(mended).last(kEntryTrailerBytes);
  for (size_t i = 0; i < 8; i++) {
    trailer[i] = static_cast<std::byte>(digest.hi >> (8 * i));
    trailer[8 + i] = static_cast<std::byte>(digest.lo >> (8 * i));
  }
  read(mended);
  return 0;
}
