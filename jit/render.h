// Rendering: a kernel folder's template and a spec's values become one self-contained translation unit.
//
// Strict Mustache ({{=<% %>=}} delimiters, no escaping): an unknown or an unused key is an error. `#include "x"` lines are expanded
// in memory, each file once, looked for first in the arch's device folders ("device/x" as x) and then from the root of templates/;
// any other include is an error. `#line` directives make compiler errors point into the template. What comes out is all the
// compiler sees: golden files and the compile key cover exactly this text.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lathe/base/status.h"
#include "lathe/jit/template_store.h"

namespace lathe {

/// One value that may reach source text: a whole number, a boolean, an identifier of C++ ([A-Za-z_][A-Za-z0-9_]{0,63}, no keyword,
/// no "__"), or a list of maps of these. Nothing else can.
class TemplateValue;
using TemplateData = std::map<std::string, TemplateValue, std::less<>>;

class TemplateValue {
 public:
  TemplateValue(int64_t number) : value_(number) {}                           // NOLINT(google-explicit-constructor)
  TemplateValue(int number) : value_(int64_t{number}) {}                      // NOLINT(google-explicit-constructor)
  TemplateValue(bool flag) : value_(flag) {}                                  // NOLINT(google-explicit-constructor)
  TemplateValue(std::vector<TemplateData> list) : value_(std::move(list)) {}  // NOLINT(google-explicit-constructor)
  /// Refused at render time, with the key, unless `name` is a legal identifier.
  static TemplateValue identifier(std::string name) {
    TemplateValue v(false);
    v.value_ = std::move(name);
    return v;
  }
  using Variant = std::variant<bool, int64_t, std::string, std::vector<TemplateData>>;
  const Variant& get() const { return value_; }

 private:
  Variant value_;
};

/// True for what TemplateValue::identifier accepts.
bool is_identifier(std::string_view name);

/// Renders `root` (a path in `store`) with `data`. `device_folders`: ArchTraits::device_folders.
Result<std::string> render(const TemplateStore& store, std::string_view root, const TemplateData& data,
                           const std::vector<std::string>& device_folders);

}  // namespace lathe
