#include "lathe/spec/validate.h"

#include <algorithm>
#include <initializer_list>

#include "lathe/spec/fields.h"
#include "lathe/spec/text.h"

namespace lathe {
namespace {

using namespace fields;

/// The rules of single fields. What could not be read has its problem already.
class Checker {
 public:
  Checker(const Unread& unread, Problems& problems) : unread_(unread), problems_(problems) {}

  template <class T, class Rule>
  void operator()(const Field& field, const T& value, const Rule& rule) {
    if (!unread_.contains(field.path)) check(field, value, rule);
  }

 private:
  template <class E>
  void check(const Field& field, const E& value, const OneOf<E>& rule) {
    if (!rule.allows(value)) refuse(field, value, rule);
  }
  void check(const Field& field, int32_t value, const IntRange& rule) {
    if (!rule.allows(value)) refuse(field, value, rule);
  }
  void check(const Field&, bool, const Flag&) {}
  void check(const Field& field, const std::string& value, const Label& rule) {
    if (value.size() > rule.max_bytes) {
      problems_.add(field.path, refusal(std::to_string(value.size()) + " bytes", allowed(rule)));
    } else if (!is_printable(value)) {
      problems_.add(field.path, refusal(in_quotes(value), allowed(rule)));
    }
  }
  void check(const Field& field, const std::string& value, const ArchName& rule) {
    if (!is_arch_name(value)) problems_.add(field.path, refusal(in_quotes(value), allowed(rule)));
  }
  void check(const Field& field, const SplitSpec& value, const SplitRule& rule) {
    bool known = enum_name(value.mode) != nullptr;
    bool fits = value.mode == SplitMode::fixed ? rule.tokens.allows(value.tokens) : value.tokens == 0;
    if (!known || !fits) refuse(field, value, rule);
  }
  void check(const Field& field, const TileSpec& value, const TileRule& rule) {
    bool fits = value.automatic ? value == TileSpec{} : !value.classes.empty() && std::ssize(value.classes) <= rule.max_classes;
    if (!fits) refuse(field, value, rule);
  }
  void check(const Field& field, const AttentionHooks& value, const HooksRule& rule) {
    for (const std::string& problem : value.problems(rule.findings)) problems_.add(field.path, problem);
  }
  template <class T, class Rule>
  void refuse(const Field& field, const T& value, const Rule& rule) {
    problems_.add(field.path, refusal(text_of(value), allowed(rule)));
  }

