// Text into tokens, and places in it into words.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lathe::expr {

enum class TokenKind : uint8_t { name, number, sign, text, end };

struct Token {
  TokenKind kind = TokenKind::end;
  std::string_view text;  // of the text that was given; of a text with its quotes
  size_t at = 0;          // its first byte there
};

struct LexProblem {
  size_t at = 0;
  std::string message, hint;
};

/// Appends the tokens of `text`, an `end` last; returns what is wrong with it: a byte that is no printable ASCII, a sign that the
/// grammar does not know, a text that does not end or has an escape of another kind. Nothing of `text` is copied.
std::vector<LexProblem> tokenize(std::string_view text, std::vector<Token>& tokens);

/// `text` in double quotes, as the language writes it: \" \\ \n \t for a quote, a backslash, a line end and a tab.
std::string quoted_text(std::string_view text);
/// What a token of kind text, which tokenize() took, stands for.
std::string text_of(const Token& token);

/// "column 7", or "line 2, column 7" when `text` has several lines; counted in bytes from 1.
std::string place_in(std::string_view text, size_t at);

/// A token as messages show it: "'<='", or "the end".
std::string shown(const Token& token);

}  // namespace lathe::expr
