#include "lathe/spec/expr/operators.h"

#include <map>

#include "lathe/spec/expr/build.h"
#include "lathe/spec/expr/check.h"

namespace lathe::expr {

struct Term::Tree {
  enum Kind : uint8_t { constant, real, input, param, read, prefix, infix, select, call, cuda } kind = constant;
  Node number = {};                                            // of constant
  double value = 0;                                            // of real
  Input leaf = {};                                             // of input
  Param declared = {};                                         // of param
  std::shared_ptr<const TensorTerm::Declaration> tensor = {};  // of read
  std::string text = {};  // of prefix and infix: the sign; of call: the function; of cuda: the text
  std::vector<Term> args = {};
};

struct TensorTerm::Declaration {
  std::string name;
  Elem elem;
  std::vector<AxisTerm> axes;
  bool summary, sorted;
  std::optional<std::array<double, 2>> range;
};

namespace {

Term make(Term::Tree tree) {
  return Term(std::make_shared<const Term::Tree>(std::move(tree)));
}
std::shared_ptr<const Term::Tree> number(const Node& node) {
  return std::make_shared<const Term::Tree>(Term::Tree{.kind = Term::Tree::constant, .number = node});
}
Term infix(const char* sign, const Term& left, const Term& right) {
  return make({.kind = Term::Tree::infix, .text = sign, .args = {left, right}});
}

}  // namespace

/// Turns terms into nodes; each tree once, however often it is used.
class TermBuilder {
 public:
  explicit TermBuilder(Normalizer normalizer) : builder_(hooks_) { hooks_.normalizer = normalizer; }

  void add(Hook hook, const Term& term) {
    hook_ = hook;
    const std::string name = info(hook).text;
    if (hooks_.root(hook) != kNone) return problems_.add(name, "the hook is given already; allowed: once");
    const Id id = term.tree().kind == Term::Tree::cuda ? cuda(hook, term.tree()) : node(term.tree());
    if (id == kNone) return;
    const Id typed = builder_.adapted(id, info(hook).type);
    hooks_.root(hook) = typed != kNone ? typed : id;
  }

  Result<Hooks> finish() {
    for (const Finding& finding : check(hooks_)) {
      if (finding.error) problems_.add(finding.where, finding.text());
    }
    if (!problems_.empty()) return problems_.status();
    return std::move(hooks_);
  }

 private:
  Id note(const Built& built) {
    if (!built.ok()) problems_.add(info(hook_).text, built.hint.empty() ? built.problem : built.problem + " (" + built.hint + ")");
    return built.id;
  }

  Id node(const Term::Tree& tree) {
    const auto [place, is_new] = nodes_.try_emplace(&tree, kNone);
    if (is_new) place->second = make_node(tree);
    return nodes_[&tree];
  }

  /// The operands of `tree`; nothing when one of them has a problem.
  std::optional<std::vector<Id>> operands(const Term::Tree& tree) {
    std::vector<Id> args;
    for (const Term& arg : tree.args) {
      args.push_back(node(arg.tree()));
      if (args.back() == kNone) return std::nullopt;
    }
    return args;
  }

  Id cuda(Hook hook, const Term::Tree& tree) {
    const std::optional<std::vector<Id>> args = operands(tree);
    return args ? note(builder_.cuda(hook, tree.text, *args)) : kNone;
  }

  Id make_node(const Term::Tree& tree) {
    const std::optional<std::vector<Id>> found = operands(tree);
    if (!found) return kNone;
    const std::vector<Id>& args = *found;
    switch (tree.kind) {
      case Term::Tree::constant:
        return builder_.constant(tree.number);
      case Term::Tree::real:
        return note(builder_.real(tree.value));
      case Term::Tree::input:
        return builder_.input(tree.leaf);
      case Term::Tree::param:
        return builder_.param(param(tree.declared));
      case Term::Tree::read:
        return note(builder_.read(tensor(*tree.tensor), args));
      case Term::Tree::prefix:
        return note(builder_.prefix(tree.text, args[0]));
      case Term::Tree::infix:
        return note(builder_.infix(tree.text, args[0], args[1]));
      case Term::Tree::select:
        return note(builder_.select(args[0], args[1], args[2]));
      case Term::Tree::call:
        return note(builder_.call(tree.text, args));
      case Term::Tree::cuda:
        return note({"unsafe_cuda is a part of an expression; allowed: all of a hook", ""});
    }
    return kNone;
  }

  /// The place of a declaration; two of one name that differ are both kept, and check() refuses the name.
  template <class T>
  static uint32_t place_of(std::vector<T>& list, T declared) {
    for (uint32_t i = 0; i < list.size(); ++i) {
      if (list[i] == declared) return i;
    }
    list.push_back(std::move(declared));
    return static_cast<uint32_t>(list.size() - 1);
  }
  uint32_t param(Param declared) {
    if (declared.range) declared.range = range_ends(declared.type, *declared.range);
    return place_of(hooks_.params, std::move(declared));
  }

