#include "random_hooks.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "lathe/spec/expr/build.h"
#include "lathe/spec/expr/rewrite.h"

namespace lathe::expr::testing {
namespace {

constexpr std::array<std::string_view, 13> kIntegerSigns{"+", "-", "*", "//", "%", "<<", ">>", "&", "|", "^", "+", "-", "*"};
constexpr std::array<std::string_view, 6> kComparisons{"<", "<=", ">", ">=", "==", "!="};
constexpr std::array<std::string_view, 4> kRealSigns{"+", "-", "*", "/"};
constexpr std::array<std::string_view, 14> kRealFunctions{"exp", "exp2",    "log", "log2", "sqrt", "rsqrt", "tanh",
                                                          "abs", "sigmoid", "erf", "sin",  "cos",  "acos",  "floor"};

uint32_t draw(Rng& rng, uint32_t count) {
  return static_cast<uint32_t>(rng() % count);
}
template <class T, size_t N>
T pick(Rng& rng, const std::array<T, N>& from) {
  return from[draw(rng, N)];
}

class Generator {
 public:
  Generator(Rng& rng, Hooks& hooks, Hook hook) : rng_(rng), hooks_(hooks), builder_(hooks), hook_(hook) {}

  /// An expression of `type` with about `size` operators. No float is constant but single operands of + - * /: functions of
  /// constants are rounded when they are folded, and comparisons can make any difference of that.
  Id expression(Type type, int size) {
    if (size <= 0) return leaf(type);
    const int left = static_cast<int>(draw(rng_, static_cast<uint32_t>(size)));
    const int right = size - 1 - left;
    if (draw(rng_, 9) == 0) {
      return builder_.select(expression(Type::boolean, left / 2), expression(type, right), expression(type, left / 2)).id;
    }
    switch (type) {
      case Type::boolean:
        return condition(left, right);
      case Type::f32:
        return real(left, right);
      default:
        return integer(type, left, right);
    }
  }

 private:
  Id condition(int left, int right) {
    switch (draw(rng_, 9)) {
      case 8:
        return builder_.call("isinf", std::array{expression(Type::f32, left + right)}).id;
      case 0:
        return builder_.prefix("!", expression(Type::boolean, left + right)).id;
      case 1:
      case 2:
        return builder_.infix("&&", expression(Type::boolean, left), expression(Type::boolean, right)).id;
      case 3:
        return builder_.infix("||", expression(Type::boolean, left), expression(Type::boolean, right)).id;
      case 4: {
        const std::array args{expression(Type::u32, left), expression(Type::i32, right)};
        return builder_.call("bit", args).id;
      }
      default: {
        const Type type = pick(rng_, std::array{Type::i32, Type::i32, Type::i32, Type::u32, Type::f32});
        if (type == Type::f32)
          return builder_.infix(pick(rng_, kComparisons), expression(Type::f32, left), expression(Type::f32, right)).id;
        return builder_.infix(pick(rng_, kComparisons), expression(type, left), expression(type, right)).id;
      }
    }
  }

  Id integer(Type type, int left, int right) {
    if (draw(rng_, 5) == 0) {
      const std::array args{expression(type, left), expression(type, right)};
      return builder_.call(draw(rng_, 2) == 0 ? "min" : "max", args).id;
    }
    if (type == Type::i32 && draw(rng_, 6) == 0) {
      switch (draw(rng_, 5)) {
        case 0:
          return builder_.prefix("-", expression(type, left + right)).id;
        case 1:
          return builder_.call("abs", std::array{expression(type, left + right)}).id;
        case 2:
          return builder_.call("popc", std::array{expression(Type::u32, left + right)}).id;
        case 3:
          return builder_.call("i32", std::array{expression(Type::u32, left + right)}).id;
        default:
          return builder_.call("i32", std::array{expression(Type::boolean, left + right)}).id;
      }
    }
    const std::string_view sign = pick(rng_, kIntegerSigns);
    const bool is_shift = sign == "<<" || sign == ">>";
    Id b = is_shift || draw(rng_, 3) == 0 ? small_constant(is_shift ? Type::i32 : type) : expression(type, right);
    return builder_.infix(sign, expression(type, left), b).id;
  }

