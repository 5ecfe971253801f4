#include "expression_cases.h"

#include <array>
#include <cfloat>
#include <cmath>
#include <vector>

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
  const Type type = info(hook).type;
  for (int i = 0; i < environments; ++i) {
    const RandomEnvironment environment(original, rng, hook);
    const RenamedEnvironment renamed(rewritten, original, environment);
    const Value x = interpret(original, a, environment), y = interpret(rewritten, b, renamed);
    if (same_value(type, x, y)) continue;
    return to_text(original, a, kShown) + "\nbecame\n" + to_text(rewritten, b, kShown) + "\nvalues " + text_of(type, x) + " and " +
           text_of(type, y);
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
  const Hooks hooks = random_hooks(rng, hook, between(rng, 1, 16));
  const std::vector<Range> known = ranges(hooks);
  for (int n = 0; n < 6; ++n) {
    const RandomEnvironment environment(hooks, rng);
    std::vector<bool> finite(hooks.graph.size());  // and so is all that it is made of
    for (Id id = 0; id < hooks.graph.size(); ++id) {
      const Node& node = hooks.graph[id];
      const double number = number_of(node.type, interpret(hooks, id, environment));
      finite[id] = std::fabs(number) <= FLT_MAX;
      for (Id arg : node.operands()) finite[id] = finite[id] && finite[arg];
      if (!finite[id]) continue;  // only infinities that are written down are followed
      const double slack = node.type == Type::f32 ? 1e-6 * std::fabs(number) : 0;
      if (!(known[id].lo <= number + slack && number - slack <= known[id].hi)) {
        return to_text(hooks, id, kShown) + " is " + std::to_string(number) + ", outside [" + std::to_string(known[id].lo) + ", " +
               std::to_string(known[id].hi) + "]";
      }
      counts.narrow += known[id].hi - known[id].lo < 1e6 ? 1 : 0;
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
