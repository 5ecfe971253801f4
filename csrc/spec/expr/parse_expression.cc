#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <numeric>

#include "lathe/spec/expr/names.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/parser.h"
#include "lathe/spec/text.h"

namespace lathe::expr {
namespace {

/// Insertions, deletions and replacements that turn `a` into `b`.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t above = row[j + 1];
      row[j + 1] = std::min({above + 1, row[j] + 1, diagonal + (a[i] != b[j] ? 1 : 0)});
      diagonal = above;
    }
  }
  return row.back();
}

/// A whole number that is past i32, as a number of f32; nothing for others.
std::optional<Node> whole_f32(std::string_view text) {
  if (!std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  if (value <= std::numeric_limits<int32_t>::max() || value > std::numeric_limits<float>::max()) return std::nullopt;
  return f32_node(static_cast<float>(value));
}

/// Counts how deep the reader is; too deep makes it false.
class Nesting {
 public:
  explicit Nesting(int& depth) : depth_(depth) { ++depth_; }
  ~Nesting() { --depth_; }
  explicit operator bool() const { return depth_ <= kMaxNesting; }

 private:
  int& depth_;
};

}  // namespace

std::optional<Node> number_node(std::string_view text) {
  if (text == "inf") return f32_node(std::numeric_limits<float>::infinity());
  const bool is_hex = text.starts_with("0x") || text.starts_with("0X");
  const bool is_real = !is_hex && text.find_first_of(".eE") != text.npos;
  const char* end = text.data() + text.size();
  if (is_real) {
    float value = 0;
    const auto [rest, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc() || rest != end) return std::nullopt;
    return f32_node(value);
  }
  const bool is_unsigned = text.ends_with('u');
  if (is_hex) text.remove_prefix(2);
  if (is_unsigned) text.remove_suffix(1);
  end = text.data() + text.size();
  uint32_t value = 0;
  const auto [rest, error] = std::from_chars(text.data(), end, value, is_hex ? 16 : 10);
  if (error != std::errc() || rest != end) return std::nullopt;
  const bool fits_i32 = value <= static_cast<uint32_t>(std::numeric_limits<int32_t>::max());
  return constant_node(is_unsigned || !fits_i32 ? Type::u32 : Type::i32, value);
}

bool Parser::accept(std::string_view text) {
  if (lost_ || !is(text)) return false;
  ++next_;
  return true;
}

bool Parser::expect(std::string_view text) {
  if (accept(text)) return true;
  expected("'" + std::string(text) + "'");
  return false;
}

bool Parser::expect_name(const char* what, Token& name) {
  if (!lost_ && peek().kind == TokenKind::name) {
    name = take();
    return true;
  }
  expected(what);
  return false;
}

void Parser::expected(const std::string& what, const std::string& hint) {
  if (lost_) return;
  report(peek(), "found " + shown(peek()) + ", expected " + what, hint);
  lost_ = true;
}

Id Parser::note(const Token& at, const Built& built) {
  if (!built.ok()) {
    report(at, built.problem, built.hint);
    return kNone;
  }
  if (hooks_.graph.size() > kMaxGraph) {
    expected("an end: more than " + std::to_string(kMaxGraph) + " nodes");
    return kNone;
  }
  places_.try_emplace({where_, built.id}, Place{sources_.size() - 1, at.at});
  return built.id;
}

const Parser::Binding* Parser::find(std::string_view name) const {
  const auto found = std::find_if(names_.rbegin(), names_.rend(), [&](const Named& named) { return named.name == name; });
  return found == names_.rend() ? nullptr : &found->binding;
}

std::string Parser::nearest_name(std::string_view name) const {
  std::string best;
  size_t least = 3;  // further away it is another name
  auto offer = [&](std::string_view candidate) {
    const size_t distance = edit_distance(name, candidate);
    if (distance < least && distance < candidate.size()) {
      least = distance;
      best = candidate;
    }
  };
  if (name.size() > kMaxName) return best;
  for (const Named& named : names_) offer(named.name);
  for (size_t i = 0; i < kInputs; ++i) offer(info(static_cast<Input>(i)).text);
  for (size_t i = 0; i < kOps; ++i) {
    if (info(static_cast<Op>(i)).is_function) offer(info(static_cast<Op>(i)).text);
  }
  return best;
}

Id Parser::expression() {
  Nesting nesting(depth_);
  if (!nesting) {
    expected("at most " + std::to_string(kMaxNesting) + " levels of nesting", "name parts with let");
    return kNone;
  }
  const Id condition = binary(1);
  const Token question = peek();
  if (!accept("?")) return condition;
  const Id yes = expression();
  if (!expect(":")) return kNone;
  const Id no = expression();
  if (condition == kNone || yes == kNone || no == kNone) return kNone;
  return note(question, builder_.select(condition, yes, no));
}

Id Parser::binary(int least) {
  Id left = unary();
  while (!lost_) {
    const Token sign = peek();
    const int own = sign.kind == TokenKind::sign ? infix_strength(sign.text) : 0;
    if (own < least || own == 0) break;
    take();
    const Id right = binary(own + 1);
    if (lost_) return kNone;
    left = left == kNone || right == kNone ? kNone : note(sign, builder_.infix(sign.text, left, right));
    if ((own == kEquality || own == kOrder) && infix_strength(peek().text) == own) {
      expected("the end of the comparison", "comparisons do not chain: write a < b && b < c");
    }
  }
  return lost_ ? kNone : left;
}