  Id real(int left, int right) {
    switch (draw(rng_, 9)) {
      case 0:
        return builder_.call(pick(rng_, kRealFunctions), std::array{expression(Type::f32, left + right)}).id;
      case 1: {
        const std::array args{expression(Type::f32, left), expression(Type::f32, right)};
        return builder_.call(draw(rng_, 2) == 0 ? "min" : "max", args).id;
      }
      case 2: {
        const std::array args{expression(Type::f32, left + right),
                              builder_.constant(i32_node(pick(rng_, std::array{-2, -1, 1, 2, 3, 4})))};
        return builder_.call("powi", args).id;
      }
      case 3:
        return builder_.prefix("-", expression(Type::f32, left + right)).id;
      case 4: {
        const std::array args{expression(draw(rng_, 3) == 0 ? Type::u32 : Type::i32, right)};
        return builder_.infix(pick(rng_, kRealSigns), expression(Type::f32, left), builder_.call("f32", args).id).id;
      }
      case 5: {
        const Id number = builder_.constant(f32_node(static_cast<float>(draw(rng_, 65)) / 8 - 4));
        const Id other = expression(Type::f32, left + right);
        const std::string_view sign = pick(rng_, kRealSigns);
        return draw(rng_, 2) == 0 ? builder_.infix(sign, number, other).id : builder_.infix(sign, other, number).id;
      }
      default:
        return builder_.infix(pick(rng_, kRealSigns), expression(Type::f32, left), expression(Type::f32, right)).id;
    }
  }

  Id small_constant(Type type) {
    static constexpr std::array kNumbers{0, 1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 63, 64, 255, 1024, 8192};
    const int32_t value = pick(rng_, kNumbers) * (type == Type::i32 && draw(rng_, 4) == 0 ? -1 : 1);
    return builder_.constant(constant_node(type, static_cast<uint32_t>(value)));
  }

  Id leaf(Type type) {
    if (type == Type::boolean) {
      if (draw(rng_, 4) == 0) return builder_.constant(bool_node(draw(rng_, 2) == 0));
      return builder_.infix(pick(rng_, kComparisons), leaf(Type::i32), leaf(Type::i32)).id;
    }
    switch (draw(rng_, 8)) {
      case 0:
        if (type == Type::f32) return builder_.param(kRealParam);
        return draw(rng_, 6) == 0 ? builder_.constant(constant_node(type, static_cast<uint32_t>(rng_()))) : small_constant(type);
      case 1:
      case 2: {
        std::vector<uint32_t> fitting;
        for (uint32_t i = 0; i < hooks_.params.size(); ++i) {
          if (hooks_.params[i].type == type) fitting.push_back(i);
        }
        return builder_.param(fitting[draw(rng_, static_cast<uint32_t>(fitting.size()))]);
      }
      case 3: {
        std::vector<uint32_t> fitting;
        for (uint32_t i = 0; i < hooks_.tensors.size(); ++i) {
          if (read_type(hooks_.tensors[i].elem) == type) fitting.push_back(i);
        }
        const uint32_t tensor = fitting[draw(rng_, static_cast<uint32_t>(fitting.size()))];
        std::vector<Id> at;
        for (size_t i = 0; i < hooks_.tensors[tensor].axes.size(); ++i)
          at.push_back(expression(Type::i32, static_cast<int>(draw(rng_, 2))));
        return builder_.read(tensor, at).id;
      }
      default: {
        std::vector<Input> fitting;
        for (Input input : info(hook_).inputs) {
          if (info(input).type == type) fitting.push_back(input);
        }
        if (fitting.empty()) return small_constant_or_param(type);
        return builder_.input(fitting[draw(rng_, static_cast<uint32_t>(fitting.size()))]);
      }
    }
  }

  Id small_constant_or_param(Type type) { return type == Type::f32 ? builder_.param(kRealParam) : small_constant(type); }

