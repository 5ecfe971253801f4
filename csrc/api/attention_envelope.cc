// What an envelope allows, and what disagrees with it.
#include <algorithm>
#include <string>

#include "attention_parts.h"
#include "hook_values.h"

namespace lathe {
namespace {

std::string text(int64_t n) {
  return std::to_string(n);
}

}  // namespace

PlanBounds plan_bounds(const AttentionBounds& bounds) {
  return {bounds.max_batch, bounds.max_qo_tokens, bounds.max_kv_len, bounds.share_prefixes};
}

Status check_bounds(const AttentionSpec& spec, const AttentionBounds& bounds, const AttentionBatch& batch,
                    const BatchLengths& lengths) {
  Problems problems;
  const auto at_most = [&](const char* name, const char* what, int64_t needed, int64_t allowed) {
    if (needed > allowed) problems.add(name, "the batch has " + text(needed) + what + "; the envelope allows " + text(allowed));
  };
  at_most("max_batch", " requests", static_cast<int64_t>(lengths.kv_lens.size()), bounds.max_batch);
  at_most("max_qo_tokens", " query tokens", batch.qo_indptr.back(), bounds.max_qo_tokens);
  const bool ragged = spec.layout.kind == LayoutKind::ragged;
  at_most("max_kv_entries", ragged ? " rows of k" : " entries of kv_indices", lengths.kv_entries, bounds.max_kv_entries);
  if (spec.split_kv.mode == SplitMode::fixed && !lengths.kv_lens.empty()) {
    at_most("max_kv_len", " kv tokens in one request", *std::ranges::max_element(lengths.kv_lens), bounds.max_kv_len);
  }
  if (!spec.hooks.empty() && !lengths.kv_lens.empty()) {
    // Tensors of a launch were checked against these.
    int64_t longest = 0;
    for (size_t i = 0; i < lengths.kv_lens.size(); ++i)
      longest = std::max<int64_t>(longest, batch.qo_indptr[i + 1] - batch.qo_indptr[i]);
    if (bounds.max_qo_len > 0) at_most("max_qo_len", " query tokens in one request", longest, bounds.max_qo_len);
    const int64_t most = *std::ranges::max_element(lengths.kv_lens);
    if (bounds.max_kv_len > 0) at_most("max_kv_len", " kv tokens in one request", most, bounds.max_kv_len);
  }
  if (!batch.prefixes.empty() && !bounds.share_prefixes) {
    problems.add("share_prefixes", "the batch has prefixes; the envelope was made without room for them");
  }
  const auto same_param = [&](const HookParam& p) { return std::ranges::find(bounds.hook_params, p) != bounds.hook_params.end(); };
  if (!std::ranges::all_of(batch.hook_params, same_param)) {
    problems.add("hook_params", "of the batch are not those that the envelope was made for");
  }
  if (batch.window != bounds.window) {
    problems.add("window", "is " + text(batch.window) + "; the envelope was made for " + text(bounds.window));
  }
  return problems.status();
}

Status check_same(const AttentionEnvelope& plan, const AttentionEnvelope& envelope) {
  if (plan.bounds == envelope.bounds && plan.layout == envelope.layout) return {};
  Problems problems;
  const auto same = [&](const char* name, auto of_plan, auto wanted) {
    if (of_plan == wanted) return;
    problems.add("plan", "was made in another envelope: its " + std::string(name) + " is " + std::to_string(of_plan) +
                             ", this one's is " + std::to_string(wanted));
  };
  const AttentionBounds &a = plan.bounds, &b = envelope.bounds;
  same("num_kv_heads", a.num_kv_heads, b.num_kv_heads);
  same("max_batch", a.max_batch, b.max_batch);
  same("max_qo_tokens", a.max_qo_tokens, b.max_qo_tokens);
  same("max_kv_entries", a.max_kv_entries, b.max_kv_entries);
  same("max_kv_len", a.max_kv_len, b.max_kv_len);
  same("window", a.window, b.window);
  if (a.hook_params != b.hook_params) problems.add("plan", "was made in another envelope: its hook_params differ");
  same("max_qo_len", a.max_qo_len, b.max_qo_len);
  same("share_prefixes", a.share_prefixes ? 1 : 0, b.share_prefixes ? 1 : 0);
  same("layout.plan", plan.layout.plan, envelope.layout.plan);
  same("layout.counters", plan.layout.counters, envelope.layout.counters);
  same("layout.partial_o", plan.layout.partial_o, envelope.layout.partial_o);
  same("layout.partial_lse", plan.layout.partial_lse, envelope.layout.partial_lse);
  return problems.status();
}

Result<AttentionEnvelope> Attention::envelope(const AttentionBounds& bounds) const {
  Problems problems;
  if (bounds.num_kv_heads < 1) problems.add("num_kv_heads", "is " + text(bounds.num_kv_heads) + ", must be >= 1");
  if (bounds.max_kv_entries < 0 || bounds.max_kv_entries > INT32_MAX) {
    problems.add("max_kv_entries", "is " + text(bounds.max_kv_entries) + ", must be in 0..2147483647");
  }
  if (skips_tiles(spec())) read_hook_params(spec().hooks, "hook_params", bounds.hook_params, true, problems);
  if (spec().split_kv.mode == SplitMode::fixed && bounds.max_kv_len < 1) {
    problems.add("max_kv_len", "is " + text(bounds.max_kv_len) + ", must be >= 1 because split_kv is fixed(" +
                                   text(spec().split_kv.tokens) + ")");
  }
  if (spec().windowed() != (bounds.window != 0) || bounds.window < 0) {
    problems.add("window", "is " + text(bounds.window) + (spec().windowed() ? ", must be >= 1" : ", but the mask has no window"));
  }
  if (!problems.empty()) return problems.status();
  Result<WorkspaceLayout> layout = workspace_bound(bounds.num_kv_heads, plan_bounds(bounds));
  LATHE_TRY(layout);
  return AttentionEnvelope{bounds, *layout, identity_};
}

}  // namespace lathe
