#include "lathe/spec/fields.h"
#include "lathe/spec/text.h"

namespace lathe {
namespace {

using namespace fields;

/// The rules of single fields.
struct Checker {
  Problems& problems;

  template <class E>
  void operator()(const Field& field, const E& value, const OneOf<E>& rule) {
    if (!rule.allows(value)) refuse(field, value, rule);
  }
  void operator()(const Field& field, int32_t value, const IntRange& rule) {
    if (!rule.allows(value)) refuse(field, value, rule);
  }
  void operator()(const Field&, bool, const Flag&) {}
  void operator()(const Field& field, const std::string& value, const Label& rule) {
    if (value.size() > rule.max_bytes) {
      problems.add(field.path, refusal(std::to_string(value.size()) + " bytes", allowed(rule)));
    } else if (!is_printable(value)) {
      problems.add(field.path, refusal(in_quotes(value), allowed(rule)));
    }
  }
  void operator()(const Field& field, const std::string& value, const ArchName& rule) {
    if (!is_arch_name(value)) problems.add(field.path, refusal(in_quotes(value), allowed(rule)));
  }
  void operator()(const Field& field, const SplitSpec& value, const SplitRule& rule) {
    bool known = enum_name(value.mode) != nullptr;
    bool fits = value.mode == SplitMode::fixed ? rule.tokens.allows(value.tokens) : value.tokens == 0;
    if (!known || !fits) refuse(field, value, rule);
  }
  void operator()(const Field& field, const TileSpec& value, const TileRule& rule) {
    bool fits = value.automatic ? value == TileSpec{} : !value.classes.empty() && std::ssize(value.classes) <= rule.max_classes;
    if (!fits) refuse(field, value, rule);
  }

 private:
  template <class T, class Rule>
  void refuse(const Field& field, const T& value, const Rule& rule) {
    problems.add(field.path, refusal(text_of(value), allowed(rule)));
  }
};

void check_kv_formats(const AttentionSpec& spec, Problems& problems) {
  auto check = [&](const char* path, DType format) {
    if (format != spec.q_dtype) {
      problems.add(path, text_of(format) + " differs from q_dtype " + text_of(spec.q_dtype) + "; allowed: the same as q_dtype");
    }
  };
  check("kfmt", spec.kfmt);
  check("vfmt", spec.vfmt);
}

/// A ragged layout has no pages: what describes them must be left at its default, so that one operation has one spec.
void check_ragged(const LayoutSpec& layout, Problems& problems) {
  if (layout.kind != LayoutKind::ragged) return;
  const LayoutSpec unset;
  auto check = [&](const char* path, const auto& value, const auto& preset) {
    if (value == preset) return;
    problems.add(path, text_of(value) + " is given, but layout.kind ragged has no pages; allowed: the default, " + text_of(preset));
  };
  check("layout.page_size", layout.page_size, unset.page_size);
  check("layout.order", layout.order, unset.order);
  check("layout.storage", layout.storage, unset.storage);
  check("layout.index", layout.index, unset.index);
}

/// In one tensor, keys and values have one shape.
void check_joint(const AttentionSpec& spec, Problems& problems) {
  if (spec.layout.storage != KvStorage::joint || spec.head_dim_qk == spec.head_dim_vo) return;
  problems.add("layout.storage", "joint holds keys and values in one tensor, but head_dim_qk " + text_of(spec.head_dim_qk) +
                                     " differs from head_dim_vo " + text_of(spec.head_dim_vo) +
                                     "; allowed: equal head dims, or separate");
}

}  // namespace

Status validate(const AttentionSpec& spec) {
  Problems problems;
  visit_fields(spec, Checker{problems});
  check_kv_formats(spec, problems);
  check_ragged(spec.layout, problems);
  check_joint(spec, problems);
  return problems.status();
}

Status validate(const MergeSpec& spec) {
  Problems problems;
  visit_fields(spec, Checker{problems});
  return problems.status();
}

}  // namespace lathe