  static constexpr uint32_t kRealParam = 0;

  Rng& rng_;
  Hooks& hooks_;
  Builder builder_;
  const Hook hook_;
};

/// A number within [lo, hi], often close to 0 or to an end.
int64_t number_within(Rng& rng, int64_t lo, int64_t hi) {
  const auto width = static_cast<uint64_t>(hi - lo);
  const int64_t any = lo + static_cast<int64_t>(width == std::numeric_limits<uint64_t>::max() ? rng() : rng() % (width + 1));
  const int64_t small = static_cast<int64_t>(rng() % 200) - (lo < 0 ? 100 : 0);
  switch (draw(rng, 8)) {
    case 0:
      return any;
    case 1:
      return draw(rng, 2) == 0 ? lo : hi;
    default:
      return std::clamp(small, lo, hi);
  }
}

double real_number(Rng& rng) {
  return static_cast<double>(static_cast<float>(static_cast<double>(rng() % 20001) / 1000.0 - 10.0));
}

Value value_of(Rng& rng, Type type, std::optional<std::array<double, 2>> range) {
  switch (type) {
    case Type::boolean:
      return Value::of(static_cast<int32_t>(rng() % 2));
    case Type::f32:
      return Value::of(range ? std::clamp(real_number(rng), (*range)[0], (*range)[1]) : real_number(rng));
    default: {
      const bool is_signed = type == Type::i32;
      const int64_t lo = range ? static_cast<int64_t>((*range)[0]) : is_signed ? -kDefaultRange : 0;
      const int64_t hi = range       ? static_cast<int64_t>((*range)[1])
                         : is_signed ? kDefaultRange
                                     : std::numeric_limits<uint32_t>::max();
      return Value::of(static_cast<int32_t>(static_cast<uint32_t>(number_within(rng, lo, hi))));
    }
  }
}

}  // namespace

Hooks random_hooks(Rng& rng, Hook hook, int size) {
  Hooks hooks;
  hooks.params = {{"pf", Type::f32, {}},
                  {"pa", Type::i32, {}},
                  {"pb", Type::i32, {}},
                  {"pc", Type::i32, std::array{1.0, 100.0}},
                  {"pu", Type::u32, {}},
                  {"pg", Type::f32, {}},
                  {"pm", Type::i32, std::array{-7.0, 9.0}}};
  hooks.tensors = {{"ta", Elem::i32, {{Axis::qo_heads, 0}}, true, false},
                   {"tb", Elem::f32, {{Axis::tokens, 0}, {Axis::number, 16}}},
                   {"tu", Elem::u32, {{Axis::free, 0}}},
                   {"tc", Elem::u8, {{Axis::number, 8}, {Axis::param, 3}}},
                   {"td", Elem::i8, {{Axis::kv_pos, 0}}, false, true},
                   {"te", Elem::i32, {{Axis::tokens, 0}}, true, false, std::array{-3.0, 40.0}},
                   {"tf", Elem::f16, {{Axis::qo_heads, 0}}, false, false, std::array{-2.0, 0.5}},
                   {"tv", Elem::u32, {{Axis::free, 0}}, false, false, std::array{1.0, 9.0}}};
  hooks.root(hook) = Generator(rng, hooks, hook).expression(info(hook).type, size);
  for (Hook map : {Hook::q_pos, Hook::kv_pos}) {
    if (hooks.root(map) == kNone && draw(rng, 4) == 0) hooks.root(map) = Generator(rng, hooks, map).expression(Type::i32, 3);
  }
  return hooks;
}

RandomEnvironment::RandomEnvironment(const Hooks& hooks, Rng& rng, Hook hook) : hooks_(hooks) {
  for (size_t i = 0; i < kInputs; ++i) {
    const InputInfo& input = info(static_cast<Input>(i));
    inputs_[i] = input.type == Type::f32 ? Value::of(real_number(rng))
                                         : Value::of(static_cast<int32_t>(number_within(rng, input.lo, input.hi)));
  }
  auto at = [&](Input input) -> int32_t& { return inputs_[static_cast<size_t>(input)].i; };
  at(Input::q) = static_cast<int32_t>(rng() % static_cast<uint32_t>(at(Input::qo_len)));
  at(Input::kv) = static_cast<int32_t>(rng() % static_cast<uint32_t>(at(Input::kv_len)));
  for (const Param& param : hooks.params) params_.push_back(value_of(rng, param.type, param.range));
  for (const Tensor& tensor : hooks.tensors) {
    for (const TensorAxis& axis : tensor.axes) {
      if (axis.axis == Axis::param) params_[axis.value].i = std::max(params_[axis.value].i, 1);
    }
  }
  seed_ = rng();
  at(Input::q_pos) = at(Input::q) + at(Input::kv_len) - at(Input::qo_len);
  at(Input::kv_pos) = at(Input::kv);
  const int32_t q_pos = hooks.root(Hook::q_pos) == kNone ? at(Input::q_pos) : interpret(hooks, hooks.root(Hook::q_pos), *this).i;
  const int32_t kv_pos =
      hooks.root(Hook::kv_pos) == kNone ? at(Input::kv_pos) : interpret(hooks, hooks.root(Hook::kv_pos), *this).i;
  at(Input::q_pos) = q_pos;
  at(Input::kv_pos) = kv_pos;
  if (hook == Hook::query) at(Input::pos) = std::max(q_pos, 0);
  if (hook == Hook::key || hook == Hook::value) at(Input::pos) = std::max(kv_pos, 0);
}

int32_t RandomEnvironment::extent(uint32_t tensor, size_t axis) const {
  const TensorAxis& declared = hooks_.tensors[tensor].axes[axis];
  if (declared.axis == Axis::number) return static_cast<int32_t>(declared.value);
  if (declared.axis == Axis::param) return params_[declared.value].i;
  if (declared.axis == Axis::free) return 33;
  return std::numeric_limits<int32_t>::max();
}

Value RandomEnvironment::read(uint32_t tensor, std::span<const int32_t> index) const {
  const std::string& name = hooks_.tensors[tensor].name;  // so that a tensor keeps its elements when it gets another place
  uint64_t hash = seed_;
  for (char c : name) hash = mixed(hash, static_cast<uint8_t>(c));
  for (size_t i = 0; i < index.size(); ++i)
    hash = mixed(hash, static_cast<uint32_t>(std::clamp(index[i], 0, extent(tensor, i) - 1)));
  const Elem elem = hooks_.tensors[tensor].elem;
  Rng rng(hash);
  if (elem == Elem::i8) return Value::of(static_cast<int32_t>(number_within(rng, -128, 127)));
  if (elem == Elem::u8) return Value::of(static_cast<int32_t>(number_within(rng, 0, 255)));
  return value_of(rng, read_type(elem),
                  read_type(elem) == Type::i32 ? std::optional(std::array{-2147483648.0, 2147483647.0}) : std::nullopt);
}

RenamedEnvironment::RenamedEnvironment(const Hooks& renamed, const Hooks& original, const Environment& environment)
    : environment_(environment) {
  auto place = [](const auto& list, const std::string& name) {
    const auto found = std::find_if(list.begin(), list.end(), [&](const auto& declared) { return declared.name == name; });
    return static_cast<uint32_t>(found - list.begin());
  };
  for (const Param& param : renamed.params) params_.push_back(place(original.params, param.name));
  for (const Tensor& tensor : renamed.tensors) tensors_.push_back(place(original.tensors, tensor.name));
}

bool same_value(Type type, const Value& a, const Value& b, double tolerance) {
  if (type != Type::f32) return a.i == b.i;
  if (std::isnan(a.f) || std::isnan(b.f)) return std::isnan(a.f) && std::isnan(b.f);
  return a.f == b.f || std::fabs(a.f - b.f) <= tolerance * std::max(std::fabs(a.f), std::fabs(b.f));
}

}  // namespace lathe::expr::testing
