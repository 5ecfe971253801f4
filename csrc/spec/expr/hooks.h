// Hooks of one attention variant: declarations, the expression of each hook, and the graph they share.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/spec/expr/graph.h"

namespace lathe::expr {

/// What an axis of a tensor runs over. `named` ones are the extents of the batch; `number` is fixed; `param` is an i32 parameter;
/// `free` (N) is known only with the tensor.
enum class Axis : uint8_t { batch, qo_heads, kv_heads, tokens, qo_len, kv_pos, slots, pages, head_dim, free, number, param };

/// "B", "HQ", "HKV", "TOK", "QLEN", "KVPOS", "SLOT", "PAGE", "D", "N"; nullptr for number and param.
const char* name_of(Axis axis);

enum class Input : uint8_t {
  b,       // request
  h,       // query head
  hk,      // KV head: h / group
  q,       // row of the request, from 0
  kv,      // key of the request, from 0
  tok,     // row of the packed q
  slot,    // row of the KV pool: page * page_size + offset
  q_pos,   // position of the row: the hook `q_pos`, else q + kv_len - qo_len
  kv_pos,  // position of the key: the hook `kv_pos`, else kv
  qo_len,  // rows of the request
  kv_len,  // keys of the request, at least 1: hooks are evaluated where a key is
  group,   // query heads per KV head
  d,       // channel
  level,   // level of a cascade
  pos,     // position of what a vector hook transforms: q_pos for query, kv_pos for key and value; 0 where that is negative
  m,
  n,      // row and column of a matrix product (epilogue)
  dot,    // raw product of q and k
  score,  // sm_scale * dot
  w,      // weight before normalisation
  o,      // element of the result
  lse,    // log-sum-exp of the row, natural logarithm
  x,      // element that a vector hook transforms
  rot_x,  // its rotary partner, written rot(x)
  acc,
  acc2,   // accumulators of a matrix product (epilogue)
  qsum,   // sum of the query row's elements, as the hook query leaves them
  qnorm,  // their Euclidean norm
};
inline constexpr size_t kInputs = static_cast<size_t>(Input::qnorm) + 1;

/// With what a value changes inside a tile; the bits combine, so element = row | column.
enum class Variation : uint8_t { kernel = 0, row = 1, column = 2, element = 3 };
constexpr Variation operator|(Variation a, Variation b) {
  return static_cast<Variation>(static_cast<uint8_t>(a) | static_cast<uint8_t>(b));
}

/// One row per input; everything that is known of it.
struct InputInfo {
  const char* text;  // as written; "rot(x)" for rot_x
  Type type;
  Variation variation;
  std::optional<Axis> domain;  // the axis that it is an index of, always in range
  int64_t lo, hi;              // of integers; floats are any finite number
};
const InputInfo& info(Input input);

enum class Hook : uint8_t { q_pos, kv_pos, query, key, value, logits, mask, sink, weight, output, lse_transform, epilogue };
inline constexpr size_t kHooks = static_cast<size_t>(Hook::epilogue) + 1;

struct HookInfo {
  const char* text;
  Type type;                      // of its expression
  std::span<const Input> inputs;  // that it may use
  std::span<const Input> needed;  // of which it must use one, unless empty: what it transforms
};
const HookInfo& info(Hook hook);

/// A number given at run time. Values outside [lo, hi] must be refused when they are given; without a range of its own an i32 has
/// kDefaultRange.
struct Param {
  std::string name;
  Type type = Type::i32;                       // i32, u32, f32 or bool
  std::optional<std::array<double, 2>> range;  // not for bool
  bool operator==(const Param&) const = default;
};

/// `value` as a number of f32, rounded; nothing for NaN, and where rounding makes inf or 0 of another number.
std::optional<float> f32_of(double value);

/// The ends of a range as a Param of `type` keeps them: of f32 rounded to it. An end that f32 does not hold stays; check() refuses
/// it.
std::array<double, 2> range_ends(Type type, std::array<double, 2> given);

inline constexpr int64_t kDefaultRange = int64_t{1} << 30;  // of an i32 param: -2^30 .. 2^30

enum class Elem : uint8_t { f32, f16, bf16, e4m3, e5m2, i32, i8, u8, u32, boolean };

/// "f32", ..., "bool"; the type that an element is read as: f32 for floats, u32 for u32, bool for bool, i32 for the other integers.
const char* name_of(Elem elem);
Type read_type(Elem elem);

struct TensorAxis {
  Axis axis = Axis::free;
  // The extent of number; of param, an index into Hooks::params, of an i32 that must be at least 1 when it is given; else 0.
  uint32_t value = 0;
  bool operator==(const TensorAxis&) const = default;
};

/// An array given at run time. Reads outside it are never made: an index that is not proven to stay inside is clamped (range.h).
struct Tensor {
  std::string name;
  Elem elem = Elem::f32;
  std::vector<TensorAxis> axes;  // 1..kMaxAxes, outermost first
  bool summary = false;          // least and greatest values per tile may be derived, for skipping
  bool sorted = false;           // ascending along the last axis
  // Elements outside are read as the nearest end, NaN as the least. Not for bool. Builder::read() makes it a part of the expression
  // (bounds.h), which is where all but declarations find it; simplify() leaves nothing else of it.
  std::optional<std::array<double, 2>> range = {};
  bool operator==(const Tensor&) const = default;
};

/// What rot(x) is: -x[partner] for the first, x[partner] for the second of each pair, 0 outside the first `dims` elements. Pairs
/// are (d, d + dims / 2), or neighbours where interleaved.
struct Rotary {
  bool interleaved = false;
  uint32_t dims = 0;  // a multiple of 16; 0: the whole vector
  bool operator==(const Rotary&) const = default;
};

/// softmax, or none: the logits are the weights.
enum class Normalizer : uint8_t { softmax, none };

inline constexpr size_t kMaxNodes = 256;                    // of one hook
inline constexpr size_t kMaxReads = 8;                      // of one hook
inline constexpr size_t kManyReads = 2;                     // above: a warning
inline constexpr size_t kMaxDeclarations = 64;              // params and tensors each
inline constexpr size_t kMaxCudaBytes = size_t{16} * 1024;  // of all texts of unsafe_cuda together

/// Value type. What parse(), hooks_from_json() and Builder hand out is typed; check() tells whether it may be used.
struct Hooks {
  Graph graph;
  std::vector<Param> params;
  std::vector<Tensor> tensors;
  std::array<Id, kHooks> roots;  // kNone: the hook is not given
  Normalizer normalizer = Normalizer::softmax;
  Rotary rotary;

  Hooks() { roots.fill(kNone); }
  Id root(Hook hook) const { return roots[static_cast<size_t>(hook)]; }
  Id& root(Hook hook) { return roots[static_cast<size_t>(hook)]; }
  bool empty() const;  // no hook is given and the normalizer is softmax
};

/// Whether some hook is unsafe_cuda: text of a caller, which has no meaning but what a compiler makes of it. Nothing of it is
/// known or evaluated here.
bool uses_cuda(const Hooks& hooks);

/// Same declarations, in the same order and of the same names, and the same expressions, node for node.
bool operator==(const Hooks& a, const Hooks& b);

/// Copies what `roots` reach into `out`, whose params and tensors are those of `in`; returns their new places. `inputs`, when
/// given, maps inputs to nodes of `out` that replace them (kNone: kept).
std::vector<Id> copy(const Graph& in, std::span<const Id> roots, Graph& out, std::span<const Id> inputs = {});

/// `hooks` with q_pos, kv_pos and pos replaced by what they stand for, in every other hook: by the hooks of these names, or by what
/// they are without (see Input). The result has no such hooks, and its hooks may use inputs that HookInfo does not list.
Hooks with_positions(const Hooks& hooks);

}  // namespace lathe::expr
