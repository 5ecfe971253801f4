#include "lathe/expr_testing/hostile_strings.h"

namespace lathe::expr::testing {

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

}  // namespace lathe::expr::testing
