// SHA-256 against digests from other implementations.
#include "lathe/cache/sha256.h"

#include <gtest/gtest.h>

#include <span>
#include <string>

namespace lathe {
namespace {

std::string hex_of(const std::string& text) {
  return sha256_of(std::as_bytes(std::span(text))).hex();
}

TEST(Sha256, OfTheStandardsExamples) {
  EXPECT_EQ(hex_of(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hex_of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex_of(std::string(1'000'000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// Around the lengths where the padding takes another block.
TEST(Sha256, OfEveryPadding) {
  std::string all;
  for (size_t length = 0; length <= 300; length++) all += hex_of(std::string(length, static_cast<char>(length)));
  EXPECT_EQ(hex_of(all), "16fac9e40773a0e38d7d9b8036b10235e7942aa55d2b24e04ff142d1bf161fe7");
}

TEST(Sha256, ReadsItsOwnDigits) {
  const std::string text = hex_of("abc");
  EXPECT_EQ(Sha256::from_hex(text)->hex(), text);
  for (const std::string& bad : {std::string(), text.substr(1), text + "0", "G" + text.substr(1), "A" + text.substr(1)}) {
    EXPECT_FALSE(Sha256::from_hex(bad)) << bad;
  }
}

}  // namespace
}  // namespace lathe
