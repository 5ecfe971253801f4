#include "lathe/spec/expr/device_source.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <regex>
#include <set>

#include "device_stand_ins.h"
#include "examples.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/expr/simplify.h"
#include "lathe/testing/seed.h"
#include "lathe/testing/temp_dir.h"
#include "random_hooks.h"

namespace lathe::expr {
namespace {

using testing::RandomEnvironment;
using testing::Rng;

/// A hook to print, and to evaluate both ways.
struct Case {
  Hooks hooks;
  Hook hook;
};

const char* c_type(Type type) {
  static constexpr std::array kNames{"bool", "int", "unsigned", "float"};
  return kNames[static_cast<size_t>(type)];
}

std::string input_variable(Input input) {
  return input == Input::rot_x ? "rot_x" : info(input).text;
}

/// A function `case<index>` of all leaves, around the printed body.
std::string function_text(const Case& c, size_t index) {
  const DeviceSource source = device_source(c.hooks, c.hook);
  std::string out =
      std::string("static ") + c_type(info(c.hook).type) + " hook" + std::to_string(index) + "(const Leaves& leaves) {\n";
  for (Input input : source.inputs) {
    const bool is_float = info(input).type == Type::f32;
    out += std::string("const ") + c_type(info(input).type) + " " + input_variable(input) + " = leaves." +
           (is_float ? "input_floats[" : "input_ints[") + std::to_string(static_cast<size_t>(input)) + "];\n";
  }
  for (uint32_t param : source.params) {
    const Type type = c.hooks.params[param].type;
    out += std::string("const ") + c_type(type) + " p" + std::to_string(param) + " = static_cast<" + c_type(type) + ">(leaves." +
           (type == Type::f32 ? "param_floats[" : "param_ints[") + std::to_string(param) + "]);\n";
  }
  for (uint32_t tensor : source.tensors) {
    const std::string slot = "TensorSlot<" + std::string(c_type(read_type(c.hooks.tensors[tensor].elem))) + ">";
    out += "const " + slot + " t" + std::to_string(tensor) + "{&leaves, " + std::to_string(tensor) + "};\n";
  }
  return out + source.body() + "}\nextern \"C\" double case" + std::to_string(index) +
         "(const Leaves& leaves) { return static_cast<double>(hook" + std::to_string(index) + "(leaves)); }\n";
}

double as_double(Type type, const Value& value) {
  if (type == Type::f32) return value.f;
  return type == Type::u32 ? static_cast<double>(static_cast<uint32_t>(value.i)) : static_cast<double>(value.i);
}

/// An environment behind the pointers of Leaves.
struct Bridge {
  const Hooks& hooks;
  const RandomEnvironment& environment;

