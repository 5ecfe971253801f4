#include "lathe/spec/expr/print.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "lathe/spec/expr/bounds.h"
#include "lathe/spec/expr/lexer.h"
#include "lathe/spec/expr/names.h"

namespace lathe::expr {
namespace {

constexpr size_t kLong = 1024;     // bytes of one expression, above which shared parts become lets
constexpr uint32_t kDeep = 24;     // levels, after which a part becomes a let: parse() bounds nesting
constexpr int kMessageDepth = 12;  // levels of a message

std::string float_text(float value) {
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 32> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
  std::string text(buffer.data(), end);
  return text.find_first_of(".e") == text.npos ? text + ".0" : text;
}

std::string bound_text(double bound, Type type) {
  return type == Type::f32 ? float_text(static_cast<float>(bound)) : number_text(bound);
}

std::string range_text(const std::optional<std::array<double, 2>>& range, Type type) {
  return range ? " in [" + bound_text((*range)[0], type) + ", " + bound_text((*range)[1], type) + "]" : "";
}

std::string constant_text(const Node& node) {
  switch (node.type) {
    case Type::boolean:
      return node.value != 0 ? "true" : "false";
    case Type::i32:
      return std::to_string(as_i32(node));
    case Type::u32:
      return std::to_string(node.value) + "u";
    case Type::f32:
      return float_text(as_f32(node));
  }
  return {};
}

/// Writes expressions. Parts that have a name are written as that name.
class Writer {
 public:
  Writer(const Hooks& hooks, size_t limit, int depth) : hooks_(hooks), names_(hooks.graph.size()), limit_(limit), depth_(depth) {}

  std::string& name(Id id) { return names_[id]; }
  /// The text of `id` itself, not of its name.
  std::string text(Id id) {
    out_.clear();
    write_node(id, 0);
    return std::move(out_);
  }

 private:
  void write(Id id, int least) {
    if (names_[id].empty()) return write_node(id, least);
    out_ += names_[id];
  }

  void write_node(Id id, int least) {
    if (out_.size() > limit_ || depth_ == 0) {
      out_ += "...";
      return;
    }
    --depth_;
    const Id read = bounded_read(hooks_, id);  // its declaration says the rest
    const Node& node = hooks_.graph[read != kNone ? read : id];
    const int own = strength(node);
    if (own < least) out_ += '(';
    write_form(node, own);
    if (own < least) out_ += ')';
    ++depth_;
  }

  bool is_unequal(const Node& node) const { return node.op == Op::logical_not && hooks_.graph[node.args[0]].op == Op::equal; }

  /// How tight what is written for `node` binds.
  int strength(const Node& node) const {
    if (node.op == Op::select) return 0;
    if (is_unequal(node)) return kEquality;
    if (node.arity == 2 && !info(node.op).is_function && node.op != Op::read && node.op != Op::cuda)
      return infix_strength(info(node.op).text);
    return kPrefix;
  }

  void write_form(const Node& node, int own) {
    const OpInfo& op = info(node.op);
    if (node.op == Op::constant) {
      out_ += constant_text(node);
    } else if (node.op == Op::input) {
      out_ += info(static_cast<Input>(node.value)).text;
    } else if (node.op == Op::param) {
      out_ += hooks_.params[node.value].name;
    } else if (node.op == Op::read) {
      out_ += hooks_.tensors[node.value].name;
      write_list('[', node.operands(), ']');
    } else if (node.op == Op::cuda) {
      write_cuda(node);
    } else if (op.is_function) {
      out_ += op.text;
      write_list('(', node.operands(), ')');
    } else if (node.op == Op::select) {
      write(node.args[0], 1);
      out_ += " ? ";
      write(node.args[1], 0);
      out_ += " : ";
      write(node.args[2], 0);
    } else if (is_unequal(node)) {
      write_infix(" != ", hooks_.graph[node.args[0]], own);
    } else if (node.arity == 1) {
      out_ += op.text;
      write(node.args[0], own);
    } else {
      write_infix(" " + std::string(op.text) + " ", node, own);
    }
  }

  void write_infix(const std::string& sign, const Node& node, int own) {
    const bool chains = own != kEquality && own != kOrder;
    write(node.args[0], chains ? own : own + 1);
    out_ += sign;
    write(node.args[1], own + 1);
  }

  void write_cuda(const Node& node) {
    out_ += std::string(kUnsafeCuda) + "(" + quoted_text(hooks_.graph.text(node.value));
    for (Id arg : node.operands()) {
      out_ += ", ";
      write(arg, 0);
    }
    out_ += ')';
  }

  void write_list(char open, std::span<const Id> items, char close) {
    out_ += open;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += ", ";
      write(items[i], 0);
    }
    out_ += close;
  }