  const Unread& unread_;
  Problems& problems_;
};

/// Whether all of `paths` were read: a rule about several fields says nothing while one of them is unknown.
bool all_read(const Unread& unread, std::initializer_list<const char*> paths) {
  return std::ranges::none_of(paths, [&](const char* path) { return unread.contains(path); });
}

/// Elements of K or V: as q's, or codes, which alone have scales and zero-points.
template <class Spec>
void check_kv_format(const Spec& spec, bool keys, const Unread& unread, Problems& problems) {
  const char* path = keys ? "kfmt" : "vfmt";
  const DType format = keys ? spec.kfmt : spec.vfmt;
  if (!all_read(unread, {"q_dtype", path}) || enum_name(format) == nullptr) return;
  if (!is_code(format) && format != spec.q_dtype)
    problems.add(path, text_of(format) + " differs from q_dtype " + text_of(spec.q_dtype) + "; allowed: " + text_of(spec.q_dtype) +
                           ", e4m3, e5m2, i8");
  const char* scale_path = keys ? "kscale" : "vscale";
  const KvScale scale = keys ? spec.kscale : spec.vscale;
  if (scale != KvScale::none && !is_code(format) && all_read(unread, {scale_path}))
    problems.add(scale_path, text_of(scale) + " is given, but " + path + " " + text_of(format) +
                                 " has no scales; allowed: none, or another with " + path + " e4m3, e5m2, i8");
  const char* zero_path = keys ? "kzero" : "vzero";
  const KvZero zero = keys ? spec.kzero : spec.vzero;
  if (zero != KvZero::none && format != DType::i8 && all_read(unread, {zero_path}))
    problems.add(zero_path, text_of(zero) + " is given, but " + path + " is " + text_of(format) +
                                "; allowed: none, or another with " + path + " i8");
}

template <class Spec>
void check_kv_formats(const Spec& spec, const Unread& unread, Problems& problems) {
  check_kv_format(spec, true, unread, problems);
  check_kv_format(spec, false, unread, problems);
  if (spec.layout.storage == KvStorage::joint && spec.kfmt != spec.vfmt && all_read(unread, {"layout.storage", "kfmt", "vfmt"}))
    problems.add("layout.storage", "joint holds keys and values in one tensor, but kfmt " + text_of(spec.kfmt) +
                                       " differs from vfmt " + text_of(spec.vfmt) + "; allowed: equal formats, or separate");
}

/// A ragged layout has no pages: what describes them must be left at its default, so that one operation has one spec.
void check_ragged(const LayoutSpec& layout, const Unread& unread, Problems& problems) {
  if (layout.kind != LayoutKind::ragged) return;
  const LayoutSpec unset;
  auto check = [&](const char* path, const auto& value, const auto& preset) {
    if (value == preset || !all_read(unread, {"layout.kind", path})) return;
    problems.add(path, text_of(value) + " is given, but layout.kind ragged has no pages; allowed: the default, " + text_of(preset));
  };
  check("layout.page_size", layout.page_size, unset.page_size);
  check("layout.order", layout.order, unset.order);
  check("layout.storage", layout.storage, unset.storage);
  check("layout.index", layout.index, unset.index);
}

/// In one tensor, keys and values have one shape.
template <class Spec>
void check_joint(const Spec& spec, const Unread& unread, Problems& problems) {
  if (spec.layout.storage != KvStorage::joint || spec.head_dim_qk == spec.head_dim_vo) return;
  if (!all_read(unread, {"layout.storage", "head_dim_qk", "head_dim_vo"})) return;
  problems.add("layout.storage", "joint holds keys and values in one tensor, but head_dim_qk " + text_of(spec.head_dim_qk) +
                                     " differs from head_dim_vo " + text_of(spec.head_dim_vo) +
                                     "; allowed: equal head dims, or separate");
}

/// Zero-points of channels are given, and codes around them have no range to make a token's scale from.
void check_made_scale(const char* zero_path, KvZero zero, const char* scale_path, KvScale scale, const Unread& unread,
                      Problems& problems) {
  if (zero != KvZero::channel || !has_token_scale(scale) || !all_read(unread, {zero_path, scale_path})) return;
  problems.add(zero_path, "channel is given beside " + std::string(scale_path) + " " + text_of(scale) +
                              "; allowed: none or token, or scales of channels only");
}

/// A zero-point of a token is made with its scale.
void check_made_zero(const char* zero_path, KvZero zero, const char* scale_path, KvScale scale, const Unread& unread,
                     Problems& problems) {
  if (zero != KvZero::token || has_token_scale(scale) || !all_read(unread, {zero_path, scale_path})) return;
  problems.add(zero_path, "token is made together with a token's scale, but " + std::string(scale_path) + " is " + text_of(scale) +
                              "; allowed: with " + scale_path + " token or token_channel");
}

void check_append(const AppendSpec& spec, const Unread& unread, Problems& problems) {
  check_made_scale("kzero", spec.kzero, "kscale", spec.kscale, unread, problems);
  check_made_scale("vzero", spec.vzero, "vscale", spec.vscale, unread, problems);
  check_made_zero("kzero", spec.kzero, "kscale", spec.kscale, unread, problems);
  check_made_zero("vzero", spec.vzero, "vscale", spec.vscale, unread, problems);
  if (spec.rope_dims > spec.head_dim_qk && all_read(unread, {"rope_dims", "head_dim_qk"}))
    problems.add("rope_dims", text_of(spec.rope_dims) + " is more than head_dim_qk " + text_of(spec.head_dim_qk));
  if (spec.rope == RopePairs::none && spec.rope_dims != 0 && all_read(unread, {"rope", "rope_dims"}))
    problems.add("rope_dims", text_of(spec.rope_dims) + " is given, but rope is none; allowed: 0, or rope neox or interleaved");
  if (spec.place == TokenPlace::slots && spec.layout.index != PageIndex::csr && all_read(unread, {"place", "layout.index"}))
    problems.add("layout.index",
                 text_of(spec.layout.index) + " is given, but slots name pages themselves; allowed: csr, the default");
}

/// Fields that say what a hook says too.
void check_hooks(const AttentionSpec& spec, const Unread& unread, Problems& problems) {
  if (spec.hooks.empty() || !all_read(unread, {"hooks"})) return;
  const expr::Hooks& hooks = spec.hooks.given();
  const auto given = [&](expr::Hook hook) { return hooks.root(hook) != expr::kNone; };
  if (spec.mask != Mask::none && (given(expr::Hook::mask) || given(expr::Hook::q_pos) || given(expr::Hook::kv_pos)))
    problems.add("mask", text_of(spec.mask) + " is given beside the hook " +
                             (given(expr::Hook::mask)    ? "mask"
                              : given(expr::Hook::q_pos) ? "q_pos"
                                                         : "kv_pos") +
                             "; allowed: none, with the whole mask in hooks");
  if (spec.soft_cap && given(expr::Hook::logits))
    problems.add("soft_cap", "is given beside the hook logits; allowed: false, with the cap in the hook");
  const auto turns = [&](const char* path, int32_t dim, bool used) {
    if (used && static_cast<int64_t>(hooks.rotary.dims) > dim && all_read(unread, {path}))
      problems.add("hooks", "rotary of " + std::to_string(hooks.rotary.dims) + " dimensions, but " + path + " is " + text_of(dim));
  };
  turns("head_dim_qk", spec.head_dim_qk, given(expr::Hook::query) || given(expr::Hook::key));
  turns("head_dim_vo", spec.head_dim_vo, given(expr::Hook::value));
  if (given(expr::Hook::lse_transform) && spec.lse == LseOut::none && all_read(unread, {"lse"}))
    problems.add("hooks", "lse_transform changes the log-sum-exp that is written, but lse is none; allowed: lse ln or log2");
  if (hooks.normalizer == expr::Normalizer::softmax) return;
  if (spec.lse != LseOut::none)
    problems.add("lse", text_of(spec.lse) + " is given, but without a softmax there is no log-sum-exp; allowed: none");
  if (spec.soft_cap || !given(expr::Hook::logits))
    problems.add("hooks", "normalizer none makes weights of the logits; allowed: with the hook logits");
}

}  // namespace

void fields::add_problems(const AttentionSpec& spec, const Unread& unread, Problems& problems) {
  visit_fields(spec, Checker(unread, problems));
  check_kv_formats(spec, unread, problems);
  check_ragged(spec.layout, unread, problems);
  check_joint(spec, unread, problems);
  check_hooks(spec, unread, problems);
}

void fields::add_problems(const AppendSpec& spec, const Unread& unread, Problems& problems) {
  visit_fields(spec, Checker(unread, problems));
  check_kv_formats(spec, unread, problems);
  check_joint(spec, unread, problems);
  check_append(spec, unread, problems);
}

void fields::add_problems(const MergeSpec& spec, const Unread& unread, Problems& problems) {
  visit_fields(spec, Checker(unread, problems));
}

Status validate(const AttentionSpec& spec) {
  Problems problems;
  add_problems(spec, {}, problems);
  return problems.status();
}

Status validate(const AppendSpec& spec) {
  Problems problems;
  add_problems(spec, {}, problems);
  return problems.status();
}

Status validate(const MergeSpec& spec) {
  Problems problems;
  add_problems(spec, {}, problems);
  return problems.status();
}

}  // namespace lathe
