#include "lathe/proof/hook_values.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "lathe/oracle/float16.h"

namespace lathe::testing {
namespace {

using expr::Axis;
using expr::Elem;
using expr::Type;

int64_t between(int64_t lo, int64_t hi, std::mt19937_64& rng) {
  return std::uniform_int_distribution<int64_t>(lo, std::max(lo, hi))(rng);
}

double draw_param(const expr::Param& param, const HookAxes& axes, std::mt19937_64& rng) {
  const bool is_float = param.type == Type::f32;
  double lo = 0, hi = is_float ? 2 : 1;
  if (param.type == Type::i32 || param.type == Type::u32) lo = 1, hi = static_cast<double>(std::max<int64_t>(axes.kv_len / 2, 2));
  if (is_float) lo = 0.25;
  if (param.range) lo = std::max(lo, (*param.range)[0]), hi = std::max(lo, std::min(hi, (*param.range)[1]));
  if (is_float) return static_cast<double>(static_cast<float>(std::uniform_real_distribution<double>(lo, hi)(rng)));
  return static_cast<double>(between(static_cast<int64_t>(lo), static_cast<int64_t>(hi), rng));
}

int64_t extent_of(const HookAxes& axes, const expr::TensorAxis& axis, const std::vector<expr::Value>& params) {
  switch (axis.axis) {
    case Axis::batch:
      return axes.batch;
    case Axis::qo_heads:
      return axes.qo_heads;
    case Axis::kv_heads:
      return axes.kv_heads;
    case Axis::tokens:
      return axes.tokens;
    case Axis::qo_len:
      return axes.qo_len;
    case Axis::kv_pos:
      return axes.kv_len;
    case Axis::slots:
      return axes.slots;
    case Axis::pages:
      return axes.pages;
    case Axis::head_dim:
      return axes.head_dim;
    case Axis::number:
      return axis.value;
    case Axis::param:
      return std::max(params[axis.value].i, 1);
    case Axis::free:
      return 11;
  }
  return 1;
}

size_t bytes_of(Elem elem) {
  if (elem == Elem::f32 || elem == Elem::i32 || elem == Elem::u32) return 4;
  return elem == Elem::f16 || elem == Elem::bf16 ? 2 : 1;
}

/// The value of an 8-bit float with `exponent_bits` bits of exponent, by its definition.
double small_float(uint8_t bits, int exponent_bits) {
  const int mantissa_bits = 7 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits & 0x7f) >> mantissa_bits, mantissa = bits & ((1 << mantissa_bits) - 1);
  const double fraction = std::ldexp(mantissa, -mantissa_bits) + (exponent > 0 ? 1 : 0);
  return (bits >= 128 ? -1 : 1) * std::ldexp(fraction, std::max(exponent, 1) - bias);
}

/// Random bits of one element, and its value.
std::pair<uint32_t, expr::Value> draw_element(Elem elem, const HookAxes& axes, std::mt19937_64& rng) {
  const double normal = std::normal_distribution<double>(0, 0.5)(rng);
  switch (elem) {
    case Elem::f32:
      return {std::bit_cast<uint32_t>(static_cast<float>(normal)),
              expr::Value::of(static_cast<double>(static_cast<float>(normal)))};
    case Elem::f16:
    case Elem::bf16: {
      const DType dtype = elem == Elem::f16 ? DType::f16 : DType::bf16;
      const uint16_t bits = oracle::encode(dtype, normal);
      return {bits, expr::Value::of(oracle::decode(dtype, bits))};
    }
    case Elem::e4m3:
    case Elem::e5m2: {
      const int exponent_bits = elem == Elem::e4m3 ? 4 : 5;
      // Between 2^-6 and 2^2, and zero.
      const int bias = (1 << (exponent_bits - 1)) - 1, mantissa_bits = 7 - exponent_bits;
      uint32_t bits =
          static_cast<uint32_t>(between(bias - 6, bias + 1, rng) << mantissa_bits | between(0, (1 << mantissa_bits) - 1, rng));
      if (rng() % 8 == 0) bits = 0;
      if (rng() % 2 == 0) bits |= 0x80;
      return {bits, expr::Value::of(small_float(static_cast<uint8_t>(bits), exponent_bits))};
    }
    case Elem::i32: {
      const auto x = static_cast<int32_t>(between(0, axes.kv_len, rng));
      return {static_cast<uint32_t>(x), expr::Value::of(x)};
    }
    case Elem::u32: {
      const auto x = static_cast<uint32_t>(rng());
      return {x, expr::Value::of(static_cast<int32_t>(x))};
    }
    case Elem::i8: {
      const auto x = static_cast<int32_t>(between(-128, 127, rng));
      return {static_cast<uint32_t>(x) & 0xff, expr::Value::of(x)};
    }
    case Elem::u8: {
      const auto x = static_cast<int32_t>(between(0, 2, rng));
      return {static_cast<uint32_t>(x), expr::Value::of(x)};
    }
    case Elem::boolean:
      break;
  }
  const auto x = static_cast<int32_t>(rng() % 2);
  return {static_cast<uint32_t>(x), expr::Value::of(x)};
}

}  // namespace

