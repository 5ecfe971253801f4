// The hooks of a spec, of attention or of a merge, as a value that is cheap to copy and to compare.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lathe/base/bytes.h"
#include "lathe/spec/expr/check.h"
#include "lathe/spec/expr/hooks.h"
#include "lathe/spec/expr/skip_class.h"
#include "lathe/spec/expr/tiles.h"

namespace lathe {

/// Params and tensors that one kernel takes (abi::AttentionHookArgs).
inline constexpr size_t kMaxHookParams = 32;
inline constexpr size_t kMaxHookTensors = 16;

/// What the language allows and a family of kernels does not serve, in hooks that check() has no error of.
using HookRules = std::vector<expr::Finding> (*)(const expr::Hooks& hooks);

std::vector<expr::Finding> attention_findings(const expr::Hooks& hooks);
/// A merge has the hooks output and sink, and knows rows, heads and channels, but neither requests nor keys.
std::vector<expr::Finding> merge_findings(const expr::Hooks& hooks);

/// Immutable; copies share what they hold. Everything that follows from the hooks alone is worked out once, when they are given.
class AttentionHooks {
 public:
  AttentionHooks() = default;
  AttentionHooks(expr::Hooks hooks);  // NOLINT(google-explicit-constructor)
  /// Hooks that parse() or hooks_from_json() returned, with what they handed over when given `rules`: problems and warnings have
  /// their columns then.
  AttentionHooks(expr::Hooks hooks, const std::vector<expr::Finding>& found, HookRules rules = attention_findings);

  /// No hook is given and the normalizer is softmax.
  bool empty() const { return data_ == nullptr; }
  const expr::Hooks& given() const;
  /// What is wrong with them by the rules that they were made with, attention's when none were given; each with its place.
  const std::vector<std::string>& problems() const;
  /// The same by `rules`; empty when who has these may use them.
  std::vector<std::string> problems(HookRules rules) const;
  /// What is allowed but doubtful, and advice that the patterns of their expressions give (expr/advice.h); each with its place.
  const std::vector<std::string>& warnings() const;
  const std::vector<std::string>& notes() const;
  /// The normal form, which kernels are printed from: slot i is its params[i] or tensors[i]. Empty hooks where they
  /// are not even sound as expressions.
  const expr::Hooks& canonical() const;
  /// What enters a kernel's key; empty without hooks, and where they change nothing.
  BytesView key_bytes() const;
  /// The text form, ended by a line end; empty without hooks, or where they are not even sound as
  /// expressions.
  const std::string& text() const;

  /// What the mask of the canonical form leaves out, and how that is best found. Only of hooks without problems.
  const expr::MaskTiles& mask_tiles() const;
  expr::SkipClass skip_class() const;
  bool mask_differs_by_head() const;

  /// Whether the canonical form has `hook`; q_pos and kv_pos never, they are part of the others.
  bool has(expr::Hook hook) const { return canonical().root(hook) != expr::kNone; }
  bool normalizes() const { return given().normalizer == expr::Normalizer::softmax; }
  /// Whether scores are judged or changed one by one: mask, logits or weight.
  bool shape_scores() const;

  bool operator==(const AttentionHooks& other) const { return data_ == other.data_ || given() == other.given(); }

 private:
  struct Data;
  AttentionHooks(expr::Hooks hooks, HookRules rules);
  static std::shared_ptr<const Data> data_of(expr::Hooks hooks, const std::vector<expr::Finding>& found, bool sound,
                                             HookRules rules);
  std::shared_ptr<const Data> data_;
};

/// Slots of `hooks`' params that its mask depends on, ascending: the skipping of tiles rests on their values.
std::vector<uint32_t> mask_params(const expr::Hooks& hooks);
/// The same of tensors.
std::vector<uint32_t> mask_tensors(const expr::Hooks& hooks);

}  // namespace lathe
