#include "lathe/spec/expr/check.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "lathe/spec/expr/declarations.h"
#include "lathe/spec/expr/names.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/expr/range_arithmetic.h"
#include "lathe/spec/expr/simplify.h"
#include "lathe/spec/text.h"

namespace lathe::expr {
namespace {

std::string between(const Range& range) {
  const auto end = [](double x) { return as_integer(x) || f32_of(x) != x ? number_text(x) : number_text(static_cast<float>(x)); };
  return "[" + end(range.lo) + ", " + end(range.hi) + "]";
}

std::string names_of(std::span<const Input> inputs) {
  std::string out;
  for (Input input : inputs) out += (out.empty() ? "" : ", ") + std::string(info(input).text);
  return out;
}

bool holds(const Range& range, double value) {
  return range.lo <= value && range.hi >= value;
}

/// Ranges by which NaN is judged in `hook`: lse is -inf in rows without a key, which output sees.
std::vector<Range> finite_ranges(const Hooks& hooks, Hook hook) {
  const auto is_lse = [&](const Node& node) {
    return node.op == Op::input && static_cast<Input>(node.value) == Input::lse && hook == Hook::output;
  };
  const auto leaf = [&](Id id) -> std::optional<Range> {
    if (!is_lse(hooks.graph[id])) return std::nullopt;
    return Range{.lo = -kInf, .hi = kMaxFloat, .undeclared = true};
  };
  return ranges(hooks, leaf, Floats::finite);
}

/// Looks at the expression of one hook.
class HookCheck {
 public:
  HookCheck(const Hooks& hooks, Hook hook, const std::vector<Range>& ranges, std::vector<Finding>& out)
      : hooks_(hooks), hook_(hook), ranges_(ranges), finite_(finite_ranges(hooks, hook)), out_(out) {}

  void run() {
    const Id root = hooks_.root(hook_);
    const Type type = hooks_.graph[root].type;
    if (type != info(hook_).type) {
      error(root, std::string(info(hook_).text) + " is " + name_of(type) + "; allowed: " + name_of(info(hook_).type));
    }
    const std::vector<bool> used = reachable(hooks_.graph, {&root, 1});
    check_inputs(used);
    check_size(used);
    for (Id id = 0; id <= root; ++id) {
      if (used[id]) check_node(id, hooks_.graph[id]);
    }
    if (type == Type::f32) check_result(root);
  }

 private:
  void error(Id node, std::string message, std::string hint = {}) {
    out_.push_back({true, hook_, node, std::move(message), std::move(hint), info(hook_).text});
  }
  void warning(Id node, std::string message, std::string hint = {}) {
    out_.push_back({false, hook_, node, std::move(message), std::move(hint), info(hook_).text});
  }
  std::string text(Id id) const { return "'" + fields::shown(to_text(hooks_, id), 48) + "'"; }
  const Range& range(Id id) const { return ranges_[id]; }
  const Range& finite(Id id) const { return finite_[id]; }

  void check_inputs(const std::vector<bool>& used) {
    const HookInfo& hook = info(hook_);
    bool has_needed = hook.needed.empty();
    for (Id id = 0; id < used.size(); ++id) {
      const Node& node = hooks_.graph[id];
      if (!used[id] || node.op != Op::input) continue;
      const auto input = static_cast<Input>(node.value);
      if (std::find(hook.needed.begin(), hook.needed.end(), input) != hook.needed.end()) has_needed = true;
      if (std::find(hook.inputs.begin(), hook.inputs.end(), input) != hook.inputs.end()) continue;
      error(id, std::string(hook.text) + " uses " + info(input).text + "; allowed: " + names_of(hook.inputs));
    }
    if (!has_needed) {
      error(kNone, std::string(hook.text) + " drops what it transforms; expected a use of " + names_of(hook.needed));
    }
  }

  void check_size(const std::vector<bool>& used) {
    const auto nodes = static_cast<size_t>(std::count(used.begin(), used.end(), true));
    size_t reads = 0;
    for (Id id = 0; id < used.size(); ++id) reads += used[id] && hooks_.graph[id].op == Op::read ? 1 : 0;
    const std::string name = info(hook_).text;
    if (nodes > kMaxNodes) {
      error(kNone, name + " has " + std::to_string(nodes) + " nodes; allowed: at most " + std::to_string(kMaxNodes));
    }
    if (reads > kMaxReads) {
      error(kNone, name + " reads tensors " + std::to_string(reads) + " times; allowed: at most " + std::to_string(kMaxReads));
    } else if (reads > kManyReads) {
      warning(kNone, name + " reads tensors " + std::to_string(reads) + " times",
              "more than " + std::to_string(kManyReads) + " reads per element cost more than the products");
    }
  }