  static double read(const void* self, unsigned tensor, const int* index, int count) {
    const auto& bridge = *static_cast<const Bridge*>(self);
    const std::span<const int> at(index, static_cast<size_t>(count));
    for (size_t i = 0; i < at.size(); ++i) {
      EXPECT_TRUE(at[i] >= 0 && at[i] < bridge.environment.extent(tensor, i)) << "read outside axis " << i << " at " << at[i];
    }
    return as_double(read_type(bridge.hooks.tensors[tensor].elem), bridge.environment.read(tensor, at));
  }
  static int extent(const void* self, unsigned tensor, int axis) {
    return static_cast<const Bridge*>(self)->environment.extent(tensor, static_cast<size_t>(axis));
  }
};

template <class E = RandomEnvironment>
void expect_printed_equals_interpreted(const std::vector<Case>& cases, Rng& rng, int environments) {
  lathe::testing::TempDir folder;
  std::ofstream file(folder / "printed.cc");
  file << "#include \"" << LATHE_STAND_INS << "\"\n#define float double\n";
  for (size_t i = 0; i < cases.size(); ++i) file << function_text(cases[i], i);
  file.close();
  const std::string library = folder / "printed.so";
  // Signed overflow, which C++ leaves undefined, traps: printed source must have none.
  const std::string command =
      std::string(LATHE_CXX) +
      " -std=c++17 -O1 -ffp-contract=off -fsanitize=signed-integer-overflow -fsanitize-undefined-trap-on-error" +
      " -shared -fPIC -o " + library + " " + (folder / "printed.cc").string();
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
  void* loaded = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(loaded, nullptr) << dlerror();

  for (size_t i = 0; i < cases.size() && !::testing::Test::HasFailure(); ++i) {
    const Case& c = cases[i];
    auto* printed = reinterpret_cast<double (*)(const Leaves&)>(dlsym(loaded, ("case" + std::to_string(i)).c_str()));
    ASSERT_NE(printed, nullptr);
    const Interpreter interpreter(c.hooks, c.hooks.root(c.hook));
    SCOPED_TRACE(function_text(c, i));
    for (int n = 0; n < environments && !::testing::Test::HasFailure(); ++n) {
      const E environment(c.hooks, rng);
      std::array<double, kInputs> input_floats{};
      std::array<int, kInputs> input_ints{};
      for (size_t k = 0; k < kInputs; ++k) {
        input_floats[k] = environment.input(static_cast<Input>(k)).f;
        input_ints[k] = environment.input(static_cast<Input>(k)).i;
      }
      std::vector<double> param_floats;
      std::vector<int> param_ints;
      for (uint32_t k = 0; k < c.hooks.params.size(); ++k) {
        param_floats.push_back(environment.param(k).f);
        param_ints.push_back(environment.param(k).i);
      }
      const Bridge bridge{c.hooks, environment};
      const Leaves leaves{input_floats.data(), input_ints.data(), param_floats.data(), param_ints.data(), &bridge,
                          &Bridge::read,       &Bridge::extent};
      const double expected = as_double(info(c.hook).type, interpreter.value(environment)), found = printed(leaves);
      ASSERT_TRUE(expected == found || (std::isnan(expected) && std::isnan(found)))
          << to_text(c.hooks, c.hooks.root(c.hook), 4096) << "\n"
          << function_text(c, i) << "interpreted " << expected << ", printed " << found << "\nrepeat with "
          << lathe::testing::repeat_command();
    }
  }
  dlclose(loaded);
}

TEST(DeviceSource, EqualsTheInterpreter) {
  constexpr std::array kTried{Hook::mask, Hook::logits, Hook::kv_pos, Hook::weight, Hook::output, Hook::key};
  Rng rng(lathe::testing::seed());
  std::vector<Case> cases;
  for (int i = 0; i < 400; ++i) {
    const Hook hook = kTried[rng() % kTried.size()];
    Hooks hooks = testing::random_hooks(rng, hook, 1 + static_cast<int>(rng() % 24));
    if (i % 2 == 0 && hook != Hook::kv_pos) hooks = canonicalise(hooks);
    if (hooks.root(hook) == kNone) continue;  // it changed nothing
    cases.push_back({std::move(hooks), hook});
  }
  for (const auto& example : testing::kExamples) {
    const Hooks hooks = canonicalise(*parse(example.text));
    for (size_t i = 0; i < kHooks; ++i) {
      if (hooks.roots[i] != kNone) cases.push_back({hooks, static_cast<Hook>(i)});
    }
  }
  expect_printed_equals_interpreted(cases, rng, 200);
}

/// Elements that are mostly what nobody declares: the ends of their type, infinities, NaN.
class PoisonedEnvironment : public RandomEnvironment {
 public:
  PoisonedEnvironment(const Hooks& hooks, Rng& rng) : RandomEnvironment(hooks, rng), hooks_(hooks), turn_(rng()) {}
  Value read(uint32_t tensor, std::span<const int32_t> index) const override {
    const Value tame = RandomEnvironment::read(tensor, index);
    const uint64_t turn = turn_ + tensor;
    if (turn % 4 == 0) return tame;
    const Elem elem = hooks_.tensors[tensor].elem;
    if (read_type(elem) == Type::f32) return Value::of(std::array<double, 3>{NAN, HUGE_VAL, -HUGE_VAL}[turn % 3]);
    const std::array<uint32_t, 3> words{0x80000000u, 0x7fffffffu, 0xffffffffu};
    return elem == Elem::i32 || elem == Elem::u32 ? Value::of(static_cast<int32_t>(words[turn % 3])) : tame;
  }

