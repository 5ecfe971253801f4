#include "lathe/spec/attention_hooks.h"

#include <algorithm>
#include <optional>

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

std::string named(const char* kind, const std::string& text) {
  return std::string(kind) + " " + text;
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

/// What the language allows and attention does not serve.
void add_unserved(const expr::Hooks& hooks, std::vector<std::string>& problems) {
  const auto refuse = [&](Hook hook, const char* why) {
    if (hooks.root(hook) != expr::kNone) problems.push_back(named(expr::info(hook).text, why));
  };
  refuse(Hook::epilogue, "is a hook of matrix products; allowed: the other hooks");
  const Id weight = hooks.root(Hook::weight);
  if (weight != expr::kNone && !is_proportional(hooks.graph, weight))
    problems.push_back("weight must be w times what does not depend on w: weights are kept relative to a running maximum");
  if (hooks.params.size() > kMaxHookParams)
    problems.push_back(std::to_string(hooks.params.size()) + " params; allowed: at most " + std::to_string(kMaxHookParams));
  if (hooks.tensors.size() > kMaxHookTensors)
    problems.push_back(std::to_string(hooks.tensors.size()) + " tensors; allowed: at most " + std::to_string(kMaxHookTensors));
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

struct AttentionHooks::Data {
  expr::Hooks given, canonical;
  std::vector<std::string> problems;
  Bytes key;
  std::string text;
  std::optional<expr::MaskTiles> mask;
  expr::SkipClass skip = expr::SkipClass::off;
};

AttentionHooks::AttentionHooks(expr::Hooks hooks) {
  if (hooks.empty() && hooks.params.empty() && hooks.tensors.empty()) return;
  auto data = std::make_shared<Data>();
  for (const expr::Finding& finding : expr::check(hooks)) {
    if (finding.error) data->problems.push_back((finding.where.empty() ? "" : finding.where + ": ") + finding.text());
  }
  if (data->problems.empty()) data->text = expr::to_text(hooks);
  if (data->problems.empty()) add_unserved(hooks, data->problems);
  if (data->problems.empty()) {
    data->canonical = expr::canonicalise(hooks);
    data->key = expr::canonical_bytes(hooks);
    data->mask.emplace(data->canonical);
    data->skip = expr::skip_class(data->canonical);
  }
  data->given = std::move(hooks);
  data_ = std::move(data);
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
