#include "lathe/spec/expr/graph.h"

#include <algorithm>
#include <bit>

namespace lathe::expr {
namespace {

constexpr std::array<OpInfo, kOps> kInfo{{
    {"constant", 0, false, false}, {"input", 0, false, false},
    {"param", 0, false, false},    {"read", 0, false, false},
    {"+", 2, true, false},         {"-", 2, false, false},
    {"*", 2, true, false},         {"-", 1, false, false},
    {"/", 2, false, false},        {"//", 2, false, false},
    {"%", 2, false, false},        {"<<", 2, false, false},
    {">>", 2, false, false},       {"&", 2, true, false},
    {"|", 2, true, false},         {"^", 2, true, false},
    {"<", 2, false, false},        {"<=", 2, false, false},
    {"==", 2, true, false},        {"&&", 2, true, false},
    {"||", 2, true, false},        {"!", 1, false, false},
    {"?", 3, false, false},        {"abs", 1, false, true},
    {"min", 2, true, true},        {"max", 2, true, true},
    {"i32", 1, false, true},       {"f32", 1, false, true},
    {"exp", 1, false, true},       {"exp2", 1, false, true},
    {"log", 1, false, true},       {"log2", 1, false, true},
    {"sqrt", 1, false, true},      {"rsqrt", 1, false, true},
    {"tanh", 1, false, true},      {"sigmoid", 1, false, true},
    {"erf", 1, false, true},       {"sin", 1, false, true},
    {"cos", 1, false, true},       {"acos", 1, false, true},
    {"floor", 1, false, true},     {"powi", 2, false, true},
    {"bit", 2, false, true},       {"popc", 1, false, true},
    {"isinf", 1, false, true},     {"unsafe_cuda", 0, false, false},
}};
static_assert(kInfo.back().text != nullptr, "one row per operator");

}  // namespace

const char* name_of(Type type) {
  static constexpr std::array kNames{"bool", "i32", "u32", "f32"};
  return kNames[static_cast<size_t>(type)];
}

const OpInfo& info(Op op) {
  return kInfo[static_cast<size_t>(op)];
}

Node constant_node(Type type, uint32_t bits) {
  return leaf_node(Op::constant, type, bits);
}
Node f32_node(float value) {
  return constant_node(Type::f32, std::bit_cast<uint32_t>(value));
}
Node i32_node(int32_t value) {
  return constant_node(Type::i32, static_cast<uint32_t>(value));
}
Node bool_node(bool value) {
  return constant_node(Type::boolean, value ? 1 : 0);
}
Node leaf_node(Op op, Type type, uint32_t value) {
  return op_node(op, type, {}, value);
}
Node op_node(Op op, Type type, std::span<const Id> args, uint32_t value) {
  Node node{.op = op, .type = type, .arity = static_cast<uint8_t>(args.size()), .value = value};
  for (size_t i = 0; i < args.size(); ++i) node.args[i] = args[i];
  return node;
}

int32_t as_i32(const Node& constant) {
  return static_cast<int32_t>(constant.value);
}
float as_f32(const Node& constant) {
  return std::bit_cast<float>(constant.value);
}

size_t Graph::Hash::operator()(const Node& node) const {
  uint64_t hash = static_cast<uint64_t>(node.op) << 40 | static_cast<uint64_t>(node.type) << 32 | node.value;
  for (Id arg : node.operands()) hash = (hash ^ arg) * 0x9e3779b97f4a7c15u + (hash >> 29);
  return hash;
}

Id Graph::add(const Node& node) {
  auto [place, is_new] = places_.try_emplace(node, static_cast<Id>(nodes_.size()));
  if (is_new) nodes_.push_back(node);
  return place->second;
}

uint32_t Graph::add_text(std::string_view text) {
  const auto at = std::find(texts_.begin(), texts_.end(), text);
  const auto place = static_cast<uint32_t>(at - texts_.begin());
  if (at == texts_.end()) texts_.emplace_back(text);
  return place;
}

Node carried(Node node, const Graph& from, Graph& to) {
  if (node.op == Op::cuda) node.value = to.add_text(from.text(node.value));
  return node;
}

std::vector<bool> reachable(const Graph& graph, std::span<const Id> roots) {
  std::vector<bool> used(graph.size());
  for (Id root : roots) {
    if (root != kNone) used[root] = true;
  }
  for (size_t i = graph.size(); i-- > 0;) {  // what uses a node lies behind it
    if (!used[i]) continue;
    for (Id arg : graph[static_cast<Id>(i)].operands()) used[arg] = true;
  }
  return used;
}

}  // namespace lathe::expr