DrawnHooks draw_hooks(const AttentionHooks& given, const HookAxes& axes, std::mt19937_64& rng) {
  DrawnHooks out;
  const expr::Hooks& hooks = given.given();
  for (const expr::Param& param : hooks.params) {
    const double x = draw_param(param, axes, rng);
    out.params.push_back({param.name, x});
    out.values.params.push_back(param.type == Type::f32 ? expr::Value::of(x)
                                                        : expr::Value::of(static_cast<int32_t>(static_cast<int64_t>(x))));
  }
  for (const expr::Tensor& tensor : hooks.tensors) {
    oracle::HookTensorValues values;
    Tensor shape;
    int64_t elements = 1;
    for (const expr::TensorAxis& axis : tensor.axes) {
      // What is declared as a number or a param may be less than what lies there.
      const bool is_declared = axis.axis == Axis::number || axis.axis == Axis::param;
      const int64_t extent =
          std::max<int64_t>(extent_of(axes, axis, out.values.params), 1) + (is_declared ? between(0, 2, rng) : 0);
      values.shape.push_back(extent);
      shape.shape[static_cast<size_t>(shape.rank++)] = extent;
      elements *= extent;
    }
    const int64_t width = values.shape.back(), stride = width + between(0, 3, rng);  // of the last axis
    int64_t step = stride;
    shape.stride[static_cast<size_t>(shape.rank - 1)] = 1;
    for (int i = shape.rank - 2; i >= 0; --i) {
      shape.stride[static_cast<size_t>(i)] = step;
      step *= shape.shape[static_cast<size_t>(i)];
    }
    std::vector<std::pair<uint32_t, expr::Value>> drawn(static_cast<size_t>(elements));
    for (auto& element : drawn) element = draw_element(tensor.elem, axes, rng);
    if (tensor.sorted) {
      for (auto row = drawn.begin(); row != drawn.end(); row += width)
        std::sort(row, row + width, [](const auto& a, const auto& b) { return a.second.i < b.second.i; });
    }
    const size_t bytes = bytes_of(tensor.elem);
    Bytes memory(static_cast<size_t>((elements / width - 1) * stride + width) * bytes, std::byte{0xff});
    for (size_t i = 0; i < drawn.size(); ++i) {
      const size_t at = i / static_cast<size_t>(width) * static_cast<size_t>(stride) + i % static_cast<size_t>(width);
      std::memcpy(memory.data() + at * bytes, &drawn[i].first, bytes);
      values.elements.push_back(drawn[i].second);
    }
    out.tensors.push_back({tensor.name, shape});
    out.memory.push_back(std::move(memory));
    out.values.tensors.push_back(std::move(values));
  }
  return out;
}

}  // namespace lathe::testing
