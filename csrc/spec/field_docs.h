// The field tables of the specs, for documentation and for `lathe explain`.
#pragma once

#include <string>
#include <vector>

namespace lathe {

struct FieldDoc {
  std::string path;     // "layout.page_size"
  std::string allowed;  // "1..65536"
  std::string preset;   // the value when left out
  std::string doc;      // one sentence
};

/// Every field, in the order of the canonical JSON.
std::vector<FieldDoc> attention_field_docs();
std::vector<FieldDoc> append_field_docs();
std::vector<FieldDoc> merge_field_docs();

}  // namespace lathe
