// Nodes of hook expressions, and the graph that owns them: typed, pure, total. Equal nodes are one node, so common subexpressions
// need no pass of their own.
//
// Arithmetic has one meaning everywhere (interpreter, printed source, analyses):
// - i32 and u32 wrap modulo 2^32; check() refuses what may overflow wherever the ranges of the operands are known.
// - floor_div rounds towards minus infinity, mod takes the sign of the divisor; by zero both are 0.
// - Counts of shifts are read as u32: 32 and more shift everything out (shr of i32 then leaves the sign).
// - to_i32 of f32 rounds towards zero and saturates, NaN becomes 0; of u32 it keeps the bits.
// - min and max of f32 pass over a NaN where the other operand is a number; -0 is less than +0.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace lathe::expr {

enum class Type : uint8_t { boolean, i32, u32, f32 };

/// "bool", "i32", "u32" or "f32".
const char* name_of(Type type);

enum class Op : uint8_t {
  constant,  // Node::value: the bits (a float's bits; 0 or 1 for bool)
  input,     // Node::value: an Input (hooks.h)
  param,     // Node::value: index into Hooks::params
  read,      // Node::value: index into Hooks::tensors; args: one i32 per axis
  add,       // the same two types in and out, as for sub, mul, min, max; numbers
  sub,
  mul,
  neg,        // i32, f32
  div,        // f32
  floor_div,  // i32, u32, as for mod, shl, shr and the bitwise ones
  mod,
  shl,  // the count has the type of the word, or is i32
  shr,
  bit_and,
  bit_or,
  bit_xor,
  less,  // two equal numeric types -> bool, as less_equal; `a > b` is less(b, a)
  less_equal,
  equal,  // any two equal types -> bool; `a != b` is logical_not(equal(a, b))
  logical_and,
  logical_or,
  logical_not,
  select,  // bool, T, T -> T
  abs,     // i32, f32
  min,
  max,
  to_i32,  // of bool, u32, f32
  to_f32,  // of i32, u32
  exp,     // f32 -> f32, as the next ones up to floor
  exp2,
  log,
  log2,
  sqrt,
  rsqrt,
  tanh,
  sigmoid,
  erf,
  sin,
  cos,
  acos,
  floor,
  powi,    // f32, constant i32 -> f32
  bit,     // u32 word, i32 i -> bool: bit (i & 31) of the word
  popc,    // u32 -> i32
  is_inf,  // f32 -> bool
  cuda,    // Node::value: a text of the graph; args: what it sees as a0, a1, ...; any types -> that of its hook, all of which it is
};
inline constexpr size_t kOps = static_cast<size_t>(Op::cuda) + 1;

/// A constant, input or param.
inline bool is_leaf(Op op) {
  return op == Op::constant || op == Op::input || op == Op::param;
}

/// How an operator is written: `text` is its sign or the name of its function, as in the grammar.
struct OpInfo {
  const char* text;
  uint8_t arity;     // 0 for leaves, and for read and cuda, which have any number
  bool commutative;  // and, for integers and bool, associative
  bool is_function;  // text(args), else prefix, infix or `?:`
};
const OpInfo& info(Op op);

using Id = uint32_t;  // place of a node in its Graph
inline constexpr Id kNone = ~Id{0};
inline constexpr size_t kMaxAxes = 4;
inline constexpr size_t kMaxOperands = 8;  // of cuda; of read kMaxAxes, of the others 3

struct Node {
  Op op = Op::constant;
  Type type = Type::i32;
  uint8_t arity = 0;
  uint32_t value = 0;  // leaves, read and cuda; else 0
  // The first `arity` are used.
  std::array<Id, kMaxOperands> args{kNone, kNone, kNone, kNone, kNone, kNone, kNone, kNone};

  std::span<const Id> operands() const { return {args.data(), arity}; }
  bool operator==(const Node&) const = default;
};

Node constant_node(Type type, uint32_t bits);
Node f32_node(float value);
Node i32_node(int32_t value);
Node bool_node(bool value);
Node leaf_node(Op op, Type type, uint32_t value);
Node op_node(Op op, Type type, std::span<const Id> args, uint32_t value = 0);

/// The number in a constant node of type i32 or f32.
int32_t as_i32(const Node& constant);
float as_f32(const Node& constant);

/// A set of nodes in which operands come before what uses them, with the texts of its cuda nodes. Value type.
class Graph {
 public:
  /// The place of `node`, which is added when no equal one is there. Its operands must be in the graph. Types are not checked here
  /// (build.h does).
  Id add(const Node& node);

  const Node& operator[](Id id) const { return nodes_[id]; }
  size_t size() const { return nodes_.size(); }

  /// The place of `text`, which is added when it is not there: the value of a cuda node.
  uint32_t add_text(std::string_view text);
  const std::string& text(uint32_t place) const { return texts_[place]; }

 private:
  struct Hash {
    size_t operator()(const Node& node) const;
  };
  std::vector<Node> nodes_;
  std::unordered_map<Node, Id, Hash> places_;
  std::vector<std::string> texts_;
};

/// `node` of `from` as a node of `to`, which takes over its text; its operands are the caller's to replace.
Node carried(Node node, const Graph& from, Graph& to);

/// For each node of `graph`, whether it is one of `roots` or is used by one, directly or not. kNone among the roots is passed over.
std::vector<bool> reachable(const Graph& graph, std::span<const Id> roots);

}  // namespace lathe::expr
