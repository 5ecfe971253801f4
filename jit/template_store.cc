#include "lathe/jit/template_store.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

#include "lathe/base/knobs.h"
#include "lathe/jit/embedded_templates.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr uintmax_t kMaxFileBytes = uintmax_t{4} << 20;
constexpr size_t kMaxFiles = 4096;

// Paths reach #line directives and error messages, so they hold nothing that could end a string there.
bool is_plain(std::string_view path) {
  return std::all_of(path.begin(), path.end(), [](unsigned char c) {
    return c < 128 && (std::isalnum(c) || c == '_' || c == '.' || c == '-' || c == '+' || c == '/');
  });
}

bool is_litter(const std::string& name) {
  return name.starts_with('.') || name.ends_with('~');
}

}  // namespace

const TemplateStore& TemplateStore::embedded() {
  static const TemplateStore store([] {
    std::map<std::string, std::string, std::less<>> files;
    for (const EmbeddedTemplate& file : embedded_templates()) files.emplace(file.path, file.text);
    return files;
  }());
  return store;
}

Result<TemplateStore> TemplateStore::from_directory(const std::string& directory) {
  auto refused = [&](const std::string& why) {
    return invalid_argument("template directory", "'" + directory + "' " + why,
                            "unset LATHE_TEMPLATE_DIR to use the built-in templates");
  };
  std::error_code error;
  fs::recursive_directory_iterator it(directory, error);
  if (error) return refused("cannot be read: " + error.message());
  std::map<std::string, std::string, std::less<>> files;
  for (; it != fs::recursive_directory_iterator(); it.increment(error)) {
    if (is_litter(it->path().filename().string())) {
      it.disable_recursion_pending();
      continue;
    }
    if (!fs::is_regular_file(it->symlink_status(error))) continue;
    std::string name = it->path().lexically_relative(directory).generic_string();
    if (!is_plain(name)) return refused("holds a file whose name has other characters than letters, digits and _ . - +: " + name);
    if (it->file_size(error) > kMaxFileBytes || error) return refused("holds a file that is unreadable or over 4 MiB: " + name);
    if (files.size() == kMaxFiles) return refused("holds more than 4096 files");
    std::ifstream in(it->path(), std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    if (!in) return refused("holds a file that cannot be read: " + name);
    files.emplace(std::move(name), std::move(text).str());
  }
  if (error) return refused("cannot be read: " + error.message());
  if (files.empty()) return refused("holds no templates");
  return TemplateStore(std::move(files));
}

Result<TemplateStore> TemplateStore::from_environment() {
  if (auto directory = knob("LATHE_TEMPLATE_DIR")) return from_directory(*directory);
  return embedded();
}

const std::string* TemplateStore::find(std::string_view path) const {
  auto it = files_.find(path);
  return it == files_.end() ? nullptr : &it->second;
}

TemplateStore TemplateStore::with(std::string_view path, std::string text) const {
  auto files = files_;
  files.insert_or_assign(std::string(path), std::move(text));
  return TemplateStore(std::move(files));
}

TemplateStore TemplateStore::with(const std::map<std::string, std::string, std::less<>>& files) const {
  auto all = files_;
  for (const auto& [path, text] : files) all.insert_or_assign(path, text);
  return TemplateStore(std::move(all));
}

}  // namespace lathe
