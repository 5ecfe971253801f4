// The tags of a Mustache template, read strictly, and their agreement with the values given.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/base/status.h"
#include "lathe/jit/render.h"

namespace lathe {

struct TemplateTag {
  enum class Kind : uint8_t { variable, section, inverted };
  Kind kind = Kind::variable;
  std::string name;
  int line = 0;
  std::vector<TemplateTag> children;  // of a section
};

/// A line of a template, for messages: "templates/<path>:<line>".
std::string template_place(std::string_view path, int line);

/// The tags of `text`, nested by section; comments are left out. `path` is for messages. Refuses (invalid_argument, at "path:line")
/// everything but <%name%>, <%#name%>, <%^name%>, <%/name%> and <%! comment%>, each on one line, sections closed in order. Refuses
/// control characters too, other than tab and newline.
Result<std::vector<TemplateTag>> parse_tags(std::string_view path, std::string_view text);

/// Checks that each tag has a value of a kind it can show (a number, boolean or identifier for a variable; a boolean or list for a
/// section), in branches that are not taken as well; adds every problem to `problems`, and each name that was looked up to `used`.
void check_tags(std::string_view path, const std::vector<TemplateTag>& tags, const TemplateData& data, std::set<std::string>& used,
                Problems& problems);

/// Adds a problem for each key or value of `data`, and of the maps in its lists, that must not reach source text.
void check_values(const TemplateData& data, Problems& problems);

/// Adds a problem for each key of `data`, and of the maps in its lists, that is not in `used`.
void check_unused(const TemplateData& data, const std::set<std::string>& used, Problems& problems);

}  // namespace lathe
