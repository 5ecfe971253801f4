// Typed construction of expressions: the one place where the types of operators are checked. The text parser, the JSON reader and
// the C++ operators build through it.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "lathe/spec/expr/hooks.h"

namespace lathe::expr {

/// A new node, or what forbids it.
struct Built {
  Id id = kNone;
  std::string problem, hint;  // of a refusal; the hint may be empty

  Built(Id node) : id(node) {}  // NOLINT(google-explicit-constructor)
  Built(std::string message, std::string advice) : problem(std::move(message)), hint(std::move(advice)) {}
  bool ok() const { return id != kNone; }
};

/// Adds nodes to hooks.graph, which it does not own. Typing is strict but for one rule: a whole number that is written down takes
/// the type of what it meets (f32 where it is exact there, u32 where it is not negative). Operands must be nodes of the graph.
class Builder {
 public:
  explicit Builder(Hooks& hooks) : hooks_(hooks) {}

  Id constant(const Node& node) { return hooks_.graph.add(node); }
  /// A number of f32, rounded, or inf; refused where f32_of() has none.
  Built real(double value);
  Id input(Input input);
  Id param(uint32_t index);
  /// `id`, or when that is a whole number that is written down, the same number as a constant of `type`; kNone when it is neither.
  Id adapted(Id id, Type type);
  /// tensors[index] at one i32 for each axis, within the tensor's range where it has one.
  Built read(uint32_t index, std::span<const Id> at);
  /// One of - ! before an operand.
  Built prefix(std::string_view sign, Id operand);
  /// One of * / // % + - << >> & ^ | < <= > >= == != && || between two.
  Built infix(std::string_view sign, Id left, Id right);
  Built select(Id condition, Id yes, Id no);
  /// A function of the grammar by its name: abs, min, ..., clamp and rcp included. Fails for a name that is none.
  Built call(std::string_view name, std::span<const Id> args);
  /// unsafe_cuda: `text` as the body of a function of a0, a1, ..., which are `args`, that returns what `hook` is. It must be all of
  /// that hook.
  Built cuda(Hook hook, std::string_view text, std::span<const Id> args);

 private:
  Type type(Id id) const { return hooks_.graph[id].type; }
  bool unify(Id& a, Id& b);
  Id make(Op op, Type type, std::initializer_list<Id> args, uint32_t value = 0);
  Built arithmetic(Op op, std::string_view sign, Id a, Id b);
  Built power(Id base, Id exponent);
  Built convert(Op op, Type to, Id arg);

  Hooks& hooks_;
};

/// Whether `name` is a function that Builder::call knows.
bool is_function(std::string_view name);

/// How many arguments it takes.
size_t arity_of(std::string_view function);

}  // namespace lathe::expr
