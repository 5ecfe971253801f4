#include "lathe/spec/expr/variation.h"

namespace lathe::expr {

std::vector<Variation> variations(const Hooks& hooks) {
  const Graph& graph = hooks.graph;
  std::vector<Variation> out(graph.size());
  std::array<Id, kInputs> maps;
  maps.fill(kNone);
  auto sweep = [&] {
    for (Id id = 0; id < graph.size(); ++id) {
      const Node& node = graph[id];
      // Text may do what no operand tells of, so it is not moved out of any loop.
      Variation variation = node.op == Op::cuda ? Variation::element : Variation::kernel;
      if (node.op == Op::input) variation = info(static_cast<Input>(node.value)).variation;
      if (node.op == Op::input && maps[node.value] != kNone) variation = out[maps[node.value]];
      for (Id arg : node.operands()) variation = variation | out[arg];
      out[id] = variation;
    }
  };
  sweep();
  maps[static_cast<size_t>(Input::q_pos)] = hooks.root(Hook::q_pos);
  maps[static_cast<size_t>(Input::kv_pos)] = hooks.root(Hook::kv_pos);
  sweep();  // maps use neither position, so their own variation stands
  return out;
}

}  // namespace lathe::expr
