// Mutated JSON texts: whatever is read, reading returns, and what it accepts can be written and read again.
#include <gtest/gtest.h>

#include <array>
#include <string>

#include "lathe/spec_testing/random_spec.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

constexpr std::array kPieces{"{",          "}",
                             "[",          "]",
                             ",",          ":",
                             "\"",         "\\u0000",
                             "null",       "true",
                             "-1",         "1e400",
                             "1.5",        "16",
                             "\"op\"",     "\"mask\"",
                             "NaN",        "\"both\"",
                             "\"off\"",    "{\"fixed\":16}",
                             "\xff",       "\\",
                             "\"auto\"",   "[[[[[",
                             "2147483648", "\"layout\":\"ragged\","};

class Mutator {
 public:
  explicit Mutator(std::mt19937_64& rng) : rng_(rng) {}

  std::string operator()(std::string text) {
    for (size_t n = below(2) == 0 ? 1 : 1 + below(5); n > 0; --n) mutate(text);
    return text;
  }

 private:
  size_t below(size_t n) { return n == 0 ? 0 : rng_() % n; }

  void mutate(std::string& text) {
    size_t at = below(text.size() + 1);
    size_t length = below(1 + std::min<size_t>(text.size() - at, 24));
    switch (below(8)) {
      case 0:
        text.resize(at);
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        text.insert(at, text.substr(below(text.size() + 1), 24));
        break;
      case 3:
        text.insert(at, kPieces[below(kPieces.size())]);
        break;
      case 4:
        text.replace(at, length, kPieces[below(kPieces.size())]);
        break;
      case 5:
      case 6:  // one number for another
        at = text.find_first_of("0123456789", at);
        if (at != text.npos) text[at] = static_cast<char>('0' + below(10));
        break;
      default:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
    }
  }

  std::mt19937_64& rng_;
};

template <class Spec>
Result<Spec> read(const std::string& text);
template <>
Result<AttentionSpec> read(const std::string& text) {
  return attention_spec_from_json(text);
}
template <>
Result<AppendSpec> read(const std::string& text) {
  return append_spec_from_json(text);
}
template <>
Result<MergeSpec> read(const std::string& text) {
  return merge_spec_from_json(text);
}

template <class Spec>
void fuzz(Spec (*draw)(std::mt19937_64&)) {
  std::mt19937_64 rng(seed());
  Mutator mutated(rng);
  int accepted = 0, refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string text = mutated(to_json(draw(rng)));
    Result<Spec> spec = read<Spec>(text);
    ++(spec.ok() ? accepted : refused);
    if (!spec.ok()) {
      ASSERT_FALSE(spec.status().message().empty()) << text;
      ASSERT_LT(spec.status().message().size(), 32'768u) << text;
      continue;
    }
    Result<Spec> again = read<Spec>(to_json(*spec));
    ASSERT_TRUE(again.ok()) << text << "\n" << again.status().to_string();
    ASSERT_EQ(*again, *spec) << text;
    ASSERT_FALSE(canonical_bytes(*spec).empty());
    ASSERT_FALSE(to_string(*spec).empty());
    (void)validate(*spec);
  }
  std::printf("%d accepted, %d refused\n", accepted, refused);
  EXPECT_GT(accepted, 1'000) << "the mutations are too coarse to reach past the parser";
  EXPECT_GT(refused, 10'000);
}

TEST(JsonFuzz, Attention) {
  fuzz<AttentionSpec>(random_spec);
}
TEST(JsonFuzz, Append) {
  fuzz<AppendSpec>(random_append_spec);
}
TEST(JsonFuzz, Merge) {
  fuzz<MergeSpec>(random_merge_spec);
}

}  // namespace
}  // namespace lathe::testing
