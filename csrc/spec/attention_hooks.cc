#include "lathe/spec/attention_hooks.h"

#include <algorithm>
#include <optional>

#include "lathe/spec/expr/advice.h"
#include "lathe/spec/expr/check.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/expr/simplify.h"

namespace lathe {
namespace {

using expr::Hook;
using expr::Id;
using expr::Op;

const expr::Hooks& no_hooks() {
  static const expr::Hooks kNone;
  return kNone;
}

std::string placed_text(const expr::Finding& finding) {
  return (finding.where.empty() ? "" : finding.where + ": ") + finding.text();
}

/// Whether `id` is `w` times what does not depend on w, so that it means the same whatever w is relative to.
bool is_proportional(const expr::Graph& graph, Id id) {
  const auto depends = [&](Id of) {
    const std::vector<bool> used = expr::reachable(graph, {&of, 1});
    for (Id at = 0; at < graph.size(); ++at) {
      if (used[at] && graph[at].op == Op::input && graph[at].value == static_cast<uint32_t>(expr::Input::w)) return true;
    }
    return false;
  };
  const expr::Node& node = graph[id];
  const auto& args = node.args;
  switch (node.op) {
    case Op::constant:
      return expr::as_f32(node) == 0;
    case Op::input:
      return node.value == static_cast<uint32_t>(expr::Input::w);
    case Op::neg:
      return is_proportional(graph, args[0]);
    case Op::mul:
      return (is_proportional(graph, args[0]) && !depends(args[1])) || (is_proportional(graph, args[1]) && !depends(args[0]));
    case Op::div:
      return is_proportional(graph, args[0]) && !depends(args[1]);
    case Op::add:
    case Op::sub:
      return is_proportional(graph, args[0]) && is_proportional(graph, args[1]);
    case Op::select:
      return !depends(args[0]) && is_proportional(graph, args[1]) && is_proportional(graph, args[2]);
    default:
      return false;
  }
}

std::vector<uint32_t> used_by_mask(const expr::Hooks& hooks, Op op) {
  const Id mask = hooks.root(Hook::mask);
  std::vector<uint32_t> out;
  if (mask == expr::kNone) return out;
  const std::vector<bool> used = expr::reachable(hooks.graph, {&mask, 1});
  for (Id id = 0; id < hooks.graph.size(); ++id) {
    if (used[id] && hooks.graph[id].op == op) out.push_back(hooks.graph[id].value);
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

/// More params and tensors than a kernel takes.
void check_counts(const expr::Hooks& hooks, std::vector<expr::Finding>& out) {
  const auto count = [&](const char* what, size_t given, size_t allowed, std::optional<size_t> expr::Finding::*declared) {
    if (given <= allowed) return;
    expr::Finding& finding = out.emplace_back();
    finding.message = std::to_string(given) + " " + what + "; allowed: at most " + std::to_string(allowed);
    finding.hint = "put several numbers into one tensor";
    finding.where = "declarations";
    finding.*declared = allowed;
  };
  count("params", hooks.params.size(), kMaxHookParams, &expr::Finding::param);
  count("tensors", hooks.tensors.size(), kMaxHookTensors, &expr::Finding::tensor);
}

/// What to do instead of giving `hook` to a merge.
const char* instead_in_merge(Hook hook) {
  switch (hook) {
    case Hook::lse_transform:
      return "the launch of a level applies its own before it writes its lse";
    case Hook::epilogue:
      return "output changes the result";
    default:
      return "give it to the launches whose states are merged";
  }
}

/// Whether a merge knows what `axis` runs over.
bool is_known_to_merge(expr::Axis axis) {
  switch (axis) {
    case expr::Axis::qo_heads:
    case expr::Axis::tokens:
    case expr::Axis::head_dim:
    case expr::Axis::free:
    case expr::Axis::number:
    case expr::Axis::param:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::vector<expr::Finding> attention_findings(const expr::Hooks& hooks) {
  std::vector<expr::Finding> out;
  const auto refuse = [&](Hook hook, Id node, const std::string& why, const char* hint = "") {
    out.push_back({true, hook, node, why, hint, ""});  // the message names the hook
  };
  if (hooks.root(Hook::epilogue) != expr::kNone)
    refuse(Hook::epilogue, expr::kNone, "epilogue is a hook of matrix products; allowed: the other hooks",
           "output changes the result");
  const Id weight = hooks.root(Hook::weight);
  if (weight != expr::kNone && !is_proportional(hooks.graph, weight))
    refuse(Hook::weight, weight, "weight must be w times what does not depend on w: weights are kept relative to a running maximum",
           "write w * (...), or change the logits");
  check_counts(hooks, out);
  return out;
}

std::vector<expr::Finding> merge_findings(const expr::Hooks& hooks) {
  std::vector<expr::Finding> out;
  for (size_t i = 0; i < expr::kHooks; ++i) {
    const auto hook = static_cast<Hook>(i);
    if (hooks.root(hook) == expr::kNone || hook == Hook::output || hook == Hook::sink) continue;
    out.push_back({true, hook, expr::kNone, std::string(expr::info(hook).text) + " is no hook of a merge; allowed: output, sink",
                   instead_in_merge(hook), ""});  // the message names the hook
  }
  for (size_t i = 0; i < hooks.tensors.size(); ++i) {
    for (const expr::TensorAxis& axis : hooks.tensors[i].axes) {
      if (is_known_to_merge(axis.axis)) continue;
      expr::Finding& finding = out.emplace_back();
      finding.message = "tensor " + hooks.tensors[i].name + " has the axis " + expr::name_of(axis.axis) +
                        ", which a merge does not know; allowed: HQ, TOK, D, N, numbers, params";
      finding.hint = "a merge sees rows of q, heads and channels, neither requests nor keys";
      finding.where = "declarations";
      finding.tensor = i;
    }
  }
  if (hooks.normalizer == expr::Normalizer::none)
    out.push_back({true, std::nullopt, expr::kNone, "normalizer none has no log-sum-exp to merge by; allowed: softmax",
                   "add such states up", "declarations"});
  check_counts(hooks, out);
  return out;
}

struct AttentionHooks::Data {
  expr::Hooks given, canonical;
  std::vector<std::string> problems, warnings, notes;
  HookRules rules = nullptr;  // of `problems`
  Bytes key;
  std::string text;
  std::optional<expr::MaskTiles> mask;
  expr::SkipClass skip = expr::SkipClass::off;
  bool mask_differs_by_head = false;
};

AttentionHooks::AttentionHooks(expr::Hooks hooks) : AttentionHooks(std::move(hooks), attention_findings) {}

AttentionHooks::AttentionHooks(expr::Hooks hooks, HookRules rules) {
  std::vector<expr::Finding> found = expr::check(hooks);
  const bool sound = std::none_of(found.begin(), found.end(), [](const expr::Finding& finding) { return finding.error; });
  if (sound) {
    for (expr::Finding& finding : rules(hooks)) found.push_back(std::move(finding));
  }
  data_ = data_of(std::move(hooks), found, sound, rules);
}

AttentionHooks::AttentionHooks(expr::Hooks hooks, const std::vector<expr::Finding>& found, HookRules rules)
    : data_(data_of(std::move(hooks), found, true, rules)) {}

/// Of hooks that are `sound` as expressions or not; nothing of none.
std::shared_ptr<const AttentionHooks::Data> AttentionHooks::data_of(expr::Hooks hooks, const std::vector<expr::Finding>& found,
                                                                    bool sound, HookRules rules) {
  if (hooks.empty() && hooks.params.empty() && hooks.tensors.empty()) return nullptr;
  auto data = std::make_shared<Data>();
  data->rules = rules;
  for (const expr::Finding& finding : found) {
    std::vector<std::string>& list = finding.error ? data->problems : data->warnings;
    std::string text = placed_text(finding);
    // What two hooks share is found in both, at one place.
    if (std::find(list.begin(), list.end(), text) == list.end()) list.push_back(std::move(text));
  }
  if (sound) {
    data->text = expr::to_text(hooks);
    data->canonical = expr::canonicalise(hooks);
    if (!data->canonical.empty()) data->key = expr::canonical_bytes(hooks);
    data->mask.emplace(data->canonical);
    data->skip = expr::skip_class(data->canonical);
    data->mask_differs_by_head = expr::mask_differs_by_head(data->canonical);
    for (const expr::Finding& finding : expr::advice(hooks)) data->notes.push_back(placed_text(finding));
  }
  data->given = std::move(hooks);
  return data;
}

const expr::Hooks& AttentionHooks::given() const {
  return data_ == nullptr ? no_hooks() : data_->given;
}
const expr::Hooks& AttentionHooks::canonical() const {
  return data_ == nullptr ? no_hooks() : data_->canonical;
}
const std::vector<std::string>& AttentionHooks::problems() const {
  static const std::vector<std::string> kNone;
  return data_ == nullptr ? kNone : data_->problems;
}
std::vector<std::string> AttentionHooks::problems(HookRules rules) const {
  if (data_ == nullptr) return {};
  return data_->rules == rules ? data_->problems : AttentionHooks(data_->given, rules).problems();
}
const std::vector<std::string>& AttentionHooks::warnings() const {
  static const std::vector<std::string> kNone;
  return data_ == nullptr ? kNone : data_->warnings;
}
const std::vector<std::string>& AttentionHooks::notes() const {
  static const std::vector<std::string> kNone;
  return data_ == nullptr ? kNone : data_->notes;
}
BytesView AttentionHooks::key_bytes() const {
  return data_ == nullptr ? BytesView() : BytesView(data_->key);
}
const std::string& AttentionHooks::text() const {
  static const std::string kNone;
  return data_ == nullptr ? kNone : data_->text;
}

const expr::MaskTiles& AttentionHooks::mask_tiles() const {
  return *data_->mask;
}
expr::SkipClass AttentionHooks::skip_class() const {
  return data_->skip;
}
bool AttentionHooks::mask_differs_by_head() const {
  return data_ != nullptr && data_->mask_differs_by_head;
}

bool AttentionHooks::shape_scores() const {
  return has(Hook::mask) || has(Hook::logits) || has(Hook::weight);
}

std::vector<uint32_t> mask_params(const expr::Hooks& hooks) {
  return used_by_mask(hooks, Op::param);
}
std::vector<uint32_t> mask_tensors(const expr::Hooks& hooks) {
  return used_by_mask(hooks, Op::read);
}

}  // namespace lathe
