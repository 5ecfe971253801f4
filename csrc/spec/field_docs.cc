#include "lathe/spec/field_docs.h"

#include "lathe/spec/fields.h"

namespace lathe {
namespace {

using namespace fields;

struct DocVisitor {
  std::vector<FieldDoc>& docs;

  template <class T, class Rule>
  void operator()(const Field& field, const T& value, const Rule& rule) {
    docs.push_back({field.path, allowed(rule), text_of(value), field.doc});
  }
  template <class E>
  void operator()(const Field& field, const E& value, const OneOf<E>& rule) {
    docs.push_back({field.path, allowed(rule), rule.follows != nullptr ? rule.follows_path : text_of(value), field.doc});
  }
};

template <class Spec>
std::vector<FieldDoc> docs_of() {
  std::vector<FieldDoc> docs;
  const Spec preset;
  visit_fields(preset, DocVisitor{docs});
  return docs;
}

}  // namespace

std::vector<FieldDoc> attention_field_docs() {
  return docs_of<AttentionSpec>();
}
std::vector<FieldDoc> append_field_docs() {
  return docs_of<AppendSpec>();
}
std::vector<FieldDoc> merge_field_docs() {
  return docs_of<MergeSpec>();
}

}  // namespace lathe
