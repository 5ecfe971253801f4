#include "lathe/spec/expr/simplify.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <string_view>

#include "lathe/spec/expr/rewrite.h"

namespace lathe::expr {
namespace {

/// The normal form of every hook of `hooks`, which have no positions left.
Hooks normal_form(const Hooks& hooks, const Colours& colours) {
  Rewriter rewriter(hooks, colours);
  const std::vector<bool> used = reachable(hooks.graph, hooks.roots);
  std::vector<Id> place(hooks.graph.size(), kNone);
  for (Id id = 0; id < used.size(); ++id) {
    if (!used[id]) continue;
    Node node = carried(hooks.graph[id], hooks.graph, rewriter.hooks().graph);
    for (size_t i = 0; i < node.arity; ++i) node.args[i] = place[node.args[i]];
    place[id] = rewriter.make(node);
  }
  Hooks out = hooks;
  auto roots = hooks.roots;
  for (Id& root : roots) {
    if (root != kNone) root = place[root];
  }
  for (Tensor& tensor : out.tensors) tensor.range.reset();  // it is part of the expressions
  out.graph = {};                                           // without what the rules made and dropped again
  const std::vector<Id> copies = copy(rewriter.hooks().graph, roots, out.graph);
  std::copy(copies.begin(), copies.end(), out.roots.begin());
  return out;
}

/// What declarations say of themselves, names and places excepted.
Colours signatures(const Hooks& hooks) {
  Colours out;
  for (const Param& param : hooks.params) {
    uint64_t colour = mixed(1, static_cast<uint64_t>(param.type));
    if (param.range) {
      for (double end : *param.range) colour = mixed(colour, std::bit_cast<uint64_t>(end));
    }
    out.params.push_back(colour);
  }
  for (const Tensor& tensor : hooks.tensors) {
    uint64_t colour = mixed(2, static_cast<uint64_t>(tensor.elem) << 2 | uint64_t{tensor.summary} << 1 | uint64_t{tensor.sorted});
    for (const TensorAxis& axis : tensor.axes) {
      colour = mixed(colour, static_cast<uint64_t>(axis.axis));
      if (axis.axis == Axis::number) colour = mixed(colour, axis.value);
    }
    out.tensors.push_back(colour);
  }
  return out;
}

uint64_t mixed_text(std::string_view text) {
  uint64_t hash = text.size();
  for (char c : text) hash = mixed(hash, static_cast<uint8_t>(c));
  return hash;
}

/// Tells params and tensors apart by how they are used, so that their order of declaration does not matter: a few rounds in which
/// each takes on what lies around its uses. Nothing here depends on how the operands of a chain (a + b + c, a && b && c) are
/// ordered or grouped. Two that stay alike keep the order of declaration: at worst two spellings get two kernels.
class UseColours {
 public:
  explicit UseColours(const Hooks& hooks) : hooks_(hooks), graph_(hooks.graph), colours_(signatures(hooks)), turns_(graph_.size()) {
    for (Id id = 0; id < graph_.size(); ++id) {
      if (graph_[id].op == Op::abs) turns_[graph_[id].args[0]] = true;
    }
    constexpr int kRounds = 3;
    for (int round = 0; round < kRounds; ++round) refine();
  }
  const Colours& colours() const { return colours_; }

 private:
  /// The place of operand `i` of `id` as far as it matters; what a difference starts from is like a term of a sum.
  uint64_t role(Id id, size_t i) const {
    const Op op = graph_[id].op;
    return info(op).commutative || turns_[id] || (op == Op::sub && i == 0) ? 0 : i + 1;
  }

  /// Whether operand `i` of `id` and `id` are parts of one chain.
  bool continues(Id id, size_t i) const {
    const Node& node = graph_[id];
    const Op inner = graph_[node.args[i]].op;
    if (node.type == Type::f32) return false;
    if (node.op == Op::sub || (node.op == Op::add && inner == Op::sub)) return i == 0 && (inner == Op::add || inner == Op::sub);
    return info(node.op).commutative && node.op != Op::equal && inner == node.op;
  }

  /// What the operands of `id` are, in any order where order does not matter.
  uint64_t operands(Id id) const {
    uint64_t out = 0;
    for (size_t i = 0; i < graph_[id].arity; ++i) {
      const Id arg = graph_[id].args[i];
      out += continues(id, i) ? operands_[arg] : mixed(role(id, i), inside_[arg]);
    }
    return out;
  }

