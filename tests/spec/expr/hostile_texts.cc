#include "hostile_texts.h"

namespace lathe::expr::testing {
namespace {

std::string json_string(const std::string& s) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out = "\"";
  for (char c : s) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte < 0x20 || c == '"' || c == '\\') {
      out += "\\u00";
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace

std::vector<std::string> hostile_strings() {
  const std::vector<std::string> before = {"",
                                           "\"",
                                           "'",
                                           "*/",
                                           "/*",
                                           "//",
                                           "\n",
                                           "\r\n",
                                           "\\\n",
                                           "\?\?/\n",
                                           "\?\?)",
                                           "}",
                                           "{",
                                           ");",
                                           "]",
                                           "#include <",
                                           "#define x ",
                                           "%:include ",
                                           "\n#line 1 \"",
                                           "R\"(",
                                           "u8\"",
                                           "0;",
                                           "__asm__(\"",
                                           "asm(\"",
                                           "${",
                                           "{{",
                                           "<%",
                                           "<%={{ }}=%>",
                                           std::string(1, '\0'),
                                           "\x7f",
                                           "\x1b[31m",
                                           "\xd0\xb5",
                                           "\xef\xbb\xbf",
                                           "\xe2\x80\xae",
                                           "\xc0\xaf",
                                           "\xff",
                                           "kv; ",
                                           "W:i32; mask = ",
                                           "true || ",
                                           "dev::",
                                           "__shared__ ",
                                           "::",
                                           "../",
                                           "%s%n"};
  const std::vector<std::string> after = {"",     "\"", "*/",      "\n",  "()",   "{}",   ";",        ")",
                                          "(\"",  "\\", "\\u0041", "[0]", ":i32", " = 1", "\xd0\xbe", std::string(1, '\0'),
                                          " // ", "<<", ">>>(",    "#",   "@",    "`",    "$",        "~",
                                          "\t",   "'"};
  std::vector<std::string> out;
  for (const std::string& a : before) {
    for (const std::string& b : after) out.push_back(a + std::string(kMark) + b);
  }
  for (size_t length : {60, 64, 65, 1000, 70'000}) out.push_back(std::string(kMark) + std::string(length, 'x'));
  return out;
}

std::vector<std::string> texts_with(const std::string& s) {
  return {"param " + s + ":i32; mask = kv < " + s,
          "tensor " + s + ":f32[HQ]; logits = score + " + s + "[h]",
          "tensor t:f32[" + s + "]; logits = score + t[h]",
          "tensor t:" + s + "[HQ]; logits = score + t[h]",
          "const " + s + " = 3; mask = kv < " + s,
          "const C = " + s + "; mask = kv < C",
          "let " + s + " = kv + 1; mask = " + s + " < 3",
          "param W:i32 in [0, " + s + "]; mask = kv < W",
          "param W:" + s + "; mask = kv < W",
          "mask = kv < " + s,
          "mask = " + s + "(kv) < 3",
          s + " = kv < 3",
          "normalizer = " + s + "; mask = kv < 3",
          s};
}

std::vector<std::string> jsons_with(const std::string& raw) {
  const std::string s = json_string(raw);
  return {"{\"params\":{" + s + ":{\"type\":\"i32\"}},\"mask\":\"kv < 3\"}",
          "{\"params\":{\"W\":{\"type\":" + s + "}},\"mask\":\"kv < W\"}",
          "{\"tensors\":{" + s + ":{\"elem\":\"f32\",\"axes\":[\"HQ\"]}},\"mask\":\"kv < 3\"}",
          "{\"tensors\":{\"t\":{\"elem\":\"f32\",\"axes\":[" + s + "]}},\"mask\":\"kv < 3\"}",
          "{\"tensors\":{\"t\":{\"elem\":" + s + ",\"axes\":[\"HQ\"]}},\"mask\":\"kv < 3\"}",
          "{\"mask\":" + s + "}",
          "{" + s + ":\"kv < 3\"}",
          "{\"normalizer\":" + s + "}",
          s};
}

}  // namespace lathe::expr::testing
