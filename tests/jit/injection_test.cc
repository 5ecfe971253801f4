// Nothing but numbers, booleans and identifiers reaches source text, whatever is tried.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>
#include <random>

#include "lathe/jit/render.h"
#include "lathe/testing/seed.h"
#include "support.h"

namespace lathe {
namespace {

Status refusal(const std::string& name) {
  TemplateData data;
  data.emplace("name", TemplateValue::identifier(name));
  return render(testing::store_of({{"k.cu", "int <%name%>;\n"}}), "k.cu", data, {}).status();
}

// Hostile strings alone, and glued to a good identifier at either end and in its middle.
std::vector<std::string> corpus() {
  using namespace std::string_literals;
  const std::vector<std::string> poison{
      "\"",
      "'",
      "`",
      ";",
      ":",
      ",",
      ".",
      "?",
      "!",
      "@",
      "#",
      "$",
      "%",
      "^",
      "&",
      "*",
      "(",
      ")",
      "-",
      "+",
      "=",
      "[",
      "]",
      "{",
      "}",
      "|",
      "\\",
      "/",
      "<",
      ">",
      "~",
      " ",
      "\t",
      "\n",
      "\r",
      "\v",
      "\f",
      "\0"s,
      "\x7f",
      "\x1b[2J",
      "*/",
      "/*",
      "//",
      "\?\?/",
      "\?\?=",
      "\?\?<",
      "\\\n",
      "\\\r\n",
      "#include \"/etc/passwd\"",
      "\n#include \"/etc/passwd\"\n",
      "#pragma",
      "<%",
      "%>",
      "{{",
      "}}",
      "<%name%>",
      "\"); system(\"x",
      "); asm(\"trap;",
      "'+'",
      "R\"(",
      ")\"",
      "\\u0041",
      "\\x41",
      "%:",
      "<:",
      ":>",
      "\xc3\xa9",          // e with acute
      "\xd0\xb0",          // Cyrillic a
      "\xce\xbf",          // Greek omicron
      "\xef\xbc\xa1",      // full-width A
      "\xe2\x80\x8b",      // zero-width space
      "\xe2\x80\xae",      // right-to-left override
      "\xef\xbb\xbf",      // byte-order mark
      "\xc2\xa0",          // no-break space
      "\xcd\xbe",          // Greek question mark, looks like ;
      "\xf0\x9d\x90\x80",  // mathematical bold A
      "\xff",
      "\xc0\x80",
      "\xed\xa0\x80",
  };
  std::vector<std::string> all;
  for (const std::string& p : poison) {
    for (const std::string& s : {p, "a" + p, p + "a", "a" + p + "b"}) all.push_back(s);
  }
  for (const char* word :
       {"int",  "float",    "class", "asm",     "goto",   "template", "operator", "sizeof",  "and",     "not_eq",
        "xor",  "co_await", "true",  "nullptr", "typeof", "_Pragma",  "_Complex", "_Atomic", "__asm__", "__builtin_trap",
        "a__b", "__",       "_A",    "defined"}) {
    all.push_back(word);
  }
  all.push_back("");
  all.push_back("1a");
  all.push_back("0");
  all.push_back("-1");
  all.push_back(std::string(65, 'a'));
  all.push_back(std::string(100'000, 'a'));
  return all;
}

TEST(Injection, CorpusIsRefusedAsValue) {
  std::vector<std::string> all = corpus();
  ASSERT_GE(all.size(), 200u);
  for (const std::string& bad : all) {
    Status status = refusal(bad);
    EXPECT_EQ(status.code(), Code::invalid_argument) << ::testing::PrintToString(bad);
    EXPECT_EQ(status.where(), "name") << ::testing::PrintToString(bad);
  }
  std::printf("%zu strings refused\n", all.size());
}

TEST(Injection, CorpusIsRefusedInsideLists) {
  for (const std::string& bad : corpus()) {
    TemplateData item;
    item.emplace("name", TemplateValue::identifier(bad));
    TemplateData data;
    data.emplace("items", std::vector<TemplateData>{item});
    auto rendered = render(testing::store_of({{"k.cu", "<%#items%>int <%name%>;<%/items%>\n"}}), "k.cu", data, {});
    EXPECT_EQ(rendered.status().code(), Code::invalid_argument) << ::testing::PrintToString(bad);
  }
}

TEST(Injection, CorpusIsRefusedAsKeyFamilyEntryAndArch) {
  Engine engine(testing::tiny_engine(host_compiler()));
  for (const std::string& bad : corpus()) {
    TemplateData data;
    data.emplace(bad, 1);
    EXPECT_FALSE(render(testing::store_of({{"k.cu", "x\n"}}), "k.cu", data, {}).ok()) << ::testing::PrintToString(bad);
    for (auto field : {&KernelRequest::family, &KernelRequest::entry, &KernelRequest::arch}) {
      KernelRequest request = testing::tiny_request("host");
      request.*field = bad;
      EXPECT_EQ(engine.source(request).status().code(), Code::invalid_argument) << ::testing::PrintToString(bad);
    }
  }
}

TEST(Injection, GoodIdentifiersPass) {
  for (const char* good : {"a", "_", "_a", "A1", "half_t", "Int", "sizeof_", "float32", "a_b_c"})
    EXPECT_TRUE(refusal(good).ok()) << good;
  EXPECT_TRUE(refusal(std::string(64, 'a')).ok());
}

// Whatever passes is made of the letters an identifier is made of.
TEST(Injection, RandomBytes) {
  std::mt19937_64 random(testing::seed());
  const std::string letters = "ab_Z09";
  int passed = 0;
  for (int round = 0; round < 200'000; ++round) {
    std::string s(random() % 8, '\0');
    for (char& c : s) c = random() % 4 != 0 ? letters[random() % letters.size()] : static_cast<char>(random());
    if (!is_identifier(s)) continue;
    ++passed;
    ASSERT_FALSE(s.empty() || std::isdigit(static_cast<unsigned char>(s[0])));
    for (unsigned char c : s) ASSERT_TRUE(c < 128 && (std::isalnum(c) || c == '_')) << ::testing::PrintToString(s);
    ASSERT_EQ(s.find("__"), std::string::npos);
  }
  EXPECT_GT(passed, 1000);
}

}  // namespace
}  // namespace lathe
