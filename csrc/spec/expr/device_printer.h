// Nodes of expressions as statements of device source: the engine below device_source.h and device_hooks.h.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/spec/expr/hooks.h"
#include "lathe/spec/expr/range.h"
#include "lathe/spec/expr/variation.h"

namespace lathe::expr {

/// "bool", "int", "unsigned" or "float".
const char* type_text(Type type);
/// The variable of an input: its name, rot_x for rot(x).
const char* variable_of(Input input);
/// The function that holds the text of a cuda node.
std::string cuda_function(Id id);
/// Whether a node has a statement of its own, rather than being a literal or a variable that is given.
bool is_computed(const Node& node);

/// The nodes that some roots need, one statement for each operator: what several use is computed once, and no sign needs
/// parentheses. `hooks` must outlive it.
class DevicePrinter {
 public:
  DevicePrinter(const Hooks& hooks, std::span<const Id> roots);

  bool used(Id id) const { return used_[id]; }
  Variation variation(Id id) const { return variations_[id]; }
  /// The literal or variable that holds the node's value.
  const std::string& name(Id id) const { return names_[id]; }
  /// "const int v0 = kv + qo_len;" of a computed node.
  std::string statement(Id id) const;

 private:
  const std::string& arg(const Node& node, size_t i) const;
  std::string call(std::string_view function, const Node& node) const;
  std::string arguments(const Node& node) const;
  std::string infix(std::string_view sign, const Node& node) const;
  std::string read(Id id, const Node& node) const;
  std::string quotient(const Node& node) const;
  std::string form(Id id, const Node& node) const;

  const Hooks& hooks_;
  const std::vector<Range> ranges_;
  const std::vector<Variation> variations_;
  const std::vector<bool> used_;
  std::vector<std::string> names_;  // by node
};

}  // namespace lathe::expr
