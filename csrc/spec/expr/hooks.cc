#include "lathe/spec/expr/hooks.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lathe::expr {
namespace {

constexpr int64_t kMaxLen = int64_t{1} << 24;                         // tokens of a request: positions are exact as f32
constexpr int64_t kMaxRow = std::numeric_limits<int32_t>::max() - 1;  // extents are i32 too

constexpr auto kKernel = Variation::kernel;
constexpr auto kRow = Variation::row;
constexpr auto kColumn = Variation::column;
constexpr auto kElement = Variation::element;

constexpr std::array<InputInfo, kInputs> kInputInfo{{
    {"b", Type::i32, kKernel, Axis::batch, 0, kMaxRow},
    {"h", Type::i32, kRow, Axis::qo_heads, 0, 65535},
    {"hk", Type::i32, kRow, Axis::kv_heads, 0, 65535},
    {"q", Type::i32, kRow, Axis::qo_len, 0, kMaxLen - 1},
    {"kv", Type::i32, kColumn, Axis::kv_pos, 0, kMaxLen - 1},
    {"tok", Type::i32, kRow, Axis::tokens, 0, kMaxRow},
    {"slot", Type::i32, kColumn, Axis::slots, 0, kMaxRow},
    {"q_pos", Type::i32, kRow, std::nullopt, -kMaxLen, kMaxLen - 1},
    {"kv_pos", Type::i32, kColumn, std::nullopt, 0, kMaxLen - 1},
    {"qo_len", Type::i32, kKernel, std::nullopt, 1, kMaxLen},
    {"kv_len", Type::i32, kKernel, std::nullopt, 1, kMaxLen},
    {"group", Type::i32, kKernel, std::nullopt, 1, 128},
    {"d", Type::i32, kElement, Axis::head_dim, 0, 65535},
    {"level", Type::i32, kKernel, std::nullopt, 0, 255},
    {"pos", Type::i32, kRow, std::nullopt, 0, kMaxLen - 1},
    {"m", Type::i32, kRow, std::nullopt, 0, kMaxRow},
    {"n", Type::i32, kColumn, std::nullopt, 0, kMaxRow},
    {"dot", Type::f32, kElement, std::nullopt, 0, 0},
    {"score", Type::f32, kElement, std::nullopt, 0, 0},
    {"w", Type::f32, kElement, std::nullopt, 0, 0},
    {"o", Type::f32, kElement, std::nullopt, 0, 0},
    {"lse", Type::f32, kRow, std::nullopt, 0, 0},
    {"x", Type::f32, kElement, std::nullopt, 0, 0},
    {"rot(x)", Type::f32, kElement, std::nullopt, 0, 0},
    {"acc", Type::f32, kElement, std::nullopt, 0, 0},
    {"acc2", Type::f32, kElement, std::nullopt, 0, 0},
    {"qsum", Type::f32, kRow, std::nullopt, 0, 0},
    {"qnorm", Type::f32, kRow, std::nullopt, 0, 0},
}};
static_assert(kInputInfo.back().text != nullptr, "one row per input");

using enum Input;
constexpr std::array kQueryPosInputs{b, q, tok, qo_len, kv_len, level};
constexpr std::array kKeyPosInputs{b, kv, slot, qo_len, kv_len, level};
constexpr std::array kQueryInputs{b, h, hk, tok, group, d, level, pos, x, rot_x};
constexpr std::array kKeyInputs{b, hk, slot, group, d, level, pos, x, rot_x};
constexpr std::array kMaskInputs{b, h, hk, q, kv, tok, slot, q_pos, kv_pos, qo_len, kv_len, group, level};
constexpr std::array kLogitsInputs{b,      h,      hk,    q,     kv,  tok,   slot, q_pos, kv_pos,
                                   qo_len, kv_len, group, level, dot, score, qsum, qnorm};
constexpr std::array kSinkInputs{h};
constexpr std::array kWeightInputs{b, h, hk, q, kv, tok, slot, q_pos, kv_pos, qo_len, kv_len, group, level, w};
constexpr std::array kOutputInputs{h, tok, d, o, lse};
constexpr std::array kLseInputs{h, tok, level, lse};
constexpr std::array kEpilogueInputs{m, n, acc, acc2};
constexpr std::array kNeedsElement{x, rot_x};
constexpr std::array kNeedsScore{dot, score};
constexpr std::array kNeedsWeight{w};
constexpr std::array kNeedsOutput{o};
constexpr std::array kNeedsLse{lse};
constexpr std::array kNeedsAcc{acc};

const std::array<HookInfo, kHooks> kHookInfo{{
    {"q_pos", Type::i32, kQueryPosInputs, {}},
    {"kv_pos", Type::i32, kKeyPosInputs, {}},
    {"query", Type::f32, kQueryInputs, kNeedsElement},
    {"key", Type::f32, kKeyInputs, kNeedsElement},
    {"value", Type::f32, kKeyInputs, kNeedsElement},
    {"logits", Type::f32, kLogitsInputs, kNeedsScore},
    {"mask", Type::boolean, kMaskInputs, {}},
    {"sink", Type::f32, kSinkInputs, {}},
    {"weight", Type::f32, kWeightInputs, kNeedsWeight},
    {"output", Type::f32, kOutputInputs, kNeedsOutput},
    {"lse_transform", Type::f32, kLseInputs, kNeedsLse},
    {"epilogue", Type::f32, kEpilogueInputs, kNeedsAcc},
}};

/// The node of `out` for an input that is read there.
Id input_node(Graph& out, Input input) {
  return out.add(leaf_node(Op::input, info(input).type, static_cast<uint32_t>(input)));
}

}  // namespace