  void look_inside() {
    inside_.clear();
    operands_.clear();
    for (Id id = 0; id < graph_.size(); ++id) {
      const Node& node = graph_[id];
      const uint64_t value = node.op == Op::param  ? colours_.params[node.value]
                             : node.op == Op::read ? colours_.tensors[node.value]
                             : node.op == Op::cuda ? mixed_text(graph_.text(node.value))
                                                   : node.value;
      const Op op = node.op == Op::sub && node.type != Type::f32 ? Op::add : node.op;
      operands_.push_back(operands(id));
      inside_.push_back(mixed(mixed(static_cast<uint64_t>(op) << 8 | static_cast<uint64_t>(node.type), value), operands_.back()));
    }
  }

  void refine() {
    look_inside();
    std::vector<uint64_t> around(graph_.size()), chained(graph_.size());  // by users of other kinds, by users of the same chain
    for (size_t i = 0; i < kHooks; ++i) {
      if (hooks_.roots[i] != kNone) around[hooks_.roots[i]] += mixed(3, i);
    }
    Colours next = colours_;
    for (Id id = static_cast<Id>(graph_.size()); id-- > 0;) {
      const Node& node = graph_[id];
      const uint64_t here = (around[id] != 0 ? mixed(around[id], inside_[id]) : 0) + chained[id];
      for (size_t i = 0; i < node.arity; ++i) {
        const Id arg = node.args[i];
        if (continues(id, i)) {
          chained[arg] += here;
        } else {
          around[arg] += mixed(here, role(id, i));
        }
      }
      if (node.op == Op::param) next.params[node.value] += mixed(4, around[id]);
      if (node.op == Op::read) refine_tensor(node.value, around[id], next);
    }
    colours_ = std::move(next);
  }

  void refine_tensor(uint32_t tensor, uint64_t around, Colours& next) const {
    next.tensors[tensor] += mixed(5, around);
    const std::vector<TensorAxis>& axes = hooks_.tensors[tensor].axes;
    for (size_t i = 0; i < axes.size(); ++i) {
      if (axes[i].axis != Axis::param) continue;
      next.params[axes[i].value] += mixed(mixed(6, i), colours_.tensors[tensor]);
      next.tensors[tensor] += mixed(mixed(7, i), colours_.params[axes[i].value]);
    }
  }

  const Hooks& hooks_;
  const Graph& graph_;
  Colours colours_;
  std::vector<bool> turns_;  // by node: a difference whose sign does not matter
  std::vector<uint64_t> inside_, operands_;
};

/// Copies hooks with nodes, params and tensors numbered in the order in which they are reached from the hooks.
class Renumbering {
 public:
  explicit Renumbering(const Hooks& hooks) : in_(hooks), nodes_(hooks.graph.size(), kNone) {
    params_.resize(hooks.params.size(), kNone);
    tensors_.resize(hooks.tensors.size(), kNone);
    out_.normalizer = hooks.normalizer;
    for (size_t i = 0; i < kHooks; ++i) {
      if (hooks.roots[i] != kNone) out_.roots[i] = node(hooks.roots[i]);
    }
    for (Id id = 0; id < out_.graph.size(); ++id) {
      const Node& leaf = out_.graph[id];
      if (leaf.op == Op::input && leaf.value == static_cast<uint32_t>(Input::rot_x)) out_.rotary = hooks.rotary;
    }
  }
  Hooks take() { return std::move(out_); }

 private:
  /// Operands first, from left to right; without recursion, as simplified sums can be long.
  Id node(Id root) {
    std::vector<Id> open{root};
    while (!open.empty()) {
      const Id id = open.back();
      const auto args = in_.graph[id].operands();
      const auto missing = std::find_if(args.begin(), args.end(), [&](Id arg) { return nodes_[arg] == kNone; });
      if (missing != args.end()) {
        open.push_back(*missing);
        continue;
      }
      open.pop_back();
      if (nodes_[id] == kNone) nodes_[id] = out_.graph.add(renumbered(carried(in_.graph[id], in_.graph, out_.graph)));
    }
    return nodes_[root];
  }
  Node renumbered(Node node) {
    for (size_t i = 0; i < node.arity; ++i) node.args[i] = nodes_[node.args[i]];
    if (node.op == Op::param) node.value = param(node.value);
    if (node.op == Op::read) node.value = tensor(node.value);
    return node;
  }
  uint32_t param(uint32_t index) {
    if (params_[index] == kNone) {
      params_[index] = static_cast<uint32_t>(out_.params.size());
      out_.params.push_back(in_.params[index]);
    }
    return params_[index];
  }
  uint32_t tensor(uint32_t index) {
    if (tensors_[index] == kNone) {
      Tensor copy = in_.tensors[index];
      for (TensorAxis& axis : copy.axes) {
        if (axis.axis == Axis::param) axis.value = param(axis.value);
      }
      tensors_[index] = static_cast<uint32_t>(out_.tensors.size());
      out_.tensors.push_back(std::move(copy));
    }
    return tensors_[index];
  }

