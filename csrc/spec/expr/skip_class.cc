#include "lathe/spec/expr/skip_class.h"

#include <algorithm>
#include <array>
#include <vector>

#include "lathe/spec/expr/simplify.h"

namespace lathe::expr {
namespace {

/// How an expression depends on the key.
enum class Shape : uint8_t {
  fixed,    // not at all
  line,     // rising or falling all along, as a sum with kv in one place is
  pieces,   // a choice between lines: comparing it with something fixed gives ranges
  other,    // known in a tile, but no ranges
  unknown,  // not known before the kernel runs
};

class Shapes {
 public:
  explicit Shapes(const Hooks& hooks) : hooks_(hooks), shapes_(hooks.graph.size()), rows_(hooks.graph.size()) {
    for (Id id = 0; id < hooks.graph.size(); ++id) {
      const Node& node = hooks.graph[id];
      rows_[id] = std::any_of(node.operands().begin(), node.operands().end(), [&](Id arg) { return rows_[arg]; });
      if (node.op == Op::input) rows_[id] = changes_with_row(static_cast<Input>(node.value));
      shapes_[id] = of(node);
    }
  }

  /// What the comparisons of a bool expression allow, taken together.
  struct Found {
    bool ranges = false, tiles = false;
  };
  void gather(Id id, Found& found) const {
    const Node& node = hooks_.graph[id];
    const bool is_bool_equal = node.op == Op::equal && hooks_.graph[node.args[0]].type == Type::boolean;
    const bool is_logic = node.op == Op::logical_and || node.op == Op::logical_or || node.op == Op::logical_not ||
                          (node.op == Op::select && node.type == Type::boolean) || is_bool_equal;
    if (is_logic) {
      for (Id arg : node.operands()) gather(arg, found);
      return;
    }
    switch (shapes_[id]) {
      case Shape::fixed:
      case Shape::line:
      case Shape::pieces:
        found.ranges = true;
        break;
      case Shape::other:
        found.tiles = true;
        break;
      case Shape::unknown:
        break;
    }
  }

 private:
  static bool changes_with_row(Input input) { return input == Input::q || input == Input::tok; }

  Shape of(const Node& node) const {
    if (node.type == Type::f32) return Shape::unknown;
    switch (node.op) {
      case Op::constant:
      case Op::param:
        return Shape::fixed;
      case Op::input: {
        const auto input = static_cast<Input>(node.value);
        return input == Input::kv ? Shape::line : input == Input::slot ? Shape::unknown : Shape::fixed;
      }
      case Op::read:
        return of_read(node);
      case Op::cuda:
        return Shape::unknown;
      default:
        return of_operator(node);
    }
  }

  Shape of_read(const Node& node) const {
    const Tensor& tensor = hooks_.tensors[node.value];
    bool fixed = true, depends_on_row = false;
    for (Id arg : node.operands()) {
      if (shapes_[arg] == Shape::unknown) return Shape::unknown;
      fixed = fixed && shapes_[arg] == Shape::fixed;
      depends_on_row = depends_on_row || rows_[arg];
    }
    const bool known = tensor.summary || tensor.sorted || (fixed && !depends_on_row);
    return !known ? Shape::unknown : fixed ? Shape::fixed : Shape::other;
  }

  Shape of_operator(const Node& node) const {
    Shape most = Shape::fixed;
    size_t with_key = 0;
    for (Id arg : node.operands()) {
      most = std::max(most, shapes_[arg]);
      with_key += shapes_[arg] == Shape::fixed ? 0 : 1;
    }
    if (most == Shape::fixed || most == Shape::unknown || most == Shape::other) return most;
    const bool one = with_key == 1;
    switch (node.op) {
      case Op::add:
      case Op::sub:
      case Op::less:
      case Op::less_equal:
      case Op::equal:
        return one ? most : Shape::other;
      case Op::neg:
        return most;
      case Op::mul:
        return one && most == Shape::line ? most : Shape::other;
      case Op::floor_div:
      case Op::shr:
      case Op::shl:
        return most == Shape::line && shapes_[node.args[1]] == Shape::fixed ? most : Shape::other;
      case Op::abs:
      case Op::min:
      case Op::max:
        return Shape::pieces;
      case Op::select:
        return shapes_[node.args[0]] == Shape::unknown ? Shape::unknown : Shape::pieces;
      default:
        return Shape::other;
    }
  }

  const Hooks& hooks_;
  std::vector<Shape> shapes_;
  std::vector<bool> rows_;  // depends on q or tok
};

}  // namespace

const char* name_of(SkipClass skip) {
  switch (skip) {
    case SkipClass::ranges:
      return "ranges";
    case SkipClass::tiles:
      return "tiles";
    case SkipClass::off:
      return "off";
  }
  return "";
}

SkipClass skip_class(const Hooks& hooks) {
  const Hooks simple = simplify(hooks);
  const Id mask = simple.root(Hook::mask);
  if (mask == kNone) return SkipClass::ranges;
  Shapes::Found found;
  Shapes(simple).gather(mask, found);
  return found.tiles ? SkipClass::tiles : found.ranges ? SkipClass::ranges : SkipClass::off;
}

bool mask_differs_by_head(const Hooks& hooks) {
  if (skip_class(hooks) == SkipClass::off) return false;
  const std::array root{hooks.root(Hook::mask)};
  const std::vector<bool> used = reachable(hooks.graph, root);
  for (Id id = 0; id < hooks.graph.size(); ++id) {
    const Node& node = hooks.graph[id];
    if (!used[id] || node.op != Op::input) continue;
    const auto input = static_cast<Input>(node.value);
    if (input == Input::h || input == Input::hk) return true;
  }
  return false;
}

}  // namespace lathe::expr
