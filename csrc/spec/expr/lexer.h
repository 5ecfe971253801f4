// Text into tokens, and places in it into words.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lathe::expr {

enum class TokenKind : uint8_t { name, number, sign, end };

struct Token {
  TokenKind kind = TokenKind::end;
  std::string_view text;  // of the text that was given
  size_t at = 0;          // its first byte there
};

struct LexProblem {
  size_t at = 0;
  std::string message, hint;
};

/// Appends the tokens of `text`, an `end` last; returns what is wrong with it: a byte that is no printable ASCII, a sign that the
/// grammar does not know. Nothing of `text` is copied.
std::vector<LexProblem> tokenize(std::string_view text, std::vector<Token>& tokens);

/// "column 7", or "line 2, column 7" when `text` has several lines; counted in bytes from 1.
std::string place_in(std::string_view text, size_t at);

/// A token as messages show it: "'<='", or "the end".
std::string shown(const Token& token);

}  // namespace lathe::expr