const char* name_of(Axis axis) {
  static constexpr std::array<const char*, 12> kNames{"B",    "HQ",   "HKV", "TOK", "QLEN",  "KVPOS",
                                                      "SLOT", "PAGE", "D",   "N",   nullptr, nullptr};
  return kNames[static_cast<size_t>(axis)];
}

const InputInfo& info(Input input) {
  return kInputInfo[static_cast<size_t>(input)];
}

const HookInfo& info(Hook hook) {
  return kHookInfo[static_cast<size_t>(hook)];
}

const char* name_of(Elem elem) {
  static constexpr std::array kNames{"f32", "f16", "bf16", "e4m3", "e5m2", "i32", "i8", "u8", "u32", "bool"};
  return kNames[static_cast<size_t>(elem)];
}

Type read_type(Elem elem) {
  switch (elem) {
    case Elem::i32:
    case Elem::i8:
    case Elem::u8:
      return Type::i32;
    case Elem::u32:
      return Type::u32;
    case Elem::boolean:
      return Type::boolean;
    default:
      return Type::f32;
  }
}

std::optional<float> f32_of(double value) {
  const auto nearest = static_cast<float>(value);
  const bool changes = std::isnan(value) || std::isinf(nearest) != std::isinf(value) || (nearest == 0) != (value == 0);
  return changes ? std::nullopt : std::optional(nearest);
}

std::array<double, 2> range_ends(Type type, std::array<double, 2> given) {
  if (type != Type::f32) return given;
  for (double& end : given) {
    if (const std::optional<float> held = f32_of(end)) end = static_cast<double>(*held);
  }
  return given;
}

bool Hooks::empty() const {
  return normalizer == Normalizer::softmax && std::all_of(roots.begin(), roots.end(), [](Id id) { return id == kNone; });
}

std::vector<Id> copy(const Graph& in, std::span<const Id> roots, Graph& out, std::span<const Id> inputs) {
  const std::vector<bool> used = reachable(in, roots);
  std::vector<Id> place(in.size(), kNone);
  for (Id id = 0; id < in.size(); ++id) {
    if (!used[id]) continue;
    Node node = carried(in[id], in, out);
    if (node.op == Op::input && !inputs.empty() && inputs[node.value] != kNone) {
      place[id] = inputs[node.value];
      continue;
    }
    for (size_t i = 0; i < node.arity; ++i) node.args[i] = place[node.args[i]];
    place[id] = out.add(node);
  }
  std::vector<Id> copies;
  for (Id root : roots) copies.push_back(root == kNone ? kNone : place[root]);
  return copies;
}

bool uses_cuda(const Hooks& hooks) {
  const std::vector<bool> used = reachable(hooks.graph, hooks.roots);
  for (Id id = 0; id < used.size(); ++id) {
    if (used[id] && hooks.graph[id].op == Op::cuda) return true;
  }
  return false;
}

bool operator==(const Hooks& a, const Hooks& b) {
  if (a.normalizer != b.normalizer || a.rotary != b.rotary || a.params != b.params || a.tensors != b.tensors) return false;
  Graph shared;  // equal expressions become the same nodes
  return copy(a.graph, a.roots, shared) == copy(b.graph, b.roots, shared);
}

Hooks with_positions(const Hooks& hooks) {
  Hooks out;
  out.params = hooks.params;
  out.tensors = hooks.tensors;
  out.normalizer = hooks.normalizer;
  out.rotary = hooks.rotary;
  std::vector<Id> inputs(kInputs, kNone);
  const std::array maps = {hooks.root(Hook::q_pos), hooks.root(Hook::kv_pos)};
  const std::vector<Id> given = copy(hooks.graph, maps, out.graph);

  auto place_of = [&](Input input) -> Id& { return inputs[static_cast<size_t>(input)]; };
  place_of(q_pos) = given[0];
  if (given[0] == kNone) {
    const std::array sum = {input_node(out.graph, q), input_node(out.graph, kv_len)};
    const std::array difference = {out.graph.add(op_node(Op::add, Type::i32, sum)), input_node(out.graph, qo_len)};
    place_of(q_pos) = out.graph.add(op_node(Op::sub, Type::i32, difference));
  }
  place_of(kv_pos) = given[1] != kNone ? given[1] : input_node(out.graph, kv);

  const auto copy_hook = [&](Hook hook) {
    const std::array root = {hooks.root(hook)};
    out.root(hook) = copy(hooks.graph, root, out.graph, inputs)[0];
  };
  const auto not_negative = [&](Input position) {
    const std::array args = {place_of(position), out.graph.add(i32_node(0))};
    return out.graph.add(op_node(Op::max, Type::i32, args));
  };
  for (Hook hook : {Hook::logits, Hook::mask, Hook::sink, Hook::weight, Hook::output, Hook::lse_transform, Hook::epilogue})
    copy_hook(hook);
  if (hooks.root(Hook::query) != kNone) {
    place_of(pos) = not_negative(q_pos);
    copy_hook(Hook::query);
  }
  if (hooks.root(Hook::key) != kNone || hooks.root(Hook::value) != kNone) {
    place_of(pos) = not_negative(kv_pos);
    copy_hook(Hook::key);
    copy_hook(Hook::value);
  }
  return out;
}

}  // namespace lathe::expr
