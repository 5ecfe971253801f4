#include "lathe/spec/text.h"

#include <algorithm>
#include <cstdint>

namespace lathe::fields {

size_t printable_prefix(std::string_view text) {
  auto byte = [&](size_t i) -> uint32_t { return i < text.size() ? static_cast<uint8_t>(text[i]) : 0u; };
  auto continues = [&](size_t i) { return (byte(i) & 0xc0u) == 0x80u; };
  uint32_t b = byte(0);
  if (b < 0x80u) return b >= 0x20u && b != 0x7fu ? 1 : 0;
  if (b >= 0xc2u && b <= 0xdfu && continues(1)) return b == 0xc2u && byte(1) < 0xa0u ? 0 : 2;  // U+0080..U+009F are controls
  if (b >= 0xe0u && b <= 0xefu && continues(1) && continues(2)) {
    bool overlong = b == 0xe0u && byte(1) < 0xa0u;
    bool surrogate = b == 0xedu && byte(1) >= 0xa0u;
    return overlong || surrogate ? 0 : 3;
  }
  if (b >= 0xf0u && b <= 0xf4u && continues(1) && continues(2) && continues(3)) {
    bool overlong = b == 0xf0u && byte(1) < 0x90u;
    bool beyond_unicode = b == 0xf4u && byte(1) >= 0x90u;
    return overlong || beyond_unicode ? 0 : 4;
  }
  return 0;
}

bool is_printable(std::string_view text) {
  while (!text.empty()) {
    size_t length = printable_prefix(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string shown(std::string_view text, size_t limit) {
  std::string out;
  while (!text.empty()) {
    size_t length = printable_prefix(text);
    if (out.size() + std::max<size_t>(length, 1) > limit) return out + "...";
    if (length == 0) {
      out += '?';
      text.remove_prefix(1);
    } else {
      out += text.substr(0, length);
      text.remove_prefix(length);
    }
  }
  return out;
}

std::string in_quotes(std::string_view text, size_t limit) {
  return '"' + shown(text, limit) + '"';
}

bool is_arch_name(std::string_view text) {
  if (text == "host") return true;
  if (!text.starts_with("sm_")) return false;
  text.remove_prefix(3);
  if (text.ends_with('a') || text.ends_with('f')) text.remove_suffix(1);
  if (text.size() != 2 && text.size() != 3) return false;
  if (!std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; })) return false;
  return text.size() == 3 ? text[0] != '0' : text[0] >= '8';
}

}  // namespace lathe::fields
