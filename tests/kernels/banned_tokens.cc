#include "lathe/proof/banned_tokens.h"

#include <array>
#include <cctype>
#include <cstddef>
#include <map>
#include <set>

namespace lathe::testing {
namespace {

struct Token {
  std::string text;
  std::string file;
  int line = 0;
  bool name = false;     // identifier or keyword
  bool literal = false;  // number, string or character
};

// Device code, and the interface by which its host form calls the executor.
bool is_device_file(std::string_view file) {
  return file.starts_with("device/") || file == "abi/simt.h";
}

bool name_char(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

// Splits rendered text into tokens; directives are handed to `on_directive` whole.
class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  std::vector<Token> tokens;
  std::vector<Token> directives;

  void run() {
    bool line_start = true;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '\n') {
        ++line_, ++at_;
        line_start = true;
      } else if (std::isspace(static_cast<unsigned char>(c)) != 0) {
        ++at_;
      } else if (starts("//")) {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
      } else if (starts("/*")) {
        block_comment();
      } else if (c == '#' && line_start) {
        directive();
      } else {
        line_start = false;
        token();
      }
    }
  }

 private:
  bool starts(std::string_view what) const { return text_.substr(at_, what.size()) == what; }

  void block_comment() {
    for (at_ += 2; at_ < text_.size() && !starts("*/"); ++at_) line_ += text_[at_] == '\n';
    at_ = std::min(at_ + 2, text_.size());
  }

  void directive() {
    std::string text;
    const int line = line_;
    for (; at_ < text_.size() && text_[at_] != '\n'; ++at_) {
      if (text_[at_] == '\\' && at_ + 1 < text_.size() && text_[at_ + 1] == '\n') ++at_, ++line_;
      text += text_[at_];
    }
    if (text.starts_with("#line ")) {
      const size_t quote = text.find('"');
      line_ = std::stoi(text.substr(6)) - 1;  // of the line that follows; its line break is still to come
      if (quote != std::string::npos) file_ = text.substr(quote + 1, text.rfind('"') - quote - 1);
      if (file_.starts_with("templates/")) file_.erase(0, std::string_view("templates/").size());
    } else {
      directives.push_back({text, file_, line, false, false});
    }
  }

  void token() {
    Token t{{}, file_, line_, false, false};
    const char c = text_[at_];
    if (name_char(c)) {
      t.literal = std::isdigit(static_cast<unsigned char>(c)) != 0;
      t.name = !t.literal;
      while (at_ < text_.size() && (name_char(text_[at_]) || (t.literal && (text_[at_] == '.' || text_[at_] == '\''))))
        t.text += text_[at_++];
    } else if (c == '"' || c == '\'') {
      t.literal = true;
      for (++at_; at_ < text_.size() && text_[at_] != c; ++at_) at_ += text_[at_] == '\\';
      ++at_;
      t.text = "\"\"";
    } else {
      static constexpr std::array<std::string_view, 9> kTwo{"->", "::", "*=", "&&", "||", "==", "<=", ">=", "!="};
      t.text = c;
      for (std::string_view two : kTwo) {
        if (starts(two)) t.text = two;
      }
      at_ += t.text.size();
    }
    tokens.push_back(std::move(t));
  }

  std::string_view text_;
  std::string file_;
  size_t at_ = 0;
  int line_ = 1;
};

const std::set<std::string, std::less<>> kBuiltinTypes{"void",  "bool",   "char",   "short",    "int", "long",
                                                       "float", "double", "signed", "unsigned", "auto"};
// Names after which an expression begins.
const std::set<std::string, std::less<>> kBeforeExpression{"return", "case", "else", "do", "throw", "co_return", "if", "while"};
const std::set<std::string, std::less<>> kBanned{
    "asm",      "threadIdx", "blockIdx",  "blockDim",  "gridDim",    "warpSize",  "thread_local",
    "volatile", "std",       "atomicAdd", "atomicCAS", "atomicExch", "atomicMax", "reinterpret_cast",
    "new",      "delete",    "goto",      "memcpy",    "memset",     "printf",    "extern"};

class Checker {
 public:
  explicit Checker(std::vector<Token> tokens) : t_(std::move(tokens)) {
    for (size_t i = 0; i < t_.size(); ++i) declare(i);
  }

  std::vector<Violation> violations;

  void run() {
    for (size_t i = 0; i < t_.size(); ++i) {
      if (is_device_file(t_[i].file)) continue;
      if (t_[i].name) check_name(i);
      if (t_[i].text == "->") add(i, "dereferences with ->");
      if (t_[i].text == "*") check_star(i);
      if (t_[i].text == "[") check_subscript(i);
    }
  }

 private:
  const std::string& text(size_t i) const {
    static const std::string kNone;
    return i < t_.size() ? t_[i].text : kNone;
  }
  void add(size_t i, std::string what) { violations.push_back({t_[i].file, t_[i].line, std::move(what)}); }

  // A name that an expression can end with, or a declaration's type.
  bool operand(size_t i) const { return i < t_.size() && (t_[i].literal || (t_[i].name && kBeforeExpression.count(text(i)) == 0)); }

