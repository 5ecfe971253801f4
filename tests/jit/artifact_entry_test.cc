#include "lathe/jit/artifact_entry.h"

#include <gtest/gtest.h>

#include <random>

#include "lathe/testing/seed.h"
#include "support.h"

namespace lathe {
namespace {

Artifact sample() {
  Artifact a;
  a.key = std::string("key\0with zero", 13);
  a.family = a.entry = "tiny";
  a.description = "words \xff that are not UTF-8";
  a.arch = "sm_80";
  a.compiler = "fake";
  a.block_threads = 32;
  a.shared_bytes = 1024;
  a.registers = 40;
  a.spill_bytes = 8;
  a.ptx_bytes = 1234567890123;
  a.compile_ms = 12.5;
  a.binary = testing::bytes_of("binary");
  return a;
}

TEST(ArtifactEntry, RoundTrip) {
  const Artifact a = sample();
  auto back = from_entry(to_entry(a), testing::tiny_request("sm_80"));
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->key, a.key);
  EXPECT_EQ(back->compiler, a.compiler);
  EXPECT_EQ(back->registers, a.registers);
  EXPECT_EQ(back->spill_bytes, a.spill_bytes);
  EXPECT_EQ(back->ptx_bytes, a.ptx_bytes);
  EXPECT_EQ(back->compile_ms, a.compile_ms);
  EXPECT_EQ(back->binary, a.binary);
  EXPECT_EQ(back->description, "tiny kernel 7");
}

TEST(ArtifactEntry, RefusesWhatTheRequestDoesNotSay) {
  const KernelRequest request = testing::tiny_request("sm_80");
  for (int field = 0; field < 6; ++field) {
    Artifact a = sample();
    if (field == 0) a.family = "other";
    if (field == 1) a.arch = "sm_90a";
    if (field == 2) a.entry = "other";
    if (field == 3) a.block_threads = 64;
    if (field == 4) a.shared_bytes = 2048;
    if (field == 5) a.binary.clear();
    EXPECT_FALSE(from_entry(to_entry(a), request).has_value()) << field;
  }
}

// An entry made of CUDA text is never taken for one without, nor the other way round.
TEST(ArtifactEntry, TheMarkOfUnsafeCudaIsPartOfWhatIsAsked) {
  for (const bool made : {false, true}) {
    for (const bool asked : {false, true}) {
      Artifact a = sample();
      a.unsafe_cuda = made;
      KernelRequest request = testing::tiny_request("sm_80");
      request.unsafe_cuda = asked;
      const auto back = from_entry(to_entry(a), request);
      EXPECT_EQ(back.has_value(), made == asked);
      if (back) {
        EXPECT_EQ(back->unsafe_cuda, made);
      }
    }
  }
}

TEST(ArtifactEntry, RefusesFactsOutOfRange) {
  for (auto [from, to] : {std::pair("\"registers\": 40", "\"registers\": -1"),
                          {"\"registers\": 40", "\"registers\": 4294967296"},
                          {"\"registers\": 40", "\"registers\": \"40\""},
                          {"\"registers\": 40", "\"registers\": 1.5"},
                          {"\"registers\": 40", "\"registers\": null"},
                          {"\"compile_ms\": 12.5", "\"compile_ms\": -1"},
                          {"\"compile_ms\": 12.5", "\"compile_ms\": 1e999"},
                          {"\"version\": 1", "\"version\": 2"},
                          {"\"ptx_bytes\": 1234567890123", "\"ptx_bytes\": 18446744073709551615"}}) {
    Entry entry = to_entry(sample());
    size_t at = entry.metadata.find(from);
    ASSERT_NE(at, std::string::npos) << from << entry.metadata;
    entry.metadata.replace(at, std::string(from).size(), to);
    EXPECT_FALSE(from_entry(entry, testing::tiny_request("sm_80")).has_value()) << to;
  }
}

TEST(ArtifactEntry, ReadsAnyMetadata) {
  std::mt19937_64 random(testing::seed());
  const Entry whole = to_entry(sample());
  int accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    Entry entry = whole;
    std::string& text = entry.metadata;
    for (uint64_t edits = 1 + random() % 3; edits > 0 && !text.empty(); --edits) {
      size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text.erase(at, 1 + random() % 8);
          break;
        default:
          text.insert(at, 1, "{}[]\",:0-9e"[random() % 11]);
          break;
      }
    }
    accepted += from_entry(entry, testing::tiny_request("sm_80")).has_value();
  }
  EXPECT_LT(accepted, 20'000);
  for (char c : {'[', '{', '"'}) {
    EXPECT_FALSE(from_entry({whole.key, std::string(1'000'000, c), whole.payload}, testing::tiny_request("sm_80")).has_value());
  }
}

}  // namespace
}  // namespace lathe
