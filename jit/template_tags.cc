#include "lathe/jit/template_tags.h"

#include <algorithm>

namespace lathe {
namespace {

constexpr std::string_view kOpen = "<%", kClose = "%>";

using Kind = TemplateTag::Kind;

std::string_view trimmed(std::string_view text) {
  size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

// What one name means to a tag: the values found for it in the innermost scope that has it. A scope is one map, or all the maps of
// a list whose items a section's body is repeated for.
using Scope = std::vector<const TemplateData*>;

struct Checker {
  std::string_view path;
  std::set<std::string>& used;
  Problems& problems;
  std::vector<Scope> scopes;

  std::vector<const TemplateValue*> find(const TemplateTag& tag) {
    used.insert(tag.name);
    bool may_be_absent = false;  // below an empty list nothing is known of the items
    for (auto scope = scopes.rbegin(); scope != scopes.rend(); ++scope) {
      std::vector<const TemplateValue*> found;
      for (const TemplateData* map : *scope) {
        if (auto it = map->find(tag.name); it != map->end()) found.push_back(&it->second);
      }
      if (found.size() == scope->size() && !found.empty()) return found;
      if (!found.empty()) {
        problems.add(template_place(path, tag.line), "'" + tag.name + "' is given for some items of the list only");
        return {};
      }
      may_be_absent |= scope->empty();
    }
    if (!may_be_absent) problems.add(template_place(path, tag.line), "no value is given for '" + tag.name + "'");
    return {};
  }

  void check(const std::vector<TemplateTag>& tags) {
    for (const TemplateTag& tag : tags) check(tag);
  }

  void check(const TemplateTag& tag) {
    auto values = find(tag);
    Scope items;
    bool is_list = false;
    for (const TemplateValue* value : values) {
      const auto& v = value->get();
      auto* list = std::get_if<std::vector<TemplateData>>(&v);
      bool section = tag.kind != Kind::variable;
      bool fits = section ? list != nullptr || std::holds_alternative<bool>(v) : list == nullptr;
      if (!fits) {
        problems.add(template_place(path, tag.line), section ? "section '" + tag.name + "' needs a boolean or a list"
                                                             : "'" + tag.name + "' is a list and cannot be printed");
        return;
      }
      if (list == nullptr) continue;
      is_list = true;
      for (const TemplateData& item : *list) items.push_back(&item);
    }
    bool opens_scope = is_list && tag.kind == Kind::section;
    if (opens_scope) scopes.push_back(std::move(items));
    check(tag.children);
    if (opens_scope) scopes.pop_back();
  }
};

const std::vector<TemplateData>& items_of(const TemplateValue& value) {
  static const std::vector<TemplateData> none;
  auto* list = std::get_if<std::vector<TemplateData>>(&value.get());
  return list == nullptr ? none : *list;
}

}  // namespace

std::string template_place(std::string_view path, int line) {
  return "templates/" + std::string(path) + ":" + std::to_string(line);
}

Result<std::vector<TemplateTag>> parse_tags(std::string_view path, std::string_view text) {
  std::vector<TemplateTag> open(1);  // open[0] gathers the top level
  size_t begin = 0;
  int line = 1;
  auto refused = [&](const std::string& why) { return invalid_argument(template_place(path, line), why); };

  while (begin <= text.size()) {
    size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view rest = text.substr(begin, end - begin);
    bool control = std::any_of(rest.begin(), rest.end(), [](char c) { return (c >= 0 && c < ' ' && c != '\t') || c == 127; });
    if (control) return refused("holds a control character");
    for (size_t tag = rest.find(kOpen); tag != std::string_view::npos; tag = rest.find(kOpen)) {
      size_t close = rest.find(kClose, tag + kOpen.size());
      if (close == std::string_view::npos) return refused("a tag is not closed on its line");
      std::string_view inner = trimmed(rest.substr(tag + kOpen.size(), close - tag - kOpen.size()));
      rest.remove_prefix(close + kClose.size());
      if (inner.starts_with('!')) continue;
      constexpr std::string_view kSigils = "#^/";
      char sigil = !inner.empty() && kSigils.find(inner[0]) != std::string_view::npos ? inner[0] : 0;
      std::string name(sigil != 0 ? trimmed(inner.substr(1)) : inner);
      if (!is_identifier(name))
        return refused("tag '" + std::string(inner) + "' is not <%name%>, <%#name%>, <%^name%>, <%/name%> or <%! comment%>");
      if (sigil == '/') {
        if (open.size() == 1) return refused("section '" + name + "' is closed but was not opened");
        if (open.back().name != name) return refused("section '" + open.back().name + "' is open where '" + name + "' is closed");
        TemplateTag closed = std::move(open.back());
        open.pop_back();
        open.back().children.push_back(std::move(closed));
      } else {
        TemplateTag opened{sigil == '#'   ? Kind::section
                           : sigil == '^' ? Kind::inverted
                                          : Kind::variable,
                           std::move(name),
                           line,
                           {}};
        if (sigil == 0) {
          open.back().children.push_back(std::move(opened));
        } else {
          open.push_back(std::move(opened));
        }
      }
    }
    begin = end + 1;
    ++line;
  }
  if (open.size() > 1) {
    line = open.back().line;
    return refused("section '" + open.back().name + "' is not closed");
  }
  return std::move(open[0].children);
}

void check_tags(std::string_view path, const std::vector<TemplateTag>& tags, const TemplateData& data, std::set<std::string>& used,
                Problems& problems) {
  Checker checker{path, used, problems, {Scope{&data}}};
  checker.check(tags);
}

void check_values(const TemplateData& data, Problems& problems) {
  for (const auto& [key, value] : data) {
    if (!is_identifier(key)) problems.add("template values", "a key is no identifier");
    if (auto* name = std::get_if<std::string>(&value.get()); name != nullptr && !is_identifier(*name)) {
      problems.add(key, "is no identifier that may reach source text; allowed is [A-Za-z_][A-Za-z0-9_]{0,63}, no keyword, no '__'");
    }
    for (const TemplateData& item : items_of(value)) check_values(item, problems);
  }
}

void check_unused(const TemplateData& data, const std::set<std::string>& used, Problems& problems) {
  for (const auto& [key, value] : data) {
    if (!used.contains(key)) problems.add(key, "is given but no tag of the template uses it");
    for (const TemplateData& item : items_of(value)) check_unused(item, used, problems);
  }
}

}  // namespace lathe
