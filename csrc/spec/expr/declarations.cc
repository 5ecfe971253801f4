#include "lathe/spec/expr/declarations.h"

#include <set>

#include "lathe/spec/expr/bounds.h"
#include "lathe/spec/expr/names.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/text.h"

namespace lathe::expr {

void check_declarations(const Hooks& hooks, std::vector<Finding>& out) {
  std::set<std::string_view> names;
  std::optional<size_t> of_param, of_tensor;  // the declaration that is looked at
  auto error = [&](const std::string& message, const char* hint = "") {
    out.push_back({true, std::nullopt, kNone, message, hint, "declarations", of_param, of_tensor});
  };
  auto check_name = [&](const std::string& name) {
    const std::string problem = names.insert(name).second ? name_problem(name) : "is declared twice";
    if (!problem.empty()) error("the name " + fields::in_quotes(name) + " " + problem + "; allowed: another name");
  };
  for (size_t i = 0; i < hooks.params.size(); ++i) {
    const Param& param = hooks.params[i];
    of_param = i;
    check_name(param.name);
    if (param.range && !is_range_of(param.type, *param.range)) {
      error("param " + fields::shown(param.name) + " has the range [" + number_text((*param.range)[0]) + ", " +
                number_text((*param.range)[1]) + "]; allowed: [least, greatest] of " + name_of(param.type),
            "both ends are finite; without a range every value is allowed");
    }
  }
  of_param.reset();
  for (size_t i = 0; i < hooks.tensors.size(); ++i) {
    const Tensor& tensor = hooks.tensors[i];
    of_tensor = i;
    check_name(tensor.name);
    if (tensor.range && !is_range_of(tensor.elem, *tensor.range)) {
      const auto [least, most] = limits_of(tensor.elem);
      const Type type = read_type(tensor.elem);
      const std::string numbers =
          type == Type::f32 ? "f32"
                            : std::string(name_of(tensor.elem)) + ", in [" + number_text(least) + ", " + number_text(most) + "]";
      error("tensor " + fields::shown(tensor.name) + " has the range [" + number_text((*tensor.range)[0]) + ", " +
                number_text((*tensor.range)[1]) +
                "]; allowed: " + (type == Type::boolean ? "none, as bool has no range" : "[least, greatest] of " + numbers),
            "both ends are finite; without a range elements are read as they are");
    }
    for (const TensorAxis& axis : tensor.axes) {
      const bool is_param = axis.axis == Axis::param;
      const bool sound = is_param ? axis.value < hooks.params.size() && hooks.params[axis.value].type == Type::i32
                                  : axis.axis != Axis::number || (axis.value >= 1 && axis.value < (1u << 31));
      if (!sound) {
        error("tensor " + fields::shown(tensor.name) + " has an axis of " +
              (is_param ? "no i32 param" : std::to_string(axis.value)) + "; allowed: 1..2147483647, an i32 param, or a named axis");
      }
    }
    if (tensor.axes.empty() || tensor.axes.size() > kMaxAxes) {
      error("tensor " + fields::shown(tensor.name) + " has " + std::to_string(tensor.axes.size()) + " axes; allowed: 1.." +
            std::to_string(kMaxAxes));
    }
  }
  of_tensor.reset();
  if (hooks.params.size() > kMaxDeclarations) {
    of_param = kMaxDeclarations;
  } else if (hooks.tensors.size() > kMaxDeclarations) {
    of_tensor = kMaxDeclarations;
  }
  if (hooks.params.size() > kMaxDeclarations || hooks.tensors.size() > kMaxDeclarations) {
    error(std::to_string(hooks.params.size()) + " params and " + std::to_string(hooks.tensors.size()) +
          " tensors; allowed: " + std::to_string(kMaxDeclarations) + " each");
  }
}

}  // namespace lathe::expr
