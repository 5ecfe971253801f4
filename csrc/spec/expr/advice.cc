#include "lathe/spec/expr/advice.h"

#include <algorithm>
#include <utility>

#include "lathe/spec/expr/bounds.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/expr/variation.h"
#include "lathe/spec/text.h"

namespace lathe::expr {
namespace {

class MaskAdvice {
 public:
  MaskAdvice(const Hooks& hooks, std::vector<Finding>& out) : hooks_(hooks), variations_(variations(hooks)), out_(out) {}

  void run() {
    const Id root = hooks_.root(Hook::mask);
    const std::vector<bool> used = reachable(hooks_.graph, {&root, 1});
    for (Id id = 0; id <= root; ++id) {
      const Node& node = hooks_.graph[id];
      const bool compares = node.op == Op::equal || node.op == Op::less || node.op == Op::less_equal;
      if (!used[id] || !compares) continue;
      const auto [a, b] = std::pair{node.args[0], node.args[1]};
      if (is_read_pair(node.op, a, b)) {
        note(id, "'" + text(id) + "' reads an element of the row and one of the key",
             "one read does where equal elements stand side by side: give each row the first key of its run, as in "
             "tensor start: i32[TOK] sorted; start[tok] <= kv_pos, by which whole tiles can be skipped");
      } else if (is_sentinel(node.op, a, b) || is_sentinel(node.op, b, a)) {
        note(id, "'" + text(id) + "' asks for a mark, a negative number among ids",
             "give each row half-open bounds: tensor lo, hi: i32[TOK] summary, and lo[tok] <= kv_pos && kv_pos < hi[tok], of which "
             "whole tiles can be skipped");
      }
    }
  }

 private:
  std::string text(Id id) const { return fields::shown(to_text(hooks_, id), 48); }
  void note(Id node, std::string message, std::string hint) {
    out_.push_back({false, Hook::mask, node, std::move(message), std::move(hint), info(Hook::mask).text});
  }

  /// The node of an element, without its bounds.
  const Node& element(Id id) const {
    const Id read = bounded_read(hooks_, id);
    return hooks_.graph[read != kNone ? read : id];
  }

  /// Whole numbers read at an index of the row and at one of the key, whether from one tensor or two.
  bool is_read_pair(Op op, Id a, Id b) const {
    const Node &x = element(a), &y = element(b);
    if (op != Op::equal || x.op != Op::read || y.op != Op::read || x.type != Type::i32) return false;
    const auto [first, second] = std::minmax(variations_[a], variations_[b]);
    return first == Variation::row && second == Variation::column;
  }

  /// An element that changes with rows or keys beside a negative number, or asked whether it is one.
  bool is_sentinel(Op op, Id id, Id number) const {
    const Node &x = element(id), &y = hooks_.graph[number];
    if (x.op != Op::read || x.type != Type::i32 || variations_[id] == Variation::kernel) return false;
    if (y.op != Op::constant) return false;
    return as_i32(y) < 0 || (op != Op::equal && as_i32(y) == 0);
  }

  const Hooks& hooks_;
  const std::vector<Variation> variations_;
  std::vector<Finding>& out_;
};

/// Of a vector hook of keys: computed anew for each tile of rows, though it may be the same for all of a request's life.
void advise_append(const Hooks& hooks, Hook hook, std::vector<Finding>& out) {
  const Hooks placed = with_positions(hooks);
  const Id root = placed.root(hook);
  if (root == kNone) return;
  const std::vector<bool> used = reachable(placed.graph, {&root, 1});
  for (Id id = 0; id <= root; ++id) {
    const Node& node = placed.graph[id];
    if (!used[id] || node.op != Op::input) continue;
    const auto input = static_cast<Input>(node.value);
    if (input == Input::qo_len || input == Input::kv_len || input == Input::level) return;  // not known, or not final, at append
  }
  const std::string name = info(hook).text;
  out.push_back({false, hook, kNone,
                 name + " is computed for each tile of rows that reads a key, and depends on nothing of the query",
                 "apply it once, when keys and values are appended", name});
}

}  // namespace

std::vector<Finding> advice(const Hooks& hooks) {
  std::vector<Finding> out;
  if (hooks.root(Hook::mask) != kNone) MaskAdvice(hooks, out).run();
  advise_append(hooks, Hook::key, out);
  advise_append(hooks, Hook::value, out);
  return out;
}

}  // namespace lathe::expr
