#include "lathe/spec/expr/names.h"

#include <algorithm>
#include <array>

#include "lathe/spec/expr/build.h"

namespace lathe::expr {
namespace {

constexpr std::array<std::string_view, 18> kKeywords{"param",  "const",      "tensor", "let",  "in",          "summary",
                                                     "sorted", "true",       "false",  "inf",  "softmax",     "none",
                                                     "rot",    "normalizer", "rotary", "neox", "interleaved", kUnsafeCuda};

template <class E>
std::optional<E> by_name(std::string_view text, E last) {
  for (size_t i = 0; i <= static_cast<size_t>(last); ++i) {
    const char* name = name_of(static_cast<E>(i));
    if (name != nullptr && text == name) return static_cast<E>(i);
  }
  return std::nullopt;
}

template <class E>
std::optional<E> by_text(std::string_view text, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (text == info(static_cast<E>(i)).text) return static_cast<E>(i);
  }
  return std::nullopt;
}

bool is_name(std::string_view name) {
  auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  return !name.empty() && is_letter(name[0]) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return is_letter(c) || is_digit(c); });
}

}  // namespace

std::optional<Type> type_named(std::string_view text) {
  return by_name(text, Type::f32);
}
std::optional<Elem> elem_named(std::string_view text) {
  return by_name(text, Elem::boolean);
}
std::optional<Axis> axis_named(std::string_view text) {
  return by_name(text, Axis::param);
}
std::optional<Hook> hook_named(std::string_view text) {
  return by_text<Hook>(text, kHooks);
}
std::optional<Input> input_named(std::string_view text) {
  return by_text<Input>(text, kInputs);
}

int infix_strength(std::string_view sign) {
  struct Row {
    std::string_view sign;
    int strength;
  };
  static constexpr std::array<Row, 19> kRows{{{"||", 1},
                                              {"&&", 2},
                                              {"==", kEquality},
                                              {"!=", kEquality},
                                              {"<", kOrder},
                                              {"<=", kOrder},
                                              {">", kOrder},
                                              {">=", kOrder},
                                              {"|", 5},
                                              {"^", 6},
                                              {"&", 7},
                                              {"<<", 8},
                                              {">>", 8},
                                              {"+", 9},
                                              {"-", 9},
                                              {"*", 10},
                                              {"/", 10},
                                              {"//", 10},
                                              {"%", 10}}};
  const auto row = std::find_if(kRows.begin(), kRows.end(), [&](const Row& r) { return r.sign == sign; });
  return row == kRows.end() ? 0 : row->strength;
}

std::string cuda_problem(std::string_view text) {
  if (text.empty()) return "is empty; allowed: the body of a function";
  if (text.size() > kMaxCudaBytes) {
    return "has " + std::to_string(text.size()) + " bytes; allowed: at most " + std::to_string(kMaxCudaBytes);
  }
  const auto is_text = [](char c) { return (c >= ' ' && c < 0x7f) || c == '\n' || c == '\t'; };
  return std::all_of(text.begin(), text.end(), is_text) ? "" : "holds a byte that is no printable ASCII, line end or tab";
}

std::string name_problem(std::string_view name, bool is_let) {
  if (!is_name(name)) return "is not a letter or '_', followed by letters, digits and '_'";
  if (name.size() > kMaxName) return "is longer than " + std::to_string(kMaxName) + " bytes";
  const bool is_keyword = std::find(kKeywords.begin(), kKeywords.end(), name) != kKeywords.end();
  if (is_keyword || is_function(name) || type_named(name) || elem_named(name) || axis_named(name) || hook_named(name)) {
    return "is a word of the language";
  }
  if (!is_let && input_named(name)) return "is an input of hooks";
  return {};
}

}  // namespace lathe::expr