  const Hooks& in_;
  Hooks out_;
  std::vector<Id> nodes_;
  std::vector<uint32_t> params_, tensors_;
};

/// Takes out hooks that give what there is without them. Logits that are the weights stay: nothing else is.
void drop_identities(Hooks& hooks) {
  static constexpr std::array kPassed{std::pair{Hook::query, Input::x},           std::pair{Hook::key, Input::x},
                                      std::pair{Hook::value, Input::x},           std::pair{Hook::logits, Input::score},
                                      std::pair{Hook::weight, Input::w},          std::pair{Hook::output, Input::o},
                                      std::pair{Hook::lse_transform, Input::lse}, std::pair{Hook::epilogue, Input::acc}};
  const auto is = [&](Hook hook, Op op, uint32_t value) {
    const Id root = hooks.root(hook);
    return root != kNone && hooks.graph[root].op == op && hooks.graph[root].value == value;
  };
  if (is(Hook::mask, Op::constant, 1)) hooks.root(Hook::mask) = kNone;
  for (const auto& [hook, input] : kPassed) {
    const bool are_weights = hook == Hook::logits && hooks.normalizer == Normalizer::none;
    if (is(hook, Op::input, static_cast<uint32_t>(input)) && !are_weights) hooks.root(hook) = kNone;
  }
}

class ByteWriter {
 public:
  void text(std::string_view value) { put(value.data(), value.size()); }
  template <class T>
  void number(T value) {
    static_assert(std::endian::native == std::endian::little, "integers are written as they lie in memory");
    put(&value, sizeof(value));
  }
  Bytes take() { return std::move(out_); }

 private:
  void put(const void* data, size_t size) {
    const auto* bytes = static_cast<const std::byte*>(data);
    out_.insert(out_.end(), bytes, bytes + size);
  }
  Bytes out_;
};

void write_declarations(const Hooks& hooks, ByteWriter& out) {
  out.number(static_cast<uint32_t>(hooks.params.size()));
  for (const Param& param : hooks.params) {
    out.number(static_cast<uint8_t>(param.type));
    out.number(static_cast<uint8_t>(param.range.has_value()));
    for (double end : param.range.value_or(std::array{0.0, 0.0})) out.number(end);
  }
  out.number(static_cast<uint32_t>(hooks.tensors.size()));
  for (const Tensor& tensor : hooks.tensors) {
    out.number(static_cast<uint8_t>(tensor.elem));
    out.number(static_cast<uint8_t>(tensor.summary));
    out.number(static_cast<uint8_t>(tensor.sorted));
    out.number(static_cast<uint8_t>(tensor.axes.size()));
    for (const TensorAxis& axis : tensor.axes) {
      out.number(static_cast<uint8_t>(axis.axis));
      out.number(axis.value);
    }
  }
}

}  // namespace

Hooks simplify(const Hooks& hooks) {
  return normal_form(with_positions(hooks), signatures(hooks));
}

Hooks canonicalise(const Hooks& hooks) {
  Hooks simple = simplify(hooks);
  drop_identities(simple);
  return Renumbering(normal_form(simple, UseColours(simple).colours())).take();
}

Bytes canonical_bytes(const Hooks& hooks) {
  const Hooks canonical = canonicalise(hooks);
  ByteWriter out;
  out.text(kBytesDomain);
  out.number(uint8_t{0});
  out.number(kBytesVersion);
  out.number(static_cast<uint8_t>(canonical.normalizer));
  out.number(static_cast<uint8_t>(canonical.rotary.interleaved));
  out.number(canonical.rotary.dims);
  write_declarations(canonical, out);
  out.number(static_cast<uint32_t>(canonical.graph.size()));
  for (Id id = 0; id < canonical.graph.size(); ++id) {
    const Node& node = canonical.graph[id];
    out.number(static_cast<uint8_t>(node.op));
    out.number(static_cast<uint8_t>(node.type));
    out.number(node.arity);
    out.number(node.value);
    for (Id arg : node.operands()) out.number(arg);
    if (node.op != Op::cuda) continue;
    const std::string& text = canonical.graph.text(node.value);
    out.number(static_cast<uint32_t>(text.size()));
    out.text(text);
  }
  for (Id root : canonical.roots) out.number(root);
  return out.take();
}

}  // namespace lathe::expr
