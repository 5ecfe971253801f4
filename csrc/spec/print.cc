#include <algorithm>

#include "lathe/spec/fields.h"
#include "lathe/spec/text.h"

namespace lathe {
namespace {

using namespace fields;

/// Appends the fields that differ from their defaults and are not among `written`: a field added later shows up by itself.
template <class Spec>
class ChangedFields {
 public:
  ChangedFields(std::string& text, std::initializer_list<std::string_view> written) : text_(text), written_(written) {
    const Spec preset;
    visit_fields(preset, [&](const Field&, const auto& value, const auto&) { presets_.push_back(text_of(value)); });
  }

  template <class T, class Rule>
  void operator()(const Field& field, const T& value, const Rule&) {
    append(field, text_of(value), presets_[next_]);
  }
  template <class E>
  void operator()(const Field& field, E value, const OneOf<E>& rule) {
    append(field, text_of(value), rule.follows != nullptr ? text_of(*rule.follows) : presets_[next_]);
  }

 private:
  void append(const Field& field, const std::string& value, const std::string& preset) {
    ++next_;
    if (value == preset || std::find(written_.begin(), written_.end(), field.path) != written_.end()) return;
    text_ += std::string(" ") + field.path + " " + value;
  }

  std::string& text_;
  std::vector<std::string_view> written_;
  std::vector<std::string> presets_;
  size_t next_ = 0;
};

std::string text_of_layout(const LayoutSpec& layout) {
  if (layout.kind != LayoutKind::paged) return text_of(layout.kind);
  std::string storage = layout.storage == KvStorage::separate ? "" : text_of(layout.storage) + ", ";
  return "paged(" + std::to_string(layout.page_size) + ", " + text_of(layout.order) + ", " + storage + text_of(layout.index) + ")";
}

std::string text_of_arch_and_label(const std::string& arch, const std::string& label) {
  return " " + text_of(arch) + (label.empty() ? "" : " label " + in_quotes(label));
}

}  // namespace

std::string to_string(const AttentionSpec& s) {
  std::string text = "attention " + text_of(s.q_dtype);
  if (s.o_dtype != s.q_dtype) text += "->" + text_of(s.o_dtype);
  text += " " + text_of(s.head_dim_qk) + "/" + text_of(s.head_dim_vo) + " group " + text_of(s.group_size) + " " +
          text_of_layout(s.layout);
  if (s.mask != Mask::none) text += " " + text_of(s.mask);
  visit_fields(s, ChangedFields<AttentionSpec>(
                      text, {"label", "q_dtype", "o_dtype", "head_dim_qk", "head_dim_vo", "group_size", "layout.kind",
                             "layout.page_size", "layout.order", "layout.storage", "layout.index", "mask", "arch"}));
  return text + text_of_arch_and_label(s.arch, s.label);
}

std::string to_string(const AppendSpec& s) {
  std::string text =
      "append " + text_of(s.q_dtype) + " " + text_of(s.head_dim_qk) + "/" + text_of(s.head_dim_vo) + " " + text_of_layout(s.layout);
  visit_fields(s, ChangedFields<AppendSpec>(text, {"label", "q_dtype", "head_dim_qk", "head_dim_vo", "layout.kind",
                                                   "layout.page_size", "layout.order", "layout.storage", "layout.index", "arch"}));
  return text + text_of_arch_and_label(s.arch, s.label);
}

std::string to_string(const MergeSpec& s) {
  std::string text = "merge " + text_of(s.dtype) + " " + text_of(s.head_dim) + " lse " + text_of(s.lse);
  visit_fields(s, ChangedFields<MergeSpec>(text, {"label", "dtype", "head_dim", "lse", "arch"}));
  return text + text_of_arch_and_label(s.arch, s.label);
}

}  // namespace lathe
