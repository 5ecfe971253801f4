#include "lathe/cache/entry.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <iterator>
#include <random>
#include <span>

#include "lathe/testing/seed.h"

namespace lathe {
namespace {

using Random = std::mt19937_64;

size_t below(Random& random, size_t bound) {
  return std::uniform_int_distribution<size_t>(0, bound - 1)(random);
}

Entry random_entry(Random& random, size_t most) {
  auto text = [&] {
    std::string out(below(random, most + 1), '\0');
    for (char& c : out) c = static_cast<char>(random());
    return out;
  };
  Entry entry{text(), text(), {}};
  entry.payload.resize(below(random, most + 1));
  for (std::byte& b : entry.payload) b = static_cast<std::byte>(random());
  return entry;
}

void flip(Bytes& bytes, size_t bit) {
  bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
}

void put(Bytes& bytes, size_t at, uint64_t value, size_t width) {
  for (size_t i = 0; i < width; i++) bytes[at + i] = static_cast<std::byte>(value >> (8 * i));
}

// Gives changed bytes the checksum that an attacker, or a bug in encode, would give them.
void seal(Bytes& bytes) {
  Digest digest = digest_of(BytesView(bytes).first(bytes.size() - kEntryTrailerBytes));
  put(bytes, bytes.size() - 16, digest.hi, 8);
  put(bytes, bytes.size() - 8, digest.lo, 8);
}

// What must hold of any input: refused with a reason, or the very bytes that encode gives for what came out.
void expect_total(const Bytes& file) {
  Result<Entry> entry = decode(file);
  if (entry) {
    ASSERT_EQ(encode(*entry), file);
  } else {
    ASSERT_EQ(entry.status().code(), Code::invalid_argument);
    ASSERT_FALSE(entry.status().message().empty());
  }
}

Entry small_entry() {
  return {std::string("key\0\xff", 5), "{\"smem\":49152}", {std::byte{0x7f}, std::byte{'E'}, std::byte{'L'}, std::byte{'F'}}};
}

TEST(Entry, GoesRoundUnchanged) {
  Random random(testing::seed());
  for (int i = 0; i < 500; i++) {
    Entry entry = random_entry(random, i < 100 ? size_t{3} : size_t{5000});
    Bytes file = encode(entry);
    ASSERT_EQ(file.size(),
              kEntryHeaderBytes + entry.key.size() + entry.metadata.size() + entry.payload.size() + kEntryTrailerBytes);
    Result<Entry> back = decode(file);
    ASSERT_TRUE(back.ok()) << back.status().to_string();
    ASSERT_EQ(back->key, entry.key);
    ASSERT_EQ(back->metadata, entry.metadata);
    ASSERT_EQ(back->payload, entry.payload);
  }
}

// docs/cache-format.md shows these bytes. A change here needs another kCacheSchema.
TEST(Entry, LayoutIsPinned) {
  const std::vector<unsigned> expected{
      0x89, 'L', 'A', 'T', 'H', 'E', '\r', '\n', 1, 0, 0, 0, 0, 0, 0, 0,  // magic, schema, reserved
      1,    0,   0,   0,   0,   0,   0,    0,    2, 0, 0, 0, 0, 0, 0, 0,  // sizes of key and metadata
      3,    0,   0,   0,   0,   0,   0,    0,                             // size of the payload
      'k',  '{', '}', 1,   2,   3};
  Bytes file = encode({"k", "{}", {std::byte{1}, std::byte{2}, std::byte{3}}});
  ASSERT_EQ(file.size(), expected.size() + kEntryTrailerBytes);
  for (size_t i = 0; i < expected.size(); i++) EXPECT_EQ(std::to_integer<unsigned>(file[i]), expected[i]) << "byte " << i;
  // As libxxhash gives it for the bytes above.
  EXPECT_EQ(digest_of(BytesView(file).first(expected.size())).hex(), "98e21c3c15a873aa50f26b22a7593f54");
  EXPECT_EQ(std::to_integer<unsigned>(file[expected.size()]), 0xaau) << "the high half comes first, least byte first";
}

TEST(Entry, EveryFlippedBitOfHeaderKeyMetadataAndChecksumIsRefused) {
  const Bytes file = encode(small_entry());
  for (size_t bit = 0; bit < 8 * file.size(); bit++) {
    Bytes damaged = file;
    flip(damaged, bit);
    ASSERT_FALSE(decode(damaged).ok()) << "bit " << bit;
  }
  std::printf("%zu bits of a whole file: all refused\n", 8 * file.size());
}

TEST(Entry, RandomFlippedPayloadBitsAreRefused) {
  Random random(testing::seed());
  Entry entry{"key", "{}", Bytes(20000)};
  for (std::byte& b : entry.payload) b = static_cast<std::byte>(random());
  Bytes file = encode(entry);
  const size_t first = 8 * (kEntryHeaderBytes + 5);
  constexpr int kBits = 10'000;
  for (int i = 0; i < kBits; i++) {
    size_t bit = first + below(random, 8 * entry.payload.size());
    flip(file, bit);
    ASSERT_FALSE(decode(file).ok()) << "bit " << bit;
    flip(file, bit);
  }
  EXPECT_TRUE(decode(file).ok());
  std::printf("%d bits of a payload: all refused\n", kBits);
}

TEST(Entry, EveryTruncatedLengthIsRefused) {
  const Bytes file = encode(small_entry());
  for (size_t size = 0; size < file.size(); size++) ASSERT_FALSE(decode(BytesView(file).first(size)).ok()) << size << " bytes";
  std::printf("%zu lengths: all refused\n", file.size());
}

TEST(Entry, AGrownFileIsRefused) {
  const Bytes file = encode(small_entry());
  for (size_t more : {1, 7, 16, 4096}) {
    Bytes grown = file;
    grown.resize(file.size() + more);
    EXPECT_FALSE(decode(grown).ok()) << more << " more bytes";
    seal(grown);
    EXPECT_FALSE(decode(grown).ok()) << more << " more bytes, sealed";
  }
  Bytes twice = file;
  twice.insert(twice.end(), file.begin(), file.end());
  EXPECT_FALSE(decode(twice).ok());
}

// With a right checksum, so that it is the field itself that is looked at.
TEST(Entry, BadHeaderFieldsAreRefusedByName) {
  struct Case {
    size_t at, width;
    uint64_t value;
    const char* says;
  };
  const uint64_t top = ~uint64_t{0};
  for (const Case& c : {Case{0, 1, 'X', "does not start"}, Case{8, 4, kCacheSchema + 1, "schema 2"}, Case{8, 4, 0, "schema 0"},
                        Case{12, 4, 1, "reserved"}, Case{16, 8, top, "exceed the limits"}, Case{16, 8, kMaxKeyBytes + 1, "exceed"},
                        Case{24, 8, kMaxMetadataBytes + 1, "exceed"}, Case{32, 8, kMaxPayloadBytes + 1, "exceed"},
                        Case{32, 8, kMaxPayloadBytes, "its header says"}, Case{16, 8, top - 8, "exceed"}, Case{32, 8, 0, "says"}}) {
    Bytes file = encode(small_entry());
    put(file, c.at, c.value, c.width);
    seal(file);
    Result<Entry> entry = decode(file);
    ASSERT_FALSE(entry.ok()) << "value " << c.value << " at " << c.at;
    EXPECT_NE(entry.status().message().find(c.says), std::string::npos) << entry.status().to_string();
  }
}

// As a library of a big-endian machine would write them, in any mix of fields; and the checksum itself.
TEST(Entry, ForeignEndianEntriesAreRefused) {
  struct Field {
    size_t at, width;
  };
  const Field fields[] = {{8, 4}, {16, 8}, {24, 8}, {32, 8}};
  const Bytes file = encode(small_entry());
  auto swap = [](Bytes& bytes, size_t at, size_t width) {
    std::reverse(bytes.begin() + static_cast<ptrdiff_t>(at), bytes.begin() + static_cast<ptrdiff_t>(at + width));
  };
  for (unsigned swapped = 1; swapped < 1u << std::size(fields); swapped++) {
    Bytes foreign = file;
    for (size_t i = 0; i < std::size(fields); i++) {
      if ((swapped >> i & 1) != 0) swap(foreign, fields[i].at, fields[i].width);
    }
    seal(foreign);
    Result<Entry> entry = decode(foreign);
    ASSERT_FALSE(entry.ok()) << "fields " << swapped;
    EXPECT_NE(entry.status().message().find((swapped & 1) != 0 ? "schema 16777216" : "exceed the limits"), std::string::npos)
        << entry.status().to_string();
  }
  Bytes checksum = file;
  swap(checksum, file.size() - 16, 8);
  swap(checksum, file.size() - 8, 8);
  EXPECT_FALSE(decode(checksum).ok());
}

// The sum of the sizes wraps to exactly the file's size.
TEST(Entry, SizesThatWrapAreRefused) {
  Bytes file = encode(small_entry());
  put(file, 16, uint64_t{5} - 100, 8);
  put(file, 24, uint64_t{14} + 100, 8);
  seal(file);
  EXPECT_FALSE(decode(file).ok());
}

TEST(Entry, LimitsHoldAtTheirEdge) {
  Entry entry{"k", std::string(kMaxMetadataBytes, ' '), {}};
  EXPECT_TRUE(within_limits(entry));
  EXPECT_TRUE(decode(encode(entry)).ok());
  entry.metadata += ' ';
  EXPECT_FALSE(within_limits(entry));
  EXPECT_FALSE(decode(encode(entry)).ok());
  entry = {std::string(kMaxKeyBytes + 1, 'k'), "", {}};
  EXPECT_FALSE(within_limits(entry));
}

// Mutations of the kinds that a file system, an editor or an attacker makes; half of them sealed, so that they get past the
// checksum.
TEST(Entry, MutatedFilesNeverBreakTheParser) {
  Random random(testing::seed());
  const std::vector<std::function<void(Bytes&)>> mutations{
      [&](Bytes& b) { flip(b, below(random, 8 * b.size())); },
      [&](Bytes& b) { b[below(random, b.size())] = static_cast<std::byte>(random()); },
      [&](Bytes& b) { put(b, 16 + 8 * below(random, 3), random() >> below(random, 64), 8); },
      [&](Bytes& b) { put(b, 16 + 8 * below(random, 3), below(random, 200), 8); },
      [&](Bytes& b) { b.resize(b.size() - below(random, b.size() - 56 + 1)); },
      [&](Bytes& b) { b.resize(b.size() + below(random, 40)); },
      [&](Bytes& b) { std::rotate(b.begin(), b.begin() + static_cast<ptrdiff_t>(below(random, b.size())), b.end()); },
      [&](Bytes& b) {
        b.erase(b.begin() + static_cast<ptrdiff_t>(below(random, b.size() - 56 + 1)));
        b.resize(std::max<size_t>(b.size(), 56));
      },
  };
  size_t accepted = 0;
  for (int i = 0; i < 100000; i++) {
    Bytes file = encode(random_entry(random, 40));
    for (size_t n = 1 + below(random, 3); n > 0; n--) mutations[below(random, mutations.size())](file);
    if (random() % 2 == 0) seal(file);
    expect_total(file);
    if (HasFatalFailure()) return;
    accepted += decode(file).ok() ? 1 : 0;
  }
  // Changed bodies under a right checksum are entries; a parser that refused everything would pass for a good one.
  EXPECT_GT(accepted, 1000u);
}

TEST(Entry, RandomBytesAreRefused) {
  Random random(testing::seed());
  for (int i = 0; i < 10000; i++) {
    Bytes file(below(random, 300));
    for (std::byte& b : file) b = static_cast<std::byte>(random());
    ASSERT_FALSE(decode(file).ok());
  }
}

TEST(Digest, PrintsItsHighHalfFirst) {
  EXPECT_EQ((Digest{0x0123456789abcdefull, 1}.hex()), "0123456789abcdef0000000000000001");
  EXPECT_LT((Digest{1, 9}), (Digest{2, 0}));
  EXPECT_EQ(digest_of({}).hex(), "99aa06d3014798d86001c324468d497f");  // the published value for no input
}

}  // namespace
}  // namespace lathe
