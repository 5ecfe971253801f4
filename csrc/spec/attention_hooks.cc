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
  return out;
}

struct AttentionHooks::Data {
  expr::Hooks given, canonical;
  std::vector<std::string> problems, warnings, notes;
  Bytes key;
  std::string text;
  std::optional<expr::MaskTiles> mask;
  expr::SkipClass skip = expr::SkipClass::off;
  bool mask_differs_by_head = false;
};

AttentionHooks::AttentionHooks(expr::Hooks hooks) {
  std::vector<expr::Finding> found = expr::check(hooks);
  const bool sound = std::none_of(found.begin(), found.end(), [](const expr::Finding& finding) { return finding.error; });
  if (sound) {
    for (expr::Finding& finding : attention_findings(hooks)) found.push_back(std::move(finding));
  }
  data_ = data_of(std::move(hooks), found, sound);
}

AttentionHooks::AttentionHooks(expr::Hooks hooks, const std::vector<expr::Finding>& found)
    : data_(data_of(std::move(hooks), found, true)) {}

/// Of hooks that are `sound` as expressions or not; nothing of none.
std::shared_ptr<const AttentionHooks::Data> AttentionHooks::data_of(expr::Hooks hooks, const std::vector<expr::Finding>& found,
                                                                    bool sound) {
  if (hooks.empty() && hooks.params.empty() && hooks.tensors.empty()) return nullptr;
  auto data = std::make_shared<Data>();
  for (const expr::Finding& finding : found) {
    std::vector<std::string>& list = finding.error ? data->problems : data->warnings;
    std::string text = placed_text(finding);
    // What two hooks share is found in both, at one place.
    if (std::find(list.begin(), list.end(), text) == list.end()) list.push_back(std::move(text));
  }
  if (sound) data->text = expr::to_text(hooks);
  if (data->problems.empty()) {
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