Id Parser::unary() {
  const Token sign = peek();
  if (!is("-") && !is("!")) return primary();
  Nesting nesting(depth_);
  if (!nesting) {
    expected("at most " + std::to_string(kMaxNesting) + " levels of nesting");
    return kNone;
  }
  take();
  const Id operand = unary();
  return operand == kNone ? kNone : note(sign, builder_.prefix(sign.text, operand));
}

Id Parser::primary() {
  if (lost_) return kNone;
  const Token token = peek();
  if (token.kind == TokenKind::number) return number();
  if (accept("(")) {
    const Id inner = expression();
    return expect(")") ? inner : kNone;
  }
  if (token.kind == TokenKind::name) {
    take();
    return name_reference(token);
  }
  expected("an expression");
  return kNone;
}

Id Parser::number() {
  const Token token = take();
  const auto node = number_node(token.text);
  if (node) return note(token, builder_.constant(*node));
  report(token,
         shown(token) + " is no number of the language; allowed: i32, u32 (0x1f, 5u), f32 (1.5, 1e-4, inf) within their range");
  return kNone;
}

Id Parser::name_reference(const Token& name) {
  if (is("(")) return call(name);
  if (const Binding* binding = find(name.text)) {
    switch (binding->kind) {
      case Binding::param:
        return note(name, builder_.param(binding->index));
      case Binding::tensor:
        return tensor_read(name, binding->index);
      case Binding::broken: {
        std::vector<Id> at;
        if (accept("[")) arguments("]", at);
        return kNone;
      }
      default:
        return note(name, binding->id);
    }
  }
  if (name.text == "true" || name.text == "false") return note(name, builder_.constant(bool_node(name.text == "true")));
  if (name.text == "inf") return note(name, builder_.constant(*number_node(name.text)));
  if (auto input = input_named(name.text)) return note(name, builder_.input(*input));
  const std::string nearest = nearest_name(name.text);
  report(name, "unknown name " + shown(name),
         nearest.empty() ? "declare it: param, const, tensor or let" : "did you mean " + nearest + "?");
  return kNone;
}

Id Parser::call(const Token& name) {
  std::vector<Id> args;
  if (name.text == "rot") {
    const bool is_x = expect("(") && expect("x") && expect(")");
    if (is_x && find("x") != nullptr) {
      report(name, "rot(x) is of the input x, which a let of that name hides here; allowed: another name for the let");
      return kNone;
    }
    return is_x ? note(name, builder_.input(Input::rot_x)) : kNone;
  }
  if (name.text == kUnsafeCuda) {
    report(name, "unsafe_cuda is a part of an expression; allowed: all of a hook", "what it needs can be among its operands");
    lost_ = true;
    return kNone;
  }
  if (!is_function(name.text)) {
    const std::string nearest = nearest_name(name.text);
    if (find(name.text) != nullptr) {
      report(name, shown(name) + " is no function", "tensors are read with [ ]");
    } else {
      report(name, "unknown function " + shown(name), nearest.empty() ? "" : "did you mean " + nearest + "?");
    }
    take();
    arguments(")", args);
    return kNone;
  }
  take();
  if (!arguments(")", args)) return kNone;
  return note(name, builder_.call(name.text, args));
}

/// unsafe_cuda("text", operands ...), which is all of `hook`.
Id Parser::cuda(Hook hook) {
  const Token name = take();
  if (!expect("(")) return kNone;
  if (peek().kind != TokenKind::text) {
    expected("a text in double quotes");
    return kNone;
  }
  const std::string text = text_of(take());
  std::vector<Id> args;
  const bool sound = accept(",") ? arguments(")", args) : expect(")");
  return sound ? note(name, builder_.cuda(hook, text, args)) : kNone;
}

Id Parser::tensor_read(const Token& name, uint32_t index) {
  if (!is("[")) {
    expected("'[': " + std::string(name.text) + " is a tensor");
    return kNone;
  }
  take();
  std::vector<Id> at;
  if (!arguments("]", at)) return kNone;
  return note(name, builder_.read(index, at));
}

/// The expressions up to `close`. False when one of them has a problem.
bool Parser::arguments(std::string_view close, std::vector<Id>& args) {
  bool sound = true;
  do {
    args.push_back(expression());
    sound = sound && args.back() != kNone;
  } while (accept(","));
  return expect(close) && sound;
}

bool Parser::constant_number(Node& node, Type wanted, const std::string& hint) {
  const bool negative = accept("-");
  const Token token = peek();
  const Binding* binding = token.kind == TokenKind::name ? find(token.text) : nullptr;
  if (binding != nullptr && binding->kind == Binding::constant) {
    node = hooks_.graph[binding->id];
  } else if (auto whole = wanted == Type::f32 && token.kind == TokenKind::number ? whole_f32(token.text) : std::nullopt) {
    node = *whole;
  } else if (auto given = token.kind == TokenKind::number || token.text == "inf" ? number_node(token.text) : std::nullopt) {
    node = *given;
  } else {
    expected("a number", hint);
    return false;
  }
  take();
  if (!negative) return true;
  const Id id = note(token, builder_.prefix("-", builder_.constant(node)));
  if (id != kNone) node = hooks_.graph[id];
  return id != kNone && node.op == Op::constant;
}

}  // namespace lathe::expr