  void check_node(Id id, const Node& node) {
    const bool is_odd = node.op == Op::constant && node.type == Type::f32 && !std::isfinite(as_f32(node));
    if (is_odd && std::isnan(as_f32(node))) {
      error(id, std::string("NaN in ") + info(hook_).text + "; allowed: numbers, and inf in logits", "leave it out");
    } else if (is_odd && hook_ != Hook::logits) {
      error(id, std::string("inf in ") + info(hook_).text + "; allowed: in logits", "write a large finite number, such as 1e30");
    }
    if (node.op == Op::cuda) check_cuda(id, node);
    if (node.op == Op::read) {
      for (size_t axis = 0; axis < node.arity; ++axis) check_index(id, node, axis);
    }
    if (node.arity == 0 || node.op == Op::read || node.op == Op::cuda) return;
    if (node.op == Op::floor_div || node.op == Op::mod || node.op == Op::div) check_divisor(id, node);
    if (node.type == Type::i32 && range(id).wraps) {
      const std::string message = "the i32 " + text(id) + " may overflow";
      if (range(id).undeclared) {
        warning(id, message + "; it wraps", kDeclareRange);
      } else {
        error(id, message, "clamp its parts, or declare smaller ranges");
      }
    }
    if (hooks_.graph[node.args[0]].type == Type::f32) check_nan(id, node);
  }

  void check_cuda(Id id, const Node& node) {
    const std::string name = std::string(info(hook_).text) + " is unsafe_cuda";
    if (id != hooks_.root(hook_)) error(id, "unsafe_cuda is a part of an expression; allowed: all of a hook");
    if (hook_ == Hook::q_pos || hook_ == Hook::kv_pos)
      error(id, name + "; allowed: an expression, as positions are needed on the host");
    if (hook_ == Hook::weight)
      error(id, name + "; allowed: an expression, as it must be known to be w times what does not depend on w");
    if (const std::string problem = cuda_problem(hooks_.graph.text(node.value)); !problem.empty())
      error(id, "the text of unsafe_cuda " + problem);
  }

  void check_divisor(Id id, const Node& node) {
    const Range& divisor = finite(node.args[1]);
    if (divisor.is_point() && divisor.lo == 0)
      return error(id, "division by zero in " + text(id), "a divisor of 0 is no number: leave it out, or choose with ? :");
    if (node.op == Op::div || !holds(divisor, 0)) return;
    const std::string message = "the divisor " + text(node.args[1]) + " may be 0";
    if (divisor.undeclared) {
      warning(id, message + "; the result is then 0",
              "declare its range, as in param W: i32 in [1, 4096] or tensor t: i32[TOK] in [1, 4096]");
    } else {
      error(id, message, "max(..., 1)");
    }
  }

  void check_domain(Id id, const Node& node, bool inside, const char* allowed, const char* hint) {
    if (inside) return;
    error(id,
          std::string(info(node.op).text) + " of " + text(node.args[0]) + ", which lies in " + between(finite(node.args[0])) +
              "; allowed: " + allowed,
          hint);
  }