 private:
  const Hooks& hooks_;
  const uint64_t turn_;
};

TEST(DeviceSource, EqualsTheInterpreterOnElementsOutsideTheirBounds) {
  constexpr const char* kTexts[] = {
      "tensor t: i32[TOK] in [0, 5], bs: f32[HQ, 6] in [-1, 1]; logits = score * bs[h, t[tok]]",
      "tensor t: u32[TOK] in [3, 9]; mask = t[tok] <= 5u || bit(t[tok], kv & 31)",
      "tensor t: u8[HQ] in [1, 2], u: i8[HQ] in [-5, -3]; logits = score * f32(t[h] * u[h])",
      "tensor t: f16[HQ] in [0.5, 2], e: e4m3[HQ] in [-0.25, 0.25], c: bf16[HQ] in [-3, -3]; logits = score / t[h] + e[h] * c[h]",
  };
  Rng rng(lathe::testing::seed());
  std::vector<Case> cases;
  for (const char* text : kTexts) {
    const Result<Hooks> parsed = parse(text);
    ASSERT_TRUE(parsed.ok()) << parsed.status().to_string();
    const Hooks& hooks = *parsed;
    const Hook hook = hooks.root(Hook::mask) != kNone ? Hook::mask : Hook::logits;
    cases.push_back({hooks, hook});
    cases.push_back({canonicalise(hooks), hook});
  }
  expect_printed_equals_interpreted<PoisonedEnvironment>(cases, rng, 500);
}

/// Every name in a printed body: types, inputs, slots, values, and functions of the table after "dev::".
TEST(DeviceSource, HoldsOnlyNamesOfTheTables) {
  std::set<std::string> functions;
  for (const DeviceFunction& function : device_functions()) functions.insert(function.name);
  std::set<std::string> allowed{"const", "return", "bool", "int", "unsigned", "float", "true", "false"};
  for (size_t i = 0; i < kInputs; ++i) allowed.insert(input_variable(static_cast<Input>(i)));
  static const std::regex kName("(dev::)?[A-Za-z_][A-Za-z_0-9]*|[^A-Za-z_0-9+*/%<>=!&|^?:;,() .\\n-]|[0-9][0-9a-fxu]*");
  static const std::regex kSlot("[ptv][0-9]+"), kNumber("[0-9][0-9a-fxu]*");

  Rng rng(lathe::testing::seed());
  std::set<std::string> used;
  for (int i = 0; i < 3000; ++i) {
    const Hook hook = i % 2 == 0 ? Hook::mask : Hook::logits;
    const Hooks hooks = testing::random_hooks(rng, hook, 20);
    const std::string body = device_source(hooks, hook).body();
    for (std::sregex_iterator word(body.begin(), body.end(), kName), end; word != end; ++word) {
      const std::string text = word->str();
      if (text.starts_with("dev::")) {
        used.insert(text.substr(5));
        ASSERT_TRUE(functions.contains(text.substr(5))) << text;
      } else {
        ASSERT_TRUE(allowed.contains(text) || std::regex_match(text, kSlot) || std::regex_match(text, kNumber)) << text << "\n"
                                                                                                                << body;
      }
    }
  }
  EXPECT_EQ(used, functions) << "every function of the table is printed somewhere, and no other";
}

/// Statements can be moved to where what they change with is known: they use nothing that changes with more.
TEST(DeviceSource, StatementsCanBeHoisted) {
  static const std::regex kName("[A-Za-z_][A-Za-z_0-9:]*");
  Rng rng(lathe::testing::seed());
  std::array<size_t, 4> count{};
  for (int i = 0; i < 2000; ++i) {
    const Hook hook = i % 2 == 0 ? Hook::mask : Hook::logits;
    const DeviceSource source = device_source(with_positions(testing::random_hooks(rng, hook, 20)), hook);
    std::map<std::string, Variation> known;
    for (Input input : source.inputs) known[input_variable(input)] = info(input).variation;
    for (const Statement& statement : source.statements) {
      ++count[static_cast<size_t>(statement.variation)];
      const size_t equals = statement.text.find('=');
      const std::string right = statement.text.substr(equals + 1);
      for (std::sregex_iterator word(right.begin(), right.end(), kName), end; word != end; ++word) {
        const auto used = known.find(word->str());  // params and tensors change with nothing
        if (used == known.end()) continue;
        ASSERT_EQ(used->second | statement.variation, statement.variation) << statement.text << " uses " << used->first;
      }
      const size_t name = statement.text.rfind(' ', equals - 2) + 1;
      known[statement.text.substr(name, equals - 1 - name)] = statement.variation;
    }
  }
  for (size_t variation = 0; variation < count.size(); ++variation) EXPECT_GT(count[variation], 500u) << variation;
}

}  // namespace
}  // namespace lathe::expr
