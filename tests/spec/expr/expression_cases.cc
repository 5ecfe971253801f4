#include "expression_cases.h"

#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>
#include <vector>

#include "lathe/spec/expr/build.h"
#include "lathe/spec/expr/check.h"
#include "lathe/spec/expr/json.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/expr/range.h"
#include "lathe/spec/expr/simplify.h"
#include "random_text.h"

namespace lathe::expr::testing {
namespace {

constexpr size_t kShown = 4096;  // bytes of an expression in messages

int between(Rng& rng, int least, int most) {
  return least + static_cast<int>(rng() % static_cast<uint64_t>(most - least + 1));
}

std::string text_of(Type type, const Value& value) {
  return type == Type::f32 ? std::to_string(value.f) : std::to_string(value.i);
}

/// Evaluates `original` and what became of it in the same random environments.
std::string compare_values(const Hooks& original, const Hooks& rewritten, Hook hook, Rng& rng, int environments) {
  const Id a = original.root(hook), b = rewritten.root(hook);
  const auto passed = [&](const Environment& environment) {  // without the hook
    return hook == Hook::mask ? Value::of(1) : environment.input(hook == Hook::logits ? Input::score : info(hook).needed[0]);
  };
  const Type type = info(hook).type;
  for (int i = 0; i < environments; ++i) {
    const RandomEnvironment environment(original, rng, hook);
    const RenamedEnvironment renamed(rewritten, original, environment);
    const Value x = interpret(original, a, environment), y = b == kNone ? passed(renamed) : interpret(rewritten, b, renamed);
    if (same_value(type, x, y)) continue;
    return to_text(original, a, kShown) + "\nbecame\n" + (b == kNone ? "nothing" : to_text(rewritten, b, kShown)) + "\nvalues " +
           text_of(type, x) + " and " + text_of(type, y);
  }
  return {};
}

/// A refusal tells the place of each problem, in a message of reasonable size.
std::string check_refusal(const std::string& text, const Status& status) {
  const std::string message = status.to_string();
  if (message.size() > 16'000) return text + "\nis refused with " + std::to_string(message.size()) + " bytes";
  for (unsigned char c : message) {
    if (c < 0x20 && c != '\n') return text + "\nis refused with a control character: " + message;
  }
  if (message.find("column ") == std::string::npos) return text + "\nis refused without a column: " + message;
  return {};
}

/// `hooks` from their text, and from their JSON.
std::string check_read_back(const Hooks& hooks) {
  const std::string text = to_text(hooks), json = to_json(hooks);
  const Result<Hooks> again = parse(text), from_json = hooks_from_json(json);
  if (!again.ok()) return text + "\ncannot be read back: " + again.status().to_string();
  if (!(*again == hooks)) return text + "\nis read back as\n" + to_text(*again);
  if (!from_json.ok()) return json + "\ncannot be read back: " + from_json.status().to_string();
  if (!(*from_json == hooks)) return json + "\nis read back as\n" + to_json(*from_json);
  return {};
}

double number_of(Type type, const Value& value) {
  if (type == Type::f32) return value.f;
  return type == Type::u32 ? static_cast<double>(static_cast<uint32_t>(value.i)) : static_cast<double>(value.i);
}

/// Floats of any kind in place of those of `tame`: NaN, infinite, large, small, close to where functions end.
class WildFloats : public Environment {
 public:
  WildFloats(const Hooks& hooks, const Environment& tame, uint64_t seed) : hooks_(hooks), tame_(tame), seed_(seed) {}

  Value input(Input input) const override {
    const Value value = tame_.input(input);
    return info(input).type == Type::f32 ? wild(value, static_cast<uint64_t>(input), true) : value;
  }
  Value param(uint32_t index) const override {  // is finite, and lies in its range
    const Value value = tame_.param(index);
    const bool may_be_wild = hooks_.params[index].type == Type::f32 && !hooks_.params[index].range;
    return may_be_wild ? wild(value, 100 + index, false) : value;
  }
  Value read(uint32_t tensor, std::span<const int32_t> index) const override {
    const Value value = tame_.read(tensor, index);
    return read_type(hooks_.tensors[tensor].elem) == Type::f32 ? wild(value, 200 + tensor, true) : value;
  }

 private:
  Value wild(const Value& value, uint64_t place, bool may_be_odd) const {
    constexpr std::array<float, 12> kNumbers{0.0f,  -0.0f,  1.0f,   0.99999994f, 1.0000001f, 20.0f,
                                             89.0f, 1e-30f, 1e-45f, -1e30f,      FLT_MAX,    -FLT_MAX};
    constexpr std::array<float, 3> kOdd{HUGE_VALF, -HUGE_VALF, NAN};
    Rng rng(seed_ + place);
    switch (rng() % 4) {
      case 0:
        return Value::of(static_cast<double>(kNumbers[rng() % kNumbers.size()]));
      case 1:
        return may_be_odd && rng() % 4 == 0 ? Value::of(static_cast<double>(kOdd[rng() % kOdd.size()])) : value;
      default:
        return value;
    }
  }

  const Hooks& hooks_;
  const Environment& tame_;
  const uint64_t seed_;
};

/// What CUDA documents for a function that is not rounded correctly, in ulp; 0 for the others.
int documented_error(Op op) {
  switch (op) {
    case Op::acos:
      return 3;
    case Op::exp:
    case Op::exp2:
    case Op::log:
    case Op::log2:
    case Op::rsqrt:
    case Op::tanh:
    case Op::erf:
    case Op::sin:
    case Op::cos:
      return 2;
    default:
      return 0;
  }
}

/// One operator in f32, a function off by as much as it may be: never beyond what it ends at, never across 0, exact at 0 and 1.
Value device_value(Op op, Type operand_type, std::span<const Value> args, Rng& rng) {
  const Value value = apply_rounded(op, operand_type, args);
  const int error = documented_error(op);
  if (error == 0 || value.f == 0 || !std::isfinite(value.f)) return value;
  auto off = static_cast<float>(value.f);
  const float towards = rng() % 2 == 0 ? HUGE_VALF : -HUGE_VALF;
  for (int i = between(rng, 0, error); i > 0 && off != 0; --i) off = std::nextafter(off, towards);
  const bool ends = op == Op::tanh || op == Op::erf || op == Op::sin || op == Op::cos;
  return Value::of(static_cast<double>(ends ? std::clamp(off, -1.0f, 1.0f) : off));
}

/// Every node's value as a kernel computes it.
std::vector<Value> device_values(const Hooks& hooks, const Environment& environment, Rng& rng) {
  std::vector<Value> values(hooks.graph.size());
  for (Id id = 0; id < hooks.graph.size(); ++id) {
    const Node& node = hooks.graph[id];
    std::array<Value, kMaxAxes> args;
    std::array<int32_t, kMaxAxes> index{};
    for (size_t i = 0; i < node.arity; ++i) {
      args[i] = values[node.args[i]];
      index[i] = args[i].i;
    }
    switch (node.op) {
      case Op::constant:
        values[id] = node.type == Type::f32 ? Value::of(static_cast<double>(as_f32(node))) : Value::of(as_i32(node));
        break;
      case Op::input:
        values[id] = environment.input(static_cast<Input>(node.value));
        break;
      case Op::param:
        values[id] = environment.param(node.value);
        break;
      case Op::read:
        values[id] = environment.read(node.value, {index.data(), node.arity});
        break;
      default:
        values[id] = device_value(node.op, hooks.graph[node.args[0]].type, {args.data(), node.arity}, rng);
    }
  }
  return values;
}

/// Adds what ranges of floats are asked for: bounded functions, clamped and scaled, as whole numbers.
void add_float_shapes(Rng& rng, Hooks& hooks) {
  std::vector<Id> floats;
  for (Id id = 0; id < hooks.graph.size(); ++id) {
    if (hooks.graph[id].type == Type::f32) floats.push_back(id);
  }
  if (floats.empty()) return;
  Builder builder(hooks);
  constexpr std::array<const char*, 14> kFunctions{"sigmoid", "tanh", "exp", "exp2",  "log", "log2", "sqrt",
                                                   "rsqrt",   "acos", "erf", "floor", "sin", "cos",  "abs"};
  constexpr std::array<float, 8> kNumbers{1, -1, 0.5f, 9, 20, 32, 1e-30f, 1e38f};
  for (int i = 0; i < 12; ++i) {
    const Id of = floats[rng() % floats.size()];
    const Id number = builder.constant(f32_node(kNumbers[rng() % kNumbers.size()]));
    Built next = of;
    switch (rng() % 4) {
      case 0:
        next = builder.call(rng() % 2 == 0 ? "min" : "max", std::array{of, number});
        break;
      case 1:
        next =
            builder.infix(std::array{"*", "+", "-", "/"}[rng() % 4], of, rng() % 2 == 0 ? number : floats[rng() % floats.size()]);
        break;
      default:
        next = builder.call(kFunctions[rng() % kFunctions.size()], std::array{of});
    }
    floats.push_back(next.id);
    (void)builder.call("i32", std::array{next.id});
  }
}

}  // namespace

std::string check_rewriting(Rng& rng, CaseCounts& counts) {
  constexpr std::array kTried{Hook::mask, Hook::logits, Hook::q_pos, Hook::weight, Hook::output, Hook::query};
  const Hook hook = kTried[rng() % kTried.size()];
  const Hooks original = random_hooks(rng, hook, between(rng, 1, 24));
  const Hooks simple = simplify(original);
  // A map is replaced in every other hook; it is looked at as it stands here.
  if (hook == Hook::q_pos) return {};
  counts.smaller += simple.graph.size() < original.graph.size() ? 1 : 0;
  std::string wrong = compare_values(original, simple, hook, rng, 8);
  if (wrong.empty()) wrong = compare_values(original, canonicalise(original), hook, rng, 2);
  return wrong;
}

std::string check_forms(Rng& rng, CaseCounts& counts) {
  const auto hook = static_cast<Hook>(rng() % kHooks);
  const Hooks original = random_hooks(rng, hook, between(rng, 1, 40));
  const std::vector<Finding> found = check(original);
  if (found.empty() || !found[0].error) {
    ++counts.read;
    return check_read_back(original);
  }
  ++counts.refused;
  const std::string text = to_text(original);
  const Result<Hooks> again = parse(text);
  if (again.ok()) return text + "\nis accepted as text, but has a problem: " + found[0].text();
  return check_refusal(text, again.status());
}

std::string check_ranges(Rng& rng, CaseCounts& counts) {
  const Hook hook = std::array{Hook::mask, Hook::logits, Hook::q_pos}[rng() % 3];
  Hooks hooks = random_hooks(rng, hook, between(rng, 1, 16));
  add_float_shapes(rng, hooks);
  const std::vector<Range> any = ranges(hooks), finite = ranges(hooks, {}, Floats::finite);
  for (int n = 0; n < 6; ++n) {
    const RandomEnvironment tame(hooks, rng);
    const WildFloats environment(hooks, tame, rng());
    const std::vector<Value> values = device_values(hooks, environment, rng);
    std::vector<bool> is_finite(hooks.graph.size());  // and so is all that it is made of
    for (Id id = 0; id < hooks.graph.size(); ++id) {
      const Node& node = hooks.graph[id];
      const double number = number_of(node.type, values[id]);
      is_finite[id] = std::fabs(number) <= FLT_MAX;
      for (Id arg : node.operands()) is_finite[id] = is_finite[id] && is_finite[arg];
      const auto holds = [&](const Range& range) {
        return std::isnan(number) ? range.nan : range.lo <= number && number <= range.hi;
      };
      if (!holds(any[id]) || (is_finite[id] && !holds(finite[id]))) {
        const Range& range = holds(any[id]) ? finite[id] : any[id];
        return to_text(hooks, id, kShown) + " is " + number_text(number) + ", outside [" + number_text(range.lo) + ", " +
               number_text(range.hi) + "]" + (holds(any[id]) ? " of finite floats" : "");
      }
      counts.narrow += any[id].hi - any[id].lo < 1e6 ? 1 : 0;
      counts.odd += node.type == Type::f32 && !is_finite[id] ? 1 : 0;
    }
  }
  return {};
}

std::string check_mutated_text(Rng& rng, CaseCounts& counts) {
  const std::string text = mutated_text(rng);
  const Result<Hooks> hooks = parse(text);
  if (!hooks.ok()) {
    ++counts.refused;
    return check_refusal(text, hooks.status());
  }
  ++counts.read;
  canonical_bytes(*hooks);
  return check_read_back(*hooks);
}

}  // namespace lathe::expr::testing