  void check_nan(Id id, const Node& node) {
    const Range& a = finite(node.args[0]);
    const Range& b = finite(node.args[node.arity - 1]);
    const bool same = node.arity == 2 && node.args[0] == node.args[1];
    switch (node.op) {
      case Op::log:
      case Op::log2:
      case Op::rsqrt:
        return check_domain(id, node, a.lo > 0, "what is proven to be positive",
                            "guard it with max(x, 1e-6), or declare the range of a param or tensor");
      case Op::sqrt:
        return check_domain(id, node, a.lo >= 0, "what is proven not to be negative", "guard it with max(x, 0)");
      case Op::acos:
        return check_domain(id, node, a.within(-1, 1), "[-1, 1]", "guard it with clamp(x, -1, 1)");
      case Op::sin:
      case Op::cos:
        if (a.overflows) return undefined(id, (std::string(info(node.op).text) + "(inf)").c_str(), true);
        return check_domain(id, node, !may_be_infinite(a), "finite numbers", "guard it with clamp(x, -1e6, 1e6)");
      case Op::add:
        if ((holds(a, kInf) && holds(b, -kInf)) || (holds(a, -kInf) && holds(b, kInf)))
          undefined(id, "inf - inf", a.overflows || b.overflows);
        return;
      case Op::sub:
        if ((holds(a, kInf) && holds(b, kInf)) || (holds(a, -kInf) && holds(b, -kInf)))
          undefined(id, "inf - inf", a.overflows || b.overflows);
        return;
      case Op::mul:
        if (same) return;
        if ((may_be_infinite(a) && holds(b, 0)) || (may_be_infinite(b) && holds(a, 0)))
          undefined(id, "0 * inf", may_be_infinite(a) ? a.overflows : b.overflows);
        return;
      case Op::div:
        if (may_be_infinite(a) && may_be_infinite(b)) return undefined(id, "inf / inf", a.overflows || b.overflows);
        if (holds(a, 0) && holds(b, 0) && !a.undeclared && !b.undeclared) undefined(id, "0 / 0", false);
        return;
      default:
        return;
    }
  }
  /// `overflows`: only where run-time data are large.
  void undefined(Id id, const char* form, bool overflows) {
    const std::string message = text(id) + " may be " + form + ", which is no number";
    if (overflows) return warning(id, message, kBoundExponents);
    error(id, message,
          hook_ == Hook::output ? "lse is -inf in rows without a key: max(lse, -1e30)" : "choose between the two with ? :");
  }

  /// What comes after a hook makes NaN of infinities: a softmax of inf, a sum of infinite weights. An output may be infinite.
  void check_result(Id root) {
    const Range& a = finite(root);
    const std::string name = info(hook_).text;
    if (hook_ == Hook::logits) {
      const bool may_hide = hooks_.normalizer == Normalizer::softmax;  // -inf takes a key out
      const bool infinite = a.hi == kInf || (a.lo == -kInf && !may_hide);
      const std::string message = name + " may be infinite; allowed: finite numbers" +
                                  (may_hide ? " and -inf" : ", as normalizer = none makes weights of them");
      if (infinite && a.overflows) warning(root, message, kBoundExponents);
      if (infinite && !a.overflows) error(root, message);
    } else if (hook_ != Hook::output && hooks_.graph[root].op != Op::constant && may_be_infinite(a) && !a.overflows) {
      error(root, name + " may be infinite; allowed: finite numbers");
    }
    // The softmax works with powers of 2.
    constexpr double kMostLog2 = kMaxFloat / 1.4426950408889634;
    if (hook_ == Hook::sink && !a.undeclared && !a.within(-kMostLog2, kMostLog2)) {
      error(root, "sink lies in " + between(a) + "; allowed: " + between({-kMostLog2, kMostLog2}));
    }
  }

  void check_index(Id read, const Node& node, size_t axis) {
    if (index_is_inside(hooks_, ranges_, read, axis)) return;
    const Tensor& tensor = hooks_.tensors[node.value];
    const TensorAxis& extent = tensor.axes[axis];
    const Id id = node.args[axis];
    const Range& at = range(id);
    const std::string what = "index " + std::to_string(axis + 1) + " of tensor " + tensor.name + ", " + text(id) + ",";
    const bool is_number = extent.axis == Axis::number;
    const std::string allowed = is_number                    ? "[0, " + std::to_string(extent.value - 1) + "]"
                                : extent.axis == Axis::param ? "less than param " + hooks_.params[extent.value].name
                                                             : std::string("an index of axis ") + name_of(extent.axis);
    const std::string ends = "0, " + std::to_string(extent.value - 1);
    const std::string hint =
        is_number ? "clamp(x, " + ends + "), or declare what it is read from as in tensor t: i32[TOK] in [" + ends + "]" : "";

    const Node& index = hooks_.graph[id];
    const bool is_open = extent.axis == Axis::free || extent.axis == Axis::pages || extent.axis == Axis::param;
    if (index.op == Op::input && !is_number && !is_open) {
      const auto domain = info(static_cast<Input>(index.value)).domain;
      if (domain) return error(id, what + " is an index of axis " + name_of(*domain) + "; allowed: " + allowed);
    }
    const bool never = at.hi < 0 || (is_number && at.lo >= extent.value);
    const bool is_run_time = at.undeclared || (is_open && at.lo >= 0);
    if (never || !is_run_time) {
      return error(id, what + " lies in " + between(at) + " and may leave its axis; allowed: " + allowed, hint);
    }
    warning(id, what + " is not proven to stay in its axis; it is clamped", hint);
  }

