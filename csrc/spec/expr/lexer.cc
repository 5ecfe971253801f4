#include "lathe/spec/expr/lexer.h"

#include <algorithm>
#include <array>

#include "lathe/spec/text.h"

namespace lathe::expr {
namespace {

constexpr size_t kMaxForeign = 4;  // bytes that do not belong there come in crowds

// Longer signs first: the first that fits is taken.
constexpr std::array<std::string_view, 31> kSignTexts{"<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "//", ":=", "+",
                                                      "-",  "*",  "/",  "%",  "&",  "|",  "^",  "<",  ">",  "!",  "?",
                                                      ":",  "=",  "(",  ")",  "[",  "]",  ",",  ";",  "."};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/// The bytes of a number at the start of `text`, with whatever letters stick to it.
size_t number_length(std::string_view text) {
  const bool is_hex = text.size() > 1 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
  size_t i = 0;
  while (i < text.size()) {
    const bool has_exponent = !is_hex && (text[i] == 'e' || text[i] == 'E');
    if (has_exponent && i + 1 < text.size() && (text[i + 1] == '+' || text[i + 1] == '-')) {
      i += 2;
    } else if (is_digit(text[i]) || is_letter(text[i]) || text[i] == '.') {
      ++i;
    } else {
      break;
    }
  }
  return i;
}

std::string hex_byte(char c) {
  static constexpr std::string_view kDigits = "0123456789ABCDEF";
  const auto byte = static_cast<uint8_t>(c);
  return {'0', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
}

LexProblem foreign(std::string_view text, size_t at) {
  const char c = text[at];
  if (static_cast<uint8_t>(c) >= 0x80) {
    return {at, "found byte " + hex_byte(c) + ", expected ASCII", "letters and signs of other scripts may look like ASCII ones"};
  }
  if (c > ' ' && c < 0x7f) return {at, "found '" + std::string(1, c) + "', which is no sign of the language", ""};
  return {at, "found byte " + hex_byte(c) + ", expected printable ASCII", ""};
}

// The letter after a backslash in a text, and what the two stand for.
constexpr std::array<std::pair<char, char>, 4> kEscapes{{{'"', '"'}, {'\\', '\\'}, {'n', '\n'}, {'t', '\t'}}};

/// Takes the text that the quote at `at` begins, which may hold line ends as they are; or tells what is wrong with it.
std::optional<LexProblem> take_text(std::string_view text, size_t at, Token& token) {
  token.kind = TokenKind::text;
  for (size_t i = at + 1; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      token.text = text.substr(at, i + 1 - at);
      return std::nullopt;
    }
    if (c == '\\') {
      const bool known = i + 1 < text.size() && std::ranges::any_of(kEscapes, [&](auto e) { return e.first == text[i + 1]; });
      if (!known) return LexProblem{i, "found '\\' in a text, expected \\\" \\\\ \\n or \\t", ""};
      ++i;
    } else if ((c < ' ' && c != '\n' && c != '\t') || c >= 0x7f) {
      return foreign(text, i);
    }
  }
  return LexProblem{at, "found a text without an end, expected '\"'", ""};
}

}  // namespace

std::string quoted_text(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    const auto escape = std::ranges::find(kEscapes, c, &std::pair<char, char>::second);
    out += escape == kEscapes.end() ? std::string(1, c) : std::string{'\\', escape->first};
  }
  return out + '"';
}

std::string text_of(const Token& token) {
  std::string out;
  for (size_t i = 1; i + 1 < token.text.size(); ++i) {
    const bool is_escape = token.text[i] == '\\';
    if (is_escape) ++i;
    out += is_escape ? std::ranges::find(kEscapes, token.text[i], &std::pair<char, char>::first)->second : token.text[i];
  }
  return out;
}

std::vector<LexProblem> tokenize(std::string_view text, std::vector<Token>& tokens) {
  std::vector<LexProblem> problems;
  size_t at = 0;
  while (at < text.size() && problems.size() < kMaxForeign) {
    const char c = text[at];
    if (is_space(c)) {
      ++at;
      continue;
    }
    const std::string_view rest = text.substr(at);
    Token token{TokenKind::sign, {}, at};
    if (is_letter(c)) {
      token.kind = TokenKind::name;
      const auto end = std::find_if_not(rest.begin(), rest.end(), [](char x) { return is_letter(x) || is_digit(x); });
      token.text = rest.substr(0, static_cast<size_t>(end - rest.begin()));
    } else if (is_digit(c) || (c == '.' && rest.size() > 1 && is_digit(rest[1]))) {
      token.kind = TokenKind::number;
      token.text = rest.substr(0, number_length(rest));
    } else if (c == '"') {
      if (auto problem = take_text(text, at, token)) {
        problems.push_back(*std::move(problem));
        break;  // where it ends is not known
      }
    } else {
      const auto sign = std::find_if(kSignTexts.begin(), kSignTexts.end(), [&](std::string_view s) { return rest.starts_with(s); });
      if (sign == kSignTexts.end()) {
        problems.push_back(foreign(text, at));
        while (++at < text.size() && (static_cast<uint8_t>(text[at]) & 0xc0u) == 0x80u) {
        }
        continue;
      }
      token.text = rest.substr(0, sign->size());
    }
    at += token.text.size();
    tokens.push_back(token);
  }
  tokens.push_back({TokenKind::end, {}, text.size()});
  return problems;
}

std::string place_in(std::string_view text, size_t at) {
  const std::string_view before = text.substr(0, at);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const size_t newline = before.rfind('\n');
  const size_t column = newline == before.npos ? at + 1 : at - newline;
  const std::string place = "column " + std::to_string(column);
  return text.find('\n') == text.npos ? place : "line " + std::to_string(line) + ", " + place;
}

std::string shown(const Token& token) {
  if (token.kind == TokenKind::end) return "the end";
  return "'" + fields::shown(token.text, 32) + "'";
}

}  // namespace lathe::expr
