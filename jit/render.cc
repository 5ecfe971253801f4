#include "lathe/jit/render.h"

#include <algorithm>
#include <kainjow/mustache.hpp>
#include <set>

#include "lathe/jit/template_tags.h"

namespace lathe {
namespace {

namespace mustache = kainjow::mustache;

constexpr size_t kMaxOutputBytes = size_t{8} << 20;
constexpr int kMaxBlankLines = 4;  // a longer gap is bridged by a #line directive

// A line of text and where it stands in its template.
struct Line {
  int number;
  std::string text;
};

std::vector<Line> split_lines(std::string_view text) {
  std::vector<Line> lines;
  for (int number = 1; !text.empty(); ++number) {
    size_t end = std::min(text.find('\n'), text.size());
    lines.push_back({number, std::string(text.substr(0, end))});
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

// Mustache prints no booleans, so what a variable prints has a name of its own beside the one that sections ask.
constexpr std::string_view kPrinted = " printed";

mustache::data to_mustache(const TemplateData& data) {
  mustache::data out;
  for (const auto& [key, value] : data) {
    const auto& v = value.get();
    const std::string printed = key + std::string(kPrinted);
    if (auto* flag = std::get_if<bool>(&v)) {
      out.set(key, mustache::data(*flag));
      out.set(printed, *flag ? "true" : "false");
    } else if (auto* number = std::get_if<int64_t>(&v)) {
      out.set(printed, std::to_string(*number));
    } else if (auto* name = std::get_if<std::string>(&v)) {
      out.set(printed, *name);
    } else {
      mustache::list list;
      for (const TemplateData& item : std::get<std::vector<TemplateData>>(v)) list.push_back(to_mustache(item));
      out.set(key, mustache::data(std::move(list)));
    }
  }
  return out;
}

// A line with kPrinted added to the name in each of its variable tags. Its tags are well-formed: parse_tags has seen them.
std::string with_printed_names(std::string_view line) {
  std::string out;
  for (size_t tag = line.find("<%"); tag != std::string_view::npos; tag = line.find("<%")) {
    size_t close = line.find("%>", tag);
    std::string_view before_close = line.substr(0, line.find_last_not_of(" \t", close - 1) + 1);
    bool variable = std::string_view("#^/!").find(line[line.find_first_not_of(" \t", tag + 2)]) == std::string_view::npos;
    out += before_close;
    if (variable) out += kPrinted;
    out += "%>";
    line.remove_prefix(close + 2);
  }
  return out += line;
}

// Marks around a line's number, put before each line so that its origin survives repetition and omission; parse_tags refuses
// control characters, so no template holds them. They also keep Mustache from dropping the line ends of tag-only lines on its own
// account.
constexpr char kMarkOpen = '\x01', kMarkClose = '\x02';

Result<std::vector<Line>> fill_in(std::string_view path, std::string_view text, const TemplateData& data) {
  std::string marked = "{{=<% %>=}}";
  std::vector<Line> source = split_lines(text);
  for (const Line& line : source)
    marked += kMarkOpen + std::to_string(line.number) + kMarkClose + with_printed_names(line.text) + "\n";
  mustache::mustache tmpl(marked);
  tmpl.set_custom_escape([](const std::string& s) { return s; });
  std::string filled = tmpl.is_valid() ? tmpl.render(to_mustache(data)) : std::string();
  if (!tmpl.is_valid()) return Status(Code::internal, tmpl.error_message(), template_place(path, 1));

  std::vector<Line> lines;
  for (Line& raw : split_lines(filled)) {
    Line line{0, {}};
    for (size_t i = 0; i < raw.text.size(); ++i) {
      if (raw.text[i] != kMarkOpen) {
        line.text += raw.text[i];
        continue;
      }
      size_t close = raw.text.find(kMarkClose, i);
      if (line.number == 0) line.number = std::stoi(raw.text.substr(i + 1, close - i - 1));
      i = close;
    }
    bool blank = line.text.find_first_not_of(" \t") == std::string::npos;
    bool only_tags = blank && line.number > 0 && !source[size_t(line.number) - 1].text.empty();
    if (!only_tags) lines.push_back(std::move(line));
  }
  return lines;
}

// The directive on a line: its name ("include"), or empty; what follows it in `rest`.
std::string_view directive_of(std::string_view line, std::string_view& rest) {
  size_t i = line.find_first_not_of(" \t");
  if (i == std::string_view::npos) return {};
  if (line.substr(i, 2) == "%:") return rest = line, "%:";
  if (line[i] != '#') return {};
  i = line.find_first_not_of(" \t", i + 1);
  if (i == std::string_view::npos) return {};
  size_t end = i;
  while (end < line.size() && (std::isalnum(static_cast<unsigned char>(line[end])) || line[end] == '_')) ++end;
  rest = line.substr(end);
  if (end == i) return "?";
  return line.substr(i, end - i);
}

class Expander {
 public:
  Expander(const TemplateStore& store, const TemplateData& data, const std::vector<std::string>& device_folders)
      : store_(store), data_(data), folders_(device_folders) {}

  // Appends the file at `path` unless it is there already. Root files and *.mustache are filled in first.
  Status add(const std::string& path, bool is_template) {
    if (!seen_.insert(path).second) return {};
    const std::string& text = *store_.find(path);
    std::vector<Line> lines;
    if (is_template) {
      auto tags = parse_tags(path, text);
      LATHE_TRY(tags);
      Problems problems;
      check_tags(path, *tags, data_, used_, problems);
      LATHE_TRY(problems.status());
      auto filled = fill_in(path, text, data_);
      LATHE_TRY(filled);
      lines = *std::move(filled);
    } else {
      lines = split_lines(text);
    }
    int conditionals = 0;
    for (const Line& line : lines) LATHE_TRY(add_line(path, line, conditionals));
    if (conditionals != 0) return invalid_argument("templates/" + path, "an #if is not closed in this file");
    return {};
  }

  const std::set<std::string>& used() const { return used_; }
  std::string take() && { return std::move(out_); }

 private:
  Status add_line(const std::string& path, const Line& line, int& conditionals) {
    std::string_view rest;
    std::string_view directive = directive_of(line.text, rest);
    auto refused = [&](const std::string& why) {
      return invalid_argument(template_place(path, line.number), why + ": " + line.text);
    };
    if (directive == "if" || directive == "ifdef" || directive == "ifndef") ++conditionals;
    if (directive == "endif" && --conditionals < 0) return refused("#endif without #if");
    if (directive == "include") {
      // Which branch is live is the compiler's to decide later, but a file is put in at its first mention.
      if (conditionals != 0) return refused("an #include cannot stand inside #if");
      return add_include(path, line, rest);
    }
    if (directive == "include_next" || directive == "import" || directive == "embed" || directive == "line" || directive == "?" ||
        directive == "%:") {
      return refused("this directive is not allowed in a template");
    }
    size_t first = rest.find_first_not_of(" \t");
    if (directive == "pragma" && first != std::string_view::npos && rest.substr(first).starts_with("once")) return {};
    move_to(path, line.number);
    out_ += line.text;
    out_ += '\n';
    ++line_;
    if (out_.size() > kMaxOutputBytes)
      return Status(Code::resource_exhausted, "the rendered source exceeds 8 MiB", template_place(path, line.number));
    return {};
  }

  Status add_include(const std::string& path, const Line& line, std::string_view rest) {
    auto refused = [&](const std::string& why) {
      return invalid_argument(template_place(path, line.number), why + ": " + line.text);
    };
    size_t open = rest.find_first_not_of(" \t");
    size_t close = open == std::string_view::npos ? open : rest.find('"', open + 1);
    if (open == std::string_view::npos || rest[open] != '"' || close == std::string_view::npos) {
      return refused("only #include \"file of templates/\" is allowed");
    }
    std::string_view tail = rest.substr(close + 1);
    size_t after = tail.find_first_not_of(" \t");
    if (after != std::string_view::npos && !tail.substr(after).starts_with("//")) return refused("text follows the #include");
    std::string name(rest.substr(open + 1, close - open - 1));
    // "device/x.cuh" means the arch's own device/<arch>/x.cuh where there is one.
    std::string_view below = name;
    if (below.starts_with("device/")) below.remove_prefix(std::string_view("device/").size());
    for (const std::string& folder : folders_) {
      std::string candidate = folder + "/" + std::string(below);
      if (store_.find(candidate) != nullptr) return add(candidate, name.ends_with(".mustache"));
    }
    if (store_.find(name) != nullptr) return add(name, name.ends_with(".mustache"));
    std::string searched;
    for (const std::string& folder : folders_) searched += "templates/" + folder + ", ";
    return refused("no such file in " + searched + "templates");
  }

  // Makes the next output line count as `number` of `path`.
  void move_to(const std::string& path, int number) {
    int gap = number - line_;
    if (path == path_ && gap >= 0 && gap <= kMaxBlankLines) {
      out_.append(static_cast<size_t>(gap), '\n');
    } else {
      out_ += "#line " + std::to_string(number) + " \"templates/" + path + "\"\n";
      path_ = path;
    }
    line_ = number;
  }

  const TemplateStore& store_;
  const TemplateData& data_;
  const std::vector<std::string>& folders_;
  std::set<std::string> seen_, used_;
  std::string out_, path_;
  int line_ = 0;  // the line of path_ that the next output line counts as
};

}  // namespace

Result<std::string> render(const TemplateStore& store, std::string_view root, const TemplateData& data,
                           const std::vector<std::string>& device_folders) {
  if (store.find(root) == nullptr) return invalid_argument("template", "templates/" + std::string(root) + " does not exist");
  // Values first: nothing that must not reach source text is ever handed to the renderer.
  Problems values;
  check_values(data, values);
  LATHE_TRY(values.status());
  Expander expander(store, data, device_folders);
  LATHE_TRY(expander.add(std::string(root), true));
  Problems unused;
  check_unused(data, expander.used(), unused);
  LATHE_TRY(unused.status());
  return std::move(expander).take();
}

}  // namespace lathe
