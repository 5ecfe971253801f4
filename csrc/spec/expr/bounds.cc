#include "lathe/spec/expr/bounds.h"

#include <cmath>

#include "lathe/spec/expr/range.h"

namespace lathe::expr {
namespace {

/// An end of a range that is_range_of() `type`.
Node end_node(Type type, double end) {
  if (type == Type::f32) return f32_node(static_cast<float>(end));
  return type == Type::i32 ? i32_node(static_cast<int32_t>(end)) : constant_node(type, static_cast<uint32_t>(end));
}

bool binds(const Tensor& tensor) {
  return tensor.range && is_range_of(tensor.elem, *tensor.range);
}

}  // namespace

std::array<double, 2> limits_of(Elem elem) {
  if (elem == Elem::i8) return {-128, 127};
  if (elem == Elem::u8) return {0, 255};
  const Range whole = whole_range(read_type(elem));
  return {whole.lo, whole.hi};
}

bool is_range_of(Type type, const std::array<double, 2>& range) {
  const auto [lo, hi] = range;
  if (type == Type::boolean || !(lo <= hi) || !std::isfinite(lo) || !std::isfinite(hi)) return false;
  if (type == Type::f32) return f32_of(lo) == lo && f32_of(hi) == hi;
  const Range whole = whole_range(type);
  return lo >= whole.lo && hi <= whole.hi && std::floor(lo) == lo && std::floor(hi) == hi;
}

bool is_range_of(Elem elem, const std::array<double, 2>& range) {
  const auto [least, most] = limits_of(elem);
  return is_range_of(read_type(elem), range) && range[0] >= least && range[1] <= most;
}

Id bounded(Graph& graph, const Tensor& tensor, Id read) {
  if (!binds(tensor)) return read;
  const Type type = read_type(tensor.elem);
  const auto [lo, hi] = *tensor.range;
  const Id raised = graph.add(op_node(Op::max, type, std::array{read, graph.add(end_node(type, lo))}));
  return graph.add(op_node(Op::min, type, std::array{raised, graph.add(end_node(type, hi))}));
}

Id bounded_read(const Hooks& hooks, Id id) {
  const Graph& graph = hooks.graph;
  if (graph[id].op != Op::min) return kNone;
  const Node& raised = graph[graph[id].args[0]];
  if (raised.op != Op::max || graph[raised.args[0]].op != Op::read) return kNone;
  const Tensor& tensor = hooks.tensors[graph[raised.args[0]].value];
  if (!binds(tensor)) return kNone;
  const Node least = end_node(raised.type, (*tensor.range)[0]), greatest = end_node(raised.type, (*tensor.range)[1]);
  const bool is_element = graph[raised.args[1]] == least && graph[graph[id].args[1]] == greatest;
  return is_element ? raised.args[0] : kNone;
}

}  // namespace lathe::expr
