#include "random_text.h"

#include <initializer_list>
#include <string_view>

#include "examples.h"

namespace lathe::expr::testing {
namespace {

constexpr const char* kDeclarations =
    "param W, S, C: i32 in [-40, 40]; param M: i32 in [1, 9]; param flag: bool; param KW: i32 in [1, 8];\n"
    "tensor start: i32[TOK] sorted, lo, hi: i32[TOK] summary, cx: i32[B] in [2, 30], kind: u8[HQ],\n"
    "  doc: i32[KVPOS] in [-9, 40] summary, words: u32[TOK, KW] summary, seen: bool[QLEN, KVPOS] summary;\n";

/// Masks as people write them: comparisons of positions, params and tensors, joined by logic. Text, so that check() has its say.
class Text {
 public:
  explicit Text(Rng& rng) : rng_(rng) {}

  std::string mask(int size) {
    if (size <= 0) return comparison();
    const int left = static_cast<int>(rng_() % static_cast<uint64_t>(size));
    switch (rng_() % 8) {
      case 0:
        return "!(" + mask(size - 1) + ")";
      case 1:
        return "(" + mask(left) + " ? " + mask(size - 1 - left) + " : " + mask(0) + ")";
      case 2:
        return "(" + mask(left) + (rng_() % 2 == 0 ? " == " : " != ") + mask(size - 1 - left) + ")";
      case 3:
      case 4:
        return "(" + mask(left) + " || " + mask(size - 1 - left) + ")";
      default:
        return "(" + mask(left) + " && " + mask(size - 1 - left) + ")";
    }
  }

 private:
  template <size_t N>
  std::string pick(const char* const (&from)[N]) {
    return from[rng_() % N];
  }

  std::string comparison() {
    static constexpr const char* kSigns[] = {" < ", " <= ", " > ", " >= ", " == ", " != "};
    switch (rng_() % 16) {
      case 0:
        return packed_bits();
      case 1:
        return "seen[q, kv]";
      case 2:
        return "flag";
      case 3:
        return "kv_pos <= q_pos";
      default:
        return "(" + sum() + pick(kSigns) + sum() + ")";
    }
  }

  /// Masks of bits: one for each key, or of a tree of draft tokens behind what all of them see.
  std::string packed_bits() {
    return pick({"bit(words[tok, kv >> 5], kv & 31)", "bit(words[tok, clamp(kv >> 5, 0, 1)], kv & 31)",
                 "(kv < cx[b] || bit(words[tok, clamp(kv - cx[b], 0, 63) >> 5], clamp(kv - cx[b], 0, 63) & 31))"});
  }

  std::string sum() {
    std::string out = term();
    for (uint64_t more = rng_() % 3; more > 0; --more) out += (rng_() % 2 == 0 ? " + " : " - ") + term();
    return out;
  }

  static constexpr const char* kTerms[] = {
      "q_pos",   "q_pos",   "kv_pos", "kv_pos", "q",  "kv",      "h", "hk", "W",     "S",       "kv_len", "qo_len",   "start[tok]",
      "lo[tok]", "hi[tok]", "cx[b]",  "3",      "17", "kind[h]", "M", "b",  "level", "doc[kv]", "doc[0]", "i32(flag)"};

  std::string term() {
    if (depth_ >= 2) return pick(kTerms);
    ++depth_;
    const std::string out = deeper_term();
    --depth_;
    return out;
  }

  std::string deeper_term() {
    switch (rng_() % 12) {
      case 0:
        return "(" + sum() + ") // " + pick({"M", "4", "7", "C"});
      case 1:
        return "(" + sum() + ") % " + pick({"M", "4", "7", "C"});
      case 2:
        return "abs(" + sum() + ")";
      case 3:
        return pick({"min(", "max("}) + sum() + ", " + term() + ")";
      case 4:
        return "(" + comparison() + " ? " + term() + " : " + term() + ")";
      case 5:
        return "((" + sum() + ") " + pick({">> 2)", "& 7)", "<< 1)"});
      case 6:
        return "(" + term() + ") * " + pick({"2", "-3", "M", "C"});
      default:
        return pick(kTerms);
    }
  }
  std::string pick(std::initializer_list<const char*> from) { return from.begin()[rng_() % from.size()]; }

  Rng& rng_;
  int depth_ = 0;  // of terms inside of terms
};

}  // namespace

std::string random_mask_text(Rng& rng) {
  std::string text = kDeclarations;
  if (rng() % 6 == 0) text += "kv_pos := kv * 3 + M; ";
  if (rng() % 12 == 0) text += "q_pos := q + start[tok]; ";
  return text + "mask = " + Text(rng).mask(static_cast<int>(rng() % 6));
}

std::string mutated_text(Rng& rng) {
  static constexpr std::string_view kPieces[] = {"(",          ")",
                                                 "[",          "]",
                                                 ";",          ",",
                                                 "=",          ":=",
                                                 "let ",       "param ",
                                                 "tensor ",    "const ",
                                                 "kv",         "score",
                                                 "3",          "1.5",
                                                 "inf",        "<=",
                                                 "//",         "%",
                                                 "&&",         "||",
                                                 "!",          "-",
                                                 "?",          ":",
                                                 "in",         "HQ",
                                                 "i32",        "f32",
                                                 "max(",       "powi(",
                                                 "bit(",       "\n",
                                                 " ",          "mask = ",
                                                 "logits = ",  "normalizer = none",
                                                 "summary",    " in [0, 5] ",
                                                 "2147483648", "0x",
                                                 "1e",         "\xff",
                                                 "."};
  std::string text = kExamples[rng() % kExamples.size()].text;
  for (uint64_t changes = 1 + rng() % 4; changes > 0; --changes) {
    const size_t at = rng() % (text.size() + 1);
    switch (rng() % 4) {
      case 0:
        text.insert(at, kPieces[rng() % std::size(kPieces)]);
        break;
      case 1:
        text.erase(at, 1 + rng() % 6);
        break;
      case 2:
        if (at < text.size()) text[at] = static_cast<char>(rng());
        break;
      default:
        text.insert(at, text.substr(rng() % (text.size() + 1), rng() % 20));
    }
  }
  return text;
}

}  // namespace lathe::expr::testing
