// The files of templates/ as the build put them into the library (cmake/EmbedTemplates.cmake).
#pragma once

#include <span>
#include <string_view>

namespace lathe {

struct EmbeddedTemplate {
  std::string_view path;  // relative to templates/
  std::string_view text;
};

std::span<const EmbeddedTemplate> embedded_templates();

}  // namespace lathe
