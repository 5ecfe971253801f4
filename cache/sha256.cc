#include "lathe/cache/sha256.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstring>

namespace lathe {
namespace {

constexpr size_t kBlock = 64;
constexpr size_t kRounds = 64;

// The first 64 fractional bits of the cube (and square) roots of the first primes, by which the standard defines its constants; a
// long double holds the 32 that are wanted exactly.
struct Constants {
  std::array<uint32_t, kRounds> k{};
  std::array<uint32_t, 8> start{};

  Constants() {
    uint32_t prime = 2;
    for (size_t i = 0; i < kRounds; prime++) {
      bool composite = false;
      for (uint32_t d = 2; d * d <= prime; d++) composite |= prime % d == 0;
      if (composite) continue;
      k[i] = fraction(std::cbrt(static_cast<long double>(prime)));
      if (i < start.size()) start[i] = fraction(std::sqrt(static_cast<long double>(prime)));
      i++;
    }
  }
  static uint32_t fraction(long double value) { return static_cast<uint32_t>((value - std::floor(value)) * 4294967296.0L); }
};

const Constants& constants() {
  static const Constants made;
  return made;
}

using State = std::array<uint32_t, 8>;

void mix(State& state, const std::byte* block) {
  std::array<uint32_t, kRounds> w{};
  for (size_t i = 0; i < 16; i++) {
    for (size_t b = 0; b < 4; b++) w[i] = w[i] << 8 | std::to_integer<uint32_t>(block[4 * i + b]);
  }
  for (size_t i = 16; i < kRounds; i++) {
    const uint32_t a = w[i - 15], b = w[i - 2];
    w[i] = w[i - 16] + (std::rotr(a, 7) ^ std::rotr(a, 18) ^ a >> 3) + w[i - 7] + (std::rotr(b, 17) ^ std::rotr(b, 19) ^ b >> 10);
  }
  auto [a, b, c, d, e, f, g, h] = state;
  const std::array<uint32_t, kRounds>& k = constants().k;
  for (size_t i = 0; i < kRounds; i++) {
    const uint32_t t1 = h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) + ((e & f) ^ (~e & g)) + k[i] + w[i];
    const uint32_t t2 = (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
  }
  const State added{a, b, c, d, e, f, g, h};
  for (size_t i = 0; i < state.size(); i++) state[i] += added[i];
}

}  // namespace

std::string Sha256::hex() const {
  std::string out;
  for (uint8_t byte : bytes) out += fmt::format("{:02x}", byte);
  return out;
}

std::optional<Sha256> Sha256::from_hex(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  Sha256 out;
  if (text.size() != 2 * out.bytes.size()) return std::nullopt;
  for (size_t i = 0; i < text.size(); i++) {
    const size_t digit = kDigits.find(text[i]);
    if (digit == std::string_view::npos) return std::nullopt;
    out.bytes[i / 2] = static_cast<uint8_t>(out.bytes[i / 2] << 4 | digit);
  }
  return out;
}

Sha256 sha256_of(BytesView bytes) {
  State state = constants().start;
  const size_t whole = bytes.size() / kBlock * kBlock;
  for (size_t at = 0; at < whole; at += kBlock) mix(state, bytes.data() + at);

  // The rest, a single 1 bit, zeros, and the length in bits as the last 8 bytes.
  std::array<std::byte, 2 * kBlock> tail{};
  const size_t rest = bytes.size() - whole;
  if (rest != 0) std::memcpy(tail.data(), bytes.data() + whole, rest);
  tail[rest] = std::byte{0x80};
  const size_t end = rest + 9 <= kBlock ? kBlock : 2 * kBlock;
  for (size_t i = 0; i < 8; i++) tail[end - 1 - i] = static_cast<std::byte>(uint64_t{bytes.size()} * 8 >> 8 * i);
  for (size_t at = 0; at < end; at += kBlock) mix(state, tail.data() + at);

  Sha256 out;
  for (size_t i = 0; i < out.bytes.size(); i++) out.bytes[i] = static_cast<uint8_t>(state[i / 4] >> (24 - 8 * (i % 4)));
  return out;
}

}  // namespace lathe
