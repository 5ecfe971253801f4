#include "hook_values.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "extremes.h"
#include "lathe/base/bytes.h"
#include "lathe/spec/expr/print.h"
#include "tensor_checks.h"

namespace lathe {
namespace {

using expr::Elem;
using expr::Type;

std::string number(Type type, double x) {
  return type == Type::f32 ? expr::number_text(static_cast<float>(x)) : expr::number_text(x);
}

/// What a param may be.
std::array<double, 2> range_of(const expr::Param& param) {
  if (param.range) return *param.range;
  switch (param.type) {
    case Type::boolean:
      return {0, 1};
    case Type::i32:
      return {-static_cast<double>(expr::kDefaultRange), static_cast<double>(expr::kDefaultRange)};
    case Type::u32:
      return {0, static_cast<double>(std::numeric_limits<uint32_t>::max())};
    case Type::f32:
      break;
  }
  constexpr double kMost = std::numeric_limits<float>::max();
  return {-kMost, kMost};
}

expr::Value value_of(const expr::Param& param, double x) {
  if (param.type == Type::f32) return expr::Value::of(x);
  if (param.type == Type::u32) return expr::Value::of(static_cast<int32_t>(static_cast<uint32_t>(x)));
  return expr::Value::of(static_cast<int32_t>(x));
}

uint32_t bits_of(const expr::Param& param, const expr::Value& value) {
  return param.type == Type::f32 ? std::bit_cast<uint32_t>(static_cast<float>(value.f)) : static_cast<uint32_t>(value.i);
}

size_t bytes_of(Elem elem) {
  switch (elem) {
    case Elem::f32:
    case Elem::i32:
    case Elem::u32:
      return 4;
    case Elem::f16:
    case Elem::bf16:
      return 2;
    default:
      return 1;
  }
}

/// Adds a problem for each name in `given` that `declared` lacks or that comes twice.
template <class Given, class Declared>
void check_names(const char* argument, std::span<const Given> given, const std::vector<Declared>& declared, Problems& problems) {
  for (size_t i = 0; i < given.size(); ++i) {
    const std::string& name = given[i].name;
    std::string known;
    bool found = false;
    for (const Declared& d : declared) {
      found = found || d.name == name;
      known += (known.empty() ? "" : ", ") + d.name;
    }
    if (!found)
      problems.add(argument, "has " + name + ", which the hooks do not declare; allowed: " + (known.empty() ? "none" : known));
    for (size_t j = 0; j < i; ++j) {
      if (given[j].name == name) problems.add(argument, "has " + name + " twice");
    }
  }
}

template <class Given>
const Given* named(std::span<const Given> given, const std::string& name) {
  const auto found = std::ranges::find_if(given, [&](const Given& g) { return g.name == name; });
  return found == given.end() ? nullptr : &*found;
}

/// What an axis must hold; nothing where any extent will do.
std::optional<int64_t> needed(const expr::TensorAxis& axis, const HookExtents& extents, std::span<const expr::Value> params) {
  using expr::Axis;
  switch (axis.axis) {
    case Axis::batch:
      return extents.batch;
    case Axis::qo_heads:
      return extents.qo_heads;
    case Axis::kv_heads:
      return extents.kv_heads;
    case Axis::tokens:
      return extents.tokens;
    case Axis::qo_len:
      return extents.qo_len;
    case Axis::kv_pos:
      return extents.kv_len;
    case Axis::slots:
      return extents.slots;
    case Axis::pages:
      return extents.pages;
    case Axis::head_dim:
      return extents.head_dim;
    case Axis::number:
      return axis.value;
    case Axis::param:
      return std::max(params[axis.value].i, 1);
    case Axis::free:
      return std::nullopt;
  }
  return std::nullopt;
}

std::string axis_name(const expr::TensorAxis& axis, const std::vector<expr::Param>& params) {
  if (const char* name = expr::name_of(axis.axis)) return name;
  return axis.axis == expr::Axis::number ? std::to_string(axis.value) : params[axis.value].name;
}

/// Adds what is wrong with `t`; true when nothing is.
bool check_hook_tensor(const expr::Tensor& declared, const Tensor& t, const std::vector<expr::Param>& params,
                       std::span<const expr::Value> values, const HookExtents& extents, Problems& problems) {
  const std::string name = "hook_tensors." + declared.name;
  std::vector<TableAxis> axes;
  for (const expr::TensorAxis& axis : declared.axes)
    axes.push_back({needed(axis, extents, values).value_or(1), "axis " + axis_name(axis, params)});
  return check_table(name, t, bytes_of(declared.elem), axes, problems);
}

/// What indices are clamped to: what is declared where that is a number or a param, else what there is.
std::array<int, abi::kMaxHookAxes> extents_of(const expr::Tensor& declared, const Tensor& t, const HookExtents& extents,
                                              std::span<const expr::Value> params) {
  std::array<int, abi::kMaxHookAxes> out{};
  for (size_t i = 0; i < declared.axes.size(); ++i) {
    const expr::TensorAxis& axis = declared.axes[i];
    const bool is_declared = axis.axis == expr::Axis::number || axis.axis == expr::Axis::param;
    out[i] = static_cast<int>(is_declared ? *needed(axis, extents, params) : t.shape[i]);
  }
  return out;
}

}  // namespace

std::vector<expr::Value> read_hook_params(const AttentionHooks& hooks, const char* argument, std::span<const HookParam> given,
                                          bool optional, Problems& problems) {
  check_names(argument, given, hooks.given().params, problems);
  const std::vector<expr::Param>& params = hooks.canonical().params;
  std::vector<expr::Value> out(params.size());
  for (size_t i = 0; i < params.size(); ++i) {
    const HookParam* param = named(given, params[i].name);
    const std::string name = std::string(argument) + "." + params[i].name;
    if (param == nullptr) {
      if (!optional) problems.add(name, "is missing");
      continue;
    }
    const auto [lo, hi] = range_of(params[i]);
    const Type type = params[i].type;
    // The kernel takes f32, so that is what lies in the range or not.
    const double value = type == Type::f32 ? static_cast<double>(static_cast<float>(param->value)) : param->value;
    const bool is_whole = type == Type::f32 || std::floor(value) == value;
    if (!is_whole || !(value >= lo && value <= hi)) {
      problems.add(name, "is " + expr::number_text(param->value) + ", must be " + (type == Type::f32 ? "" : "a whole number ") +
                             "in " + number(type, lo) + ".." + number(type, hi));
      continue;
    }
    out[i] = value_of(params[i], value);
  }
  return out;
}

void read_hook_args(const AttentionHooks& hooks, std::span<const HookParam> params, std::span<const HookTensor> tensors,
                    const HookExtents& extents, abi::AttentionHookArgs& out, std::array<BufferArg, abi::kMaxHookTensors>& buffers,
                    size_t& num_buffers, Problems& problems) {
  static constexpr std::array<const char*, abi::kMaxHookTensors> kNames{
      "hook tensor 0",  "hook tensor 1",  "hook tensor 2",  "hook tensor 3", "hook tensor 4",  "hook tensor 5",
      "hook tensor 6",  "hook tensor 7",  "hook tensor 8",  "hook tensor 9", "hook tensor 10", "hook tensor 11",
      "hook tensor 12", "hook tensor 13", "hook tensor 14", "hook tensor 15"};
  const expr::Hooks& canonical = hooks.canonical();
  const std::vector<expr::Value> values = read_hook_params(hooks, "hook_params", params, false, problems);
  for (size_t i = 0; i < values.size(); ++i) out.params[i] = bits_of(canonical.params[i], values[i]);
  check_names("hook_tensors", tensors, hooks.given().tensors, problems);
  num_buffers = 0;
  for (size_t i = 0; i < canonical.tensors.size(); ++i) {
    const expr::Tensor& declared = canonical.tensors[i];
    const HookTensor* tensor = named(tensors, declared.name);
    if (tensor == nullptr) {
      problems.add("hook_tensors." + declared.name, "is missing");
      continue;
    }
    const Tensor& t = tensor->tensor;
    if (!check_hook_tensor(declared, t, canonical.params, values, extents, problems)) continue;
    abi::AttentionHookTensor& slot = out.tensors[i];
    const size_t bytes = bytes_of(declared.elem);
    slot.data = t.data;
    std::ranges::copy(extents_of(declared, t, extents, values), slot.extent);
    for (size_t axis = 0; axis < declared.axes.size(); ++axis) slot.stride[axis] = t.stride[axis] * static_cast<int64_t>(bytes);
    buffers[num_buffers++] = {kNames[i], t.data, extent_bytes(t, bytes), BufferArg::Use::input};
  }
}

namespace {

bool is_integer(Elem elem) {
  return expr::read_type(elem) != Type::f32;
}

/// Whether a host copy can be complete: nobody says here how large the pool is.
bool is_bounded(const expr::Tensor& tensor) {
  return std::ranges::none_of(
      tensor.axes, [](const expr::TensorAxis& axis) { return axis.axis == expr::Axis::slots || axis.axis == expr::Axis::pages; });
}

}  // namespace

expr::Summary summarise(const AttentionHooks& hooks, std::span<const HookTensor> tensors, std::span<const expr::Value> params,
                        const HookExtents& extents, Problems& problems) {
  check_names("hook_tensors", tensors, hooks.given().tensors, problems);
  const expr::Hooks& canonical = hooks.canonical();
  std::vector<std::optional<Extremes>> slots(canonical.tensors.size());
  for (size_t i = 0; i < slots.size(); ++i) {
    const expr::Tensor& declared = canonical.tensors[i];
    const HookTensor* given = named(tensors, declared.name);
    if (given == nullptr || !is_integer(declared.elem) || !is_bounded(declared)) continue;
    if (!check_hook_tensor(declared, given->tensor, canonical.params, params, extents, problems)) continue;
    const auto clamped = extents_of(declared, given->tensor, extents, params);
    slots[i].emplace(given->tensor, declared.elem, std::span(clamped).first(declared.axes.size()));
  }
  return [slots = std::move(slots)](uint32_t tensor, std::span<const expr::Interval> box) mutable -> std::optional<expr::Interval> {
    if (!slots[tensor]) return std::nullopt;
    return (*slots[tensor])(box);
  };
}

}  // namespace lathe
