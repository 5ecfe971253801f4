// The templates: text files of templates/, embedded in the library, or read from LATHE_TEMPLATE_DIR for development.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "lathe/base/status.h"

namespace lathe {

/// An immutable set of template files, by path relative to templates/ with forward slashes. Safe to share between threads.
class TemplateStore {
 public:
  /// The store compiled into the library.
  static const TemplateStore& embedded();
  /// Every regular file below `directory`.
  static Result<TemplateStore> from_directory(const std::string& directory);
  /// LATHE_TEMPLATE_DIR when set, else the embedded store.
  static Result<TemplateStore> from_environment();

  explicit TemplateStore(std::map<std::string, std::string, std::less<>> files) : files_(std::move(files)) {}
  const std::string* find(std::string_view path) const;  // null when absent
  const std::map<std::string, std::string, std::less<>>& files() const { return files_; }
  /// A copy with one file's text replaced; how mutants are made.
  TemplateStore with(std::string_view path, std::string text) const;
  /// A copy with these files added or replaced.
  TemplateStore with(const std::map<std::string, std::string, std::less<>>& files) const;

 private:
  std::map<std::string, std::string, std::less<>> files_;
};

}  // namespace lathe