  // Notes what token i declares: `T name[`, `(&name)[`, `T* name`.
  void declare(size_t i) {
    if (!t_[i].name) return;
    const bool ends = text(i + 1) == "," || text(i + 1) == ")" || text(i + 1) == ";" || text(i + 1) == "=" || text(i + 1) == "{" ||
                      text(i + 1) == "[";
    size_t before = i - 1;
    while (i > 0 && before < i && (text(before) == "const" || text(before) == "__restrict__")) --before;
    if (i > 0 && ends && text(before) == "*" && before > 0 &&
        (t_[before - 1].name || text(before - 1) == "*" || text(before - 1) == ">") &&
        kBeforeExpression.count(text(before - 1)) == 0) {
      pointers_[t_[i].file].insert(text(i));
      return;
    }
    if (i == 0) return;
    const bool after_type = (t_[i - 1].name && kBeforeExpression.count(text(i - 1)) == 0) || text(i - 1) == ">";
    const bool reference = i > 1 && text(i - 1) == "&" && text(i - 2) == "(" && text(i + 1) == ")" && text(i + 2) == "[";
    const bool listed = text(i - 1) == "," && declared_as_arrays(i);
    if ((text(i + 1) == "[" && (after_type || listed)) || reference) {
      arrays_[t_[i].file].insert(text(i));
      members_.insert(text(i));
    }
  }

  // Whether the declaration that token i continues after a comma began with an array: `float a[4], b[4];`.
  bool declared_as_arrays(size_t i) const {
    for (size_t j = i - 1; j > 1 && text(j) != ";" && text(j) != "{" && text(j) != "}" && text(j) != "("; --j) {
      if (text(j) == "]" || t_[j].literal || text(j) == ",") continue;
      if (t_[j].name && text(j + 1) == "[" && t_[j - 1].name && kBeforeExpression.count(text(j - 1)) == 0) return true;
    }
    return false;
  }

  void check_name(size_t i) {
    const std::string& word = text(i);
    if (kBanned.count(word) != 0) add(i, "uses " + word);
    if (word.starts_with("__")) add(i, "uses " + word);
    if (word == "static" && !static_is_free(i)) add(i, "has static storage");
  }

  // static constexpr, or a static member function: some '(' comes before any '=', ';' or '{'.
  bool static_is_free(size_t i) const {
    for (size_t j = i + 1; j < t_.size(); ++j) {
      if (text(j) == "constexpr" || text(j) == "(") return true;
      if (text(j) == ";" || text(j) == "=" || text(j) == "{" || text(j) == "[") return false;
    }
    return false;
  }

  // The opening partner of the closing bracket at i.
  size_t opening(size_t i) const {
    int depth = 0;
    for (size_t j = i + 1; j-- > 0;) {
      if (text(j) == ")" || text(j) == "]") ++depth;
      if (text(j) == "(" || text(j) == "[") --depth;
      if (depth == 0) return j;
    }
    return 0;
  }

  void check_star(size_t i) {
    if (i == 0) return;
    const std::string& before = text(i - 1);
    // `T* name`, `a * b`, `T*>`, `T* const`: a declaration or a product.
    if (operand(i - 1) || before == "]" || before == ">") return;
    if (before == ")") {
      const size_t open = opening(i - 1);
      const std::string& head = open > 0 ? text(open - 1) : text(i);
      const bool statement = head == "if" || head == "while" || head == "for" || head == "switch";
      bool cast = open > 0 && !operand(open - 1) && head != ")" && head != "]" && head != ">";
      for (size_t j = open + 1; j + 1 < i && cast; ++j)
        cast = t_[j].name || text(j) == "::" || text(j) == "*" || text(j) == "const";
      if (!statement && !cast) return;
    }
    add(i, "dereferences with *");
  }

  void check_subscript(size_t i) {
    if (i == 0) return;
    if (text(i - 1) == "]") {
      // The second dimension; the first was checked, unless this follows a lambda's capture.
      return;
    }
    if (text(i - 1) == ")") {
      const size_t open = opening(i - 1);
      if (text(open + 1) == "&" && open + 4 == i) return;  // (&name)[N]
      const std::string& head = open > 0 ? text(open - 1) : text(i);
      if (head == "if" || head == "while" || head == "for") return;  // a lambda as a statement
      add(i, "subscripts what a call or an expression gives");
      return;
    }
    if (!t_[i - 1].name || kBeforeExpression.count(text(i - 1)) != 0) return;  // a lambda's capture
    const std::string& name = text(i - 1);
    const bool member = i > 1 && text(i - 2) == ".";
    const bool array = member ? members_.count(name) != 0 : has(arrays_, t_[i].file, name) && !has(pointers_, t_[i].file, name);
    if (!array) add(i, "subscripts " + name + ", which is not declared as an array");
  }

  using Names = std::map<std::string, std::set<std::string>>;
  static bool has(const Names& names, const std::string& file, const std::string& name) {
    const auto at = names.find(file);
    return at != names.end() && at->second.count(name) != 0;
  }

  std::vector<Token> t_;
  Names arrays_, pointers_;        // by file
  std::set<std::string> members_;  // arrays of any file
};

}  // namespace

std::vector<Violation> banned_tokens(std::string_view source) {
  Lexer lexer(source);
  lexer.run();
  Checker checker(std::move(lexer.tokens));
  for (const Token& d : lexer.directives) {
    if (is_device_file(d.file) || d.text == "#pragma once" || d.text.starts_with("#pragma unroll")) continue;
    checker.violations.push_back({d.file, d.line, "has the directive " + d.text});
  }
  checker.run();
  return checker.violations;
}

std::string to_string(const std::vector<Violation>& violations) {
  std::string text;
  for (const Violation& v : violations) text += v.file + ":" + std::to_string(v.line) + ": " + v.what + "\n";
  return text;
}

}  // namespace lathe::testing
