// Declarations in the text of hooks: param, tensor, const.
#include <algorithm>
#include <array>
#include <limits>

#include "lathe/spec/expr/bounds.h"
#include "lathe/spec/expr/names.h"
#include "lathe/spec/expr/parser.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/expr/range.h"

namespace lathe::expr {
namespace {

/// The value of a constant as a range's end; nothing when it is no number of `type`.
std::optional<double> bound_of(const Node& node, Type type) {
  if (type == Type::f32) {
    if (node.type == Type::f32) return static_cast<double>(as_f32(node));
    return node.type == Type::i32 ? std::optional<double>(as_i32(node)) : std::nullopt;
  }
  if (node.type == Type::i32 && (type == Type::i32 || as_i32(node) >= 0)) return as_i32(node);
  if (node.type == Type::u32 && type == Type::u32) return node.value;
  return std::nullopt;
}

}  // namespace

bool Parser::names_until_colon(std::vector<Token>& names) {
  names.clear();
  do {
    Token name;
    if (!expect_name("a name", name)) return false;
    names.push_back(name);
  } while (accept(","));
  return expect(":");
}

/// "[least, greatest]", of whole numbers within `limits` or of numbers of f32. `name` is of the type that is bounded. False when it
/// is none; what is sound of the statement is read all the same.
bool Parser::range(Type type, const std::string& name, const std::array<double, 2>& limits,
                   std::optional<std::array<double, 2>>& range) {
  const Token start = peek();
  if (!is("[")) return expected("'['", "a range is [least, greatest]"), false;
  take();
  if (type == Type::boolean) {
    report(start, "a bool has no range");
    while (peek().kind != TokenKind::end && !is("]") && !is(";")) take();
    return expect("]") && false;
  }
  const std::string allowed =
      type == Type::f32 ? "a number of f32" : "a whole number in [" + number_text(limits[0]) + ", " + number_text(limits[1]) + "]";
  std::array<double, 2> ends{};
  bool sound = true;
  for (size_t i = 0; i < ends.size(); ++i) {
    Node node;
    Token at = peek();
    if (!constant_number(node, type, "as an end of the range of " + name + ", " + allowed)) return false;
    const std::string_view last = tokens_[next_ - 1].text;
    at.text = {at.text.data(), static_cast<size_t>(last.data() + last.size() - at.text.data())};  // with its sign
    const std::optional<double> bound = bound_of(node, type);
    const bool fits = bound && (type == Type::f32 || (*bound >= limits[0] && *bound <= limits[1]));
    if (!fits) report(at, "the range of " + name + " ends at " + shown(at) + "; allowed: " + allowed);
    sound = sound && fits;
    ends[i] = bound.value_or(0);
    if (!expect(i == 0 ? "," : "]")) return false;
  }
  if (!sound) return false;
  if (ends[0] > ends[1]) {
    report(start, "the range is empty; allowed: [least, greatest]", "the least number comes first");
    return false;
  }
  range = range_ends(type, ends);
  return true;
}

void Parser::param_declaration() {
  do {
    std::vector<Token> names;
    if (!names_until_colon(names)) return;
    Param param;
    const auto type = type_named(peek().text);
    if (!type) return expected("a type: i32, u32, f32, bool");
    take();
    param.type = *type;
    const Range limits = whole_range(*type);
    const bool sound = !accept("in") || range(*type, name_of(*type), {limits.lo, limits.hi}, param.range);
    if (lost_) return;
    for (const Token& name : names) {
      if (!may_declare(name, false)) continue;
      const auto index = static_cast<uint32_t>(hooks_.params.size());
      param.name = std::string(name.text);
      declare(name, {sound ? Binding::param : Binding::broken, index, kNone});
      add(param, {sources_.size() - 1, name.at});
    }
  } while (accept(","));
}

bool Parser::axis(TensorAxis& axis) {
  const Token token = peek();
  if (auto named = token.kind == TokenKind::name ? axis_named(token.text) : std::nullopt) {
    take();
    axis = {*named, 0};
    return true;
  }
  const Binding* binding = token.kind == TokenKind::name ? find(token.text) : nullptr;
  if (binding != nullptr && binding->kind == Binding::param && hooks_.params[binding->index].type == Type::i32) {
    take();
    axis = {Axis::param, binding->index};
    return true;
  }
  const bool is_constant = token.kind == TokenKind::number || (binding != nullptr && binding->kind == Binding::constant);
  Node node;
  if (is_constant && constant_number(node) && node.type == Type::i32 && as_i32(node) >= 1) {
    axis = {Axis::number, node.value};
    return true;
  }
  if (is_constant && !lost_) {
    report(token, "an axis is " + shown(token) + " long; allowed: 1.." + std::to_string(std::numeric_limits<int32_t>::max()));
    return false;
  }
  expected("an axis: B, HQ, HKV, TOK, QLEN, KVPOS, SLOT, PAGE, D, N, a number, or an i32 param");
  return false;
}

bool Parser::tensor_axes(Tensor& tensor) {
  if (!expect("[")) return false;
  bool sound = true;
  do {
    const Token at = peek();
    TensorAxis next;
    sound = axis(next) && sound;
    if (lost_) return false;
    tensor.axes.push_back(next);
    if (tensor.axes.size() == kMaxAxes + 1) {
      report(at, "found a fifth axis, expected at most " + std::to_string(kMaxAxes));
      sound = false;
    }
  } while (accept(","));
  return expect("]") && sound;
}

/// What stands behind the axes, in any order.
bool Parser::tensor_qualities(Tensor& tensor) {
  bool sound = true, bounded = false;
  while (is("summary") || is("sorted") || is("in")) {
    const Token word = take();
    if (word.text == "summary") tensor.summary = true;
    if (word.text == "sorted") tensor.sorted = true;
    if (word.text != "in") continue;
    if (bounded) report(word, "found a second range, expected one");
    const bool is_range = range(read_type(tensor.elem), name_of(tensor.elem), limits_of(tensor.elem), tensor.range);
    sound = sound && is_range && !bounded;
    bounded = true;
    if (lost_) return false;
  }
  return sound;
}

void Parser::tensor_declaration() {
  do {
    std::vector<Token> names;
    if (!names_until_colon(names)) return;
    Tensor tensor;
    const auto elem = elem_named(peek().text);
    if (!elem) return expected("an element type: f32, f16, bf16, e4m3, e5m2, i32, i8, u8, u32, bool");
    take();
    tensor.elem = *elem;
    const bool has_axes = tensor_axes(tensor);
    if (lost_) return;
    const bool sound = tensor_qualities(tensor) && has_axes;
    if (lost_) return;
    for (const Token& name : names) {
      if (!may_declare(name, false)) continue;
      const auto index = static_cast<uint32_t>(hooks_.tensors.size());
      tensor.name = std::string(name.text);
      declare(name, {sound ? Binding::tensor : Binding::broken, index, kNone});
      add(tensor, {sources_.size() - 1, name.at});
    }
  } while (accept(","));
}

void Parser::const_declaration() {
  where_ = -1;
  do {
    Token name;
    Node node;
    if (!expect_name("a name", name) || !expect("=") || !constant_number(node)) return;
    if (may_declare(name, false)) declare(name, {Binding::constant, 0, builder_.constant(node)});
  } while (accept(","));
}

}  // namespace lathe::expr