  const Hooks& hooks_;
  std::vector<std::string> names_;
  const size_t limit_;
  int depth_;
  std::string out_;
};

/// Names for lets that nothing else in `hooks` has.
std::string fresh_name(const Hooks& hooks, int& last) {
  std::string name;
  auto has_name = [&](const auto& declared) { return declared.name == name; };
  do {
    name = "v" + std::to_string(++last);
  } while (std::any_of(hooks.params.begin(), hooks.params.end(), has_name) ||
           std::any_of(hooks.tensors.begin(), hooks.tensors.end(), has_name));
  return name;
}

/// Of one expression, by node: how often it is used, how high it stands above its leaves, about how long it is written out, and
/// whether it is written at all, unlike what an element's bounds are made of.
struct TextShape {
  std::vector<uint32_t> uses, height;
  std::vector<double> length;
  std::vector<bool> written;

  TextShape(const Hooks& hooks, Id root)
      : uses(hooks.graph.size()), height(uses.size()), length(uses.size()), written(uses.size(), true) {
    constexpr double kLeaf = 8, kSigns = 4;
    const Graph& graph = hooks.graph;
    const std::vector<bool> used = reachable(graph, {&root, 1});
    for (Id id = 0; id <= root; ++id) {
      length[id] = graph[id].arity == 0 ? kLeaf : kSigns;
      for (Id arg : graph[id].operands()) {
        if (used[id]) ++uses[arg];
        height[id] = std::max(height[id], height[arg] + 1);
        length[id] += length[arg];
      }
      const Id read = bounded_read(hooks, id);
      if (read == kNone) continue;
      height[id] = height[read];
      length[id] = length[read];
      written[read] = written[graph[id].args[0]] = false;
    }
  }
};

}  // namespace

std::string hook_text(const Hooks& hooks, Hook hook) {
  const Id root = hooks.root(hook);
  const Graph& graph = hooks.graph;
  const TextShape shape(hooks, root);
  Writer writer(hooks, std::string::npos, std::numeric_limits<int>::max());
  std::string out;
  int last = 0;
  for (Id id = 0; id < root; ++id) {
    const bool is_shared = shape.length[root] > kLong && shape.uses[id] > 1;
    const bool is_deep = shape.uses[id] > 0 && shape.height[id] % kDeep == 0;
    if (graph[id].arity == 0 || !shape.written[id] || !(is_shared || is_deep)) continue;
    const std::string name = fresh_name(hooks, last);
    out += "let " + name + " = " + writer.text(id) + "; ";
    writer.name(id) = name;
  }
  return out + writer.text(root);
}

std::string to_text(const Param& param) {
  return "param " + param.name + ": " + name_of(param.type) + range_text(param.range, param.type);
}

std::string to_text(const Tensor& tensor, std::span<const Param> params) {
  std::string axes;
  for (const TensorAxis& axis : tensor.axes) {
    axes += axes.empty() ? "" : ", ";
    if (axis.axis == Axis::number) {
      axes += std::to_string(axis.value);
    } else {
      axes += axis.axis == Axis::param ? params[axis.value].name : name_of(axis.axis);
    }
  }
  return "tensor " + tensor.name + ": " + name_of(tensor.elem) + "[" + axes + "]" +
         range_text(tensor.range, read_type(tensor.elem)) + (tensor.summary ? " summary" : "") + (tensor.sorted ? " sorted" : "");
}

std::optional<int64_t> as_integer(double value) {
  constexpr double kExact = 9007199254740992.0;  // 2^53
  if (!(std::fabs(value) <= kExact) || std::floor(value) != value) return std::nullopt;
  return static_cast<int64_t>(value);
}

std::string number_text(double value) {
  if (const std::optional<int64_t> whole = as_integer(value)) return std::to_string(*whole);
  std::array<char, 32> buffer{};
  return {buffer.data(), std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr};
}

std::string number_text(float value) {
  std::array<char, 32> buffer{};
  return {buffer.data(), std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr};
}

std::string to_text(const Rotary& rotary) {
  return std::string(rotary.interleaved ? "interleaved" : "neox") +
         (rotary.dims == 0 ? "" : "(" + std::to_string(rotary.dims) + ")");
}

std::string to_text(const Hooks& hooks) {
  std::string out;
  for (const Param& param : hooks.params) out += to_text(param) + ";\n";
  for (const Tensor& tensor : hooks.tensors) out += to_text(tensor, hooks.params) + ";\n";
  if (hooks.normalizer == Normalizer::none) out += "normalizer = none;\n";
  if (hooks.rotary != Rotary{}) out += "rotary = " + to_text(hooks.rotary) + ";\n";
  for (size_t i = 0; i < kHooks; ++i) {
    const Hook hook = static_cast<Hook>(i);
    if (hooks.roots[i] == kNone) continue;
    const bool is_map = hook == Hook::q_pos || hook == Hook::kv_pos;
    out += std::string(info(hook).text) + (is_map ? " := " : " = ") + hook_text(hooks, hook) + ";\n";
  }
  return out;
}

std::string to_text(const Hooks& hooks, Id node, size_t limit) {
  return Writer(hooks, limit, kMessageDepth).text(node);
}

}  // namespace lathe::expr