  uint32_t tensor(const TensorTerm::Declaration& declared) {
    Tensor tensor{declared.name, declared.elem, {}, declared.summary, declared.sorted, {}};
    if (declared.range) tensor.range = range_ends(read_type(tensor.elem), *declared.range);
    for (const AxisTerm& axis : declared.axes) {
      uint32_t value = static_cast<uint32_t>(axis.extent_);
      if (axis.param_ != nullptr) {  // check() refuses what is no param
        value = axis.param_->kind == Term::Tree::param ? param(axis.param_->declared) : kNone;
      }
      tensor.axes.push_back({axis.axis_, value});
    }
    return place_of(hooks_.tensors, std::move(tensor));
  }

  Hooks hooks_;
  Builder builder_;
  Problems problems_;
  Hook hook_{};
  std::map<const Term::Tree*, Id> nodes_;
};

Term::Term(int value) : tree_(number(i32_node(value))) {}
Term::Term(unsigned value) : tree_(number(constant_node(Type::u32, value))) {}
Term::Term(double value) : tree_(std::make_shared<const Tree>(Tree{.kind = Tree::real, .value = value})) {}
Term::Term(bool value) : tree_(number(bool_node(value))) {}
Term::Term(InputTerm input) : tree_(std::make_shared<const Tree>(Tree{.kind = Tree::input, .leaf = input.input})) {}

Term param(std::string name, Type type, std::optional<std::array<double, 2>> range) {
  return make({.kind = Term::Tree::param, .declared = {std::move(name), type, range}});
}

TensorTerm::TensorTerm(std::string name, Elem elem, std::vector<AxisTerm> axes, bool summary, bool sorted,
                       std::optional<std::array<double, 2>> range)
    : declaration_(
          std::make_shared<const Declaration>(Declaration{std::move(name), elem, std::move(axes), summary, sorted, range})) {}

Term TensorTerm::at(std::vector<Term> index) const {
  return make({.kind = Term::Tree::read, .tensor = declaration_, .args = std::move(index)});
}

Term operator-(const Term& operand) {
  return make({.kind = Term::Tree::prefix, .text = "-", .args = {operand}});
}
Term operator!(const Term& operand) {
  return make({.kind = Term::Tree::prefix, .text = "!", .args = {operand}});
}
Term operator+(const Term& left, const Term& right) {
  return infix("+", left, right);
}
Term operator-(const Term& left, const Term& right) {
  return infix("-", left, right);
}
Term operator*(const Term& left, const Term& right) {
  return infix("*", left, right);
}
Term operator/(const Term& left, const Term& right) {
  return infix("/", left, right);
}
Term operator%(const Term& left, const Term& right) {
  return infix("%", left, right);
}
Term operator<<(const Term& left, const Term& right) {
  return infix("<<", left, right);
}
Term operator>>(const Term& left, const Term& right) {
  return infix(">>", left, right);
}
Term operator&(const Term& left, const Term& right) {
  return infix("&", left, right);
}
Term operator|(const Term& left, const Term& right) {
  return infix("|", left, right);
}
Term operator^(const Term& left, const Term& right) {
  return infix("^", left, right);
}
Term operator<(const Term& left, const Term& right) {
  return infix("<", left, right);
}
Term operator<=(const Term& left, const Term& right) {
  return infix("<=", left, right);
}
Term operator>(const Term& left, const Term& right) {
  return infix(">", left, right);
}
Term operator>=(const Term& left, const Term& right) {
  return infix(">=", left, right);
}
Term operator==(const Term& left, const Term& right) {
  return infix("==", left, right);
}
Term operator!=(const Term& left, const Term& right) {
  return infix("!=", left, right);
}
Term operator&&(const Term& left, const Term& right) {
  return infix("&&", left, right);
}
Term operator||(const Term& left, const Term& right) {
  return infix("||", left, right);
}

Term floor_div(const Term& left, const Term& right) {
  return infix("//", left, right);
}
Term select(const Term& condition, const Term& yes, const Term& no) {
  return make({.kind = Term::Tree::select, .args = {condition, yes, no}});
}
Term call(std::string name, std::vector<Term> args) {
  return make({.kind = Term::Tree::call, .text = std::move(name), .args = std::move(args)});
}

Term unsafe_cuda(std::string text, std::vector<Term> args) {
  return make({.kind = Term::Tree::cuda, .text = std::move(text), .args = std::move(args)});
}

Result<Hooks> make_hooks(const std::vector<std::pair<Hook, Term>>& hooks, Normalizer normalizer) {
  TermBuilder builder(normalizer);
  for (const auto& [hook, term] : hooks) builder.add(hook, term);
  return builder.finish();
}

}  // namespace lathe::expr