  static constexpr const char* kDeclareRange =
      "declare the range of what it is made of, as in param W: i32 in [0, 4096] or tensor t: i32[TOK] in [0, 4096]";
  static constexpr const char* kBoundExponents = "bound what exp and exp2 take, as in exp(min(x, 80))";

  const Hooks& hooks_;
  const Hook hook_;
  const std::vector<Range>& ranges_;  // whatever floats are given
  const std::vector<Range> finite_;   // of finite ones
  std::vector<Finding>& out_;
};

/// Without a normalizer the weights are summed as they are: no log-sum-exp exists.
void check_normalizer(const Hooks& hooks, std::vector<Finding>& out) {
  if (hooks.normalizer != Normalizer::none) return;
  for (Hook hook : {Hook::sink, Hook::lse_transform}) {
    if (hooks.root(hook) == kNone) continue;
    out.push_back({true, hook, kNone, std::string(info(hook).text) + " with normalizer = none; allowed: with softmax",
                   "without a normalizer there is no log-sum-exp", info(hook).text});
  }
  const Id root = hooks.root(Hook::output);
  if (root == kNone) return;
  const std::vector<bool> used = reachable(hooks.graph, {&root, 1});
  for (Id id = 0; id <= root; ++id) {
    const Node& node = hooks.graph[id];
    if (!used[id] || node.op != Op::input || static_cast<Input>(node.value) != Input::lse) continue;
    out.push_back(
        {true, Hook::output, id, "output uses lse with normalizer = none; allowed: with softmax", "", info(Hook::output).text});
  }
}

/// Each text is bounded where it is read; together they must leave room for the rest of a spec's text.
void check_cuda_bytes(const Hooks& hooks, std::vector<Finding>& out) {
  const std::vector<bool> used = reachable(hooks.graph, hooks.roots);
  size_t bytes = 0;
  for (Id id = 0; id < used.size(); ++id) {
    if (used[id] && hooks.graph[id].op == Op::cuda) bytes += hooks.graph.text(hooks.graph[id].value).size();
  }
  if (bytes <= kMaxCudaBytes) return;
  out.push_back(
      {true, std::nullopt, kNone,
       "the texts of unsafe_cuda have " + std::to_string(bytes) + " bytes; allowed: at most " + std::to_string(kMaxCudaBytes), "",
       "hooks"});
}

/// Hooks that name what they transform, but come to the same whatever it is, as score - score + 1 does.
void check_effects(const Hooks& hooks, std::vector<Finding>& out) {
  const Hooks simple = simplify(hooks);
  for (size_t i = 0; i < kHooks; ++i) {
    const auto hook = static_cast<Hook>(i);
    const HookInfo& of = info(hook);
    const Id root = simple.root(hook);
    if (root == kNone || of.needed.empty()) continue;
    const std::vector<Range> known = finite_ranges(simple, hook);
    std::vector<bool> matters(root + 1);
    matters[root] = true;
    bool has_needed = false;
    for (Id id = root + 1; id-- > 0;) {
      const Node& node = simple.graph[id];
      if (!matters[id] || known[id].is_point()) continue;
      if (node.op == Op::input && std::find(of.needed.begin(), of.needed.end(), static_cast<Input>(node.value)) != of.needed.end())
        has_needed = true;
      for (Id arg : node.operands()) matters[arg] = true;
    }
    if (has_needed) continue;
    out.push_back({true, hook, kNone,
                   std::string(of.text) + " drops what it transforms: it is the same for every " + names_of(of.needed), "",
                   of.text});
  }
}

}  // namespace

std::vector<Finding> check(const Hooks& hooks) {
  std::vector<Finding> out;
  check_declarations(hooks, out);
  if (!out.empty()) return out;  // ranges rest on them
  const std::vector<Range> known = ranges(hooks);
  for (size_t i = 0; i < kHooks; ++i) {
    if (hooks.roots[i] != kNone) HookCheck(hooks, static_cast<Hook>(i), known, out).run();
  }
  check_normalizer(hooks, out);
  check_cuda_bytes(hooks, out);
  if (std::none_of(out.begin(), out.end(), [](const Finding& finding) { return finding.error; })) check_effects(hooks, out);
  std::stable_partition(out.begin(), out.end(), [](const Finding& finding) { return finding.error; });
  return out;
}

}  // namespace lathe::expr
