// The rules that bring an expression into its normal form, one node at a time; simplify() and canonicalise() drive them.
#pragma once

#include <optional>
#include <unordered_map>
#include <vector>

#include "lathe/spec/expr/hooks.h"
#include "lathe/spec/expr/linear.h"
#include "lathe/spec/expr/range.h"

namespace lathe::expr {

/// What params and tensors are told apart by when operands are sorted: never their names or places.
struct Colours {
  std::vector<uint64_t> params, tensors;
};

/// Mixes `value` into `hash`; the same on every machine.
uint64_t mixed(uint64_t hash, uint64_t value);

/// Builds normal forms into hooks().graph. Every node that make() returns is in normal form when its operands are. Not copyable.
class Rewriter {
 public:
  /// Takes over the declarations of `declared`.
  Rewriter(const Hooks& declared, Colours colours);
  Rewriter(const Rewriter&) = delete;
  Rewriter& operator=(const Rewriter&) = delete;

  /// The normal form of `node`, whose operands are nodes of hooks().graph.
  Id make(const Node& node);
  Hooks& hooks() { return out_; }

 private:
  // rewrite.cc: what all types share
  Id add(const Node& node);  // as it is, but for what its range decides
  Id add(Op op, Type type, std::initializer_list<Id> args, uint32_t value = 0);
  Id constant(const Node& node) { return add(node); }
  const Node& at(Id id) const { return out_.graph[id]; }
  bool is_constant(Id id) const { return at(id).op == Op::constant; }
  bool is(Id id, Op op) const { return at(id).op == op; }
  uint64_t key_of(const Node& node) const;
  bool comes_before(Id a, Id b) const { return keys_[a] < keys_[b]; }
  std::optional<Id> folded(const Node& node);
  std::vector<Id> chain(Op op, Id a, Id b) const;
  Id join(Op op, Type type, std::vector<Id> parts);
  Id logical(Op op, Id a, Id b);
  Id negation(Id condition);
  Id make_negation(Id condition);
  Id choice(const Node& node);

  // rewrite_integer.cc
  Id integer(const Node& node);
  Linear linear(Id id) const;
  Id sum(const Linear& form);
  Id product(Id a, Id b);
  Id word_chain(Op op, Id a, Id b);
  Id extreme(Op op, Type type, Id a, Id b);
  Id bits(Op op, Type type, Id a, Id b);
  Id quotient(const Node& node);
  Id magnitude(Id a);
  Id compare(Op op, Id a, Id b);
  std::optional<Id> linear_compare(Op op, Id a, Id b);
  Range range_of_form(const Linear& form) const;

  // rewrite_float.cc
  Id real(const Node& node);
  Id real_sum(Id a, Id b);
  Id real_difference(Id a, Id b);
  Id real_product(Id a, Id b);
  Id real_quotient(Id a, Id b);
  Id real_negative(Id a);
  Id real_power(Id base, Id exponent);
  std::optional<float> number(Id id) const;

  Hooks out_;
  const Colours colours_;
  std::vector<Range> ranges_;   // by place, as the next one
  std::vector<uint64_t> keys_;  // operands of commutative operators are sorted by it
  std::unordered_map<Id, Id> negations_;
};

}  // namespace lathe::expr
