// Reading specs from JSON text, which is hostile input: the text is bounded, scanned for what the parser would let pass
// (json_scan.h), parsed without exceptions, and every node is checked before it is read.
#include <algorithm>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "lathe/spec/expr/json.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/fields.h"
#include "lathe/spec/json_scan.h"
#include "lathe/spec/text.h"
#include "lathe/spec/validate.h"

namespace lathe {
namespace {

using namespace fields;
using Json = nlohmann::json;

constexpr size_t kMaxBytes = 64 * 1024;
constexpr int kMaxUnknownKeys = 16;  // named in one object; the rest is counted

std::string text_of_json(const Json& node) {
  return shown(node.dump(-1, ' ', false, Json::error_handler_t::replace));
}

/// The whole number at `node`, when it is one and fits.
std::optional<int32_t> as_int(const Json& node) {
  using Limits = std::numeric_limits<int32_t>;
  if (node.is_number_unsigned()) {
    auto value = node.get<uint64_t>();
    if (value <= static_cast<uint64_t>(Limits::max())) return static_cast<int32_t>(value);
  } else if (node.is_number_integer()) {
    auto value = node.get<int64_t>();
    if (value >= Limits::min() && value <= Limits::max()) return static_cast<int32_t>(value);
  }
  return std::nullopt;
}

/// Adds a problem for every key of the object at `path` (empty: the whole text) that is not in `known`.
void check_keys(const Json& object, const std::string& path, const std::vector<std::string>& known, Problems& problems) {
  int unknown = 0;
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    if (++unknown > kMaxUnknownKeys) continue;
    std::string names;
    for (const std::string& name : known) names += (names.empty() ? "" : ", ") + name;
    problems.add((path.empty() ? "" : path + ".") + shown(key), "unknown field; allowed: " + names);
  }
  if (unknown > kMaxUnknownKeys) {
    problems.add(path.empty() ? "spec" : path, std::to_string(unknown - kMaxUnknownKeys) + " more unknown fields");
  }
}

/// Readers of one node, `path`, into one value: each adds a problem when the node is not of the form that the rule names.
class NodeReader {
 public:
  explicit NodeReader(Problems& problems) : problems_(problems) {}

  template <class E>
  void read(const Json& node, const std::string& path, const OneOf<E>& rule, E& value) {
    if (node.is_string()) {
      const auto& text = node.get_ref<const std::string&>();
      for (const EnumName<E>& entry : kNames<E>) {
        if (text != entry.name || !rule.allows(entry.value)) continue;
        value = entry.value;
        return;
      }
    }
    refuse(node, path, allowed(rule));
  }
  void read(const Json& node, const std::string& path, const IntRange& rule, int32_t& value) {
    read_int(node, path, allowed(rule), value);
  }
  void read(const Json& node, const std::string& path, const Flag& rule, bool& value) {
    if (!node.is_boolean()) return refuse(node, path, allowed(rule));
    value = node.get<bool>();
  }
  void read(const Json& node, const std::string& path, const Label& rule, std::string& value) {
    read_string(node, path, allowed(rule), value);
  }
  void read(const Json& node, const std::string& path, const ArchName& rule, std::string& value) {
    read_string(node, path, allowed(rule), value);
  }
  void read(const Json& node, const std::string& path, const SplitRule& rule, SplitSpec& value) {
    if (node == "auto" || node == "off") return read(node, path, OneOf<SplitMode>{}, value.mode);
    if (!node.is_object()) return refuse(node, path, allowed(rule));
    value.mode = SplitMode::fixed;
    check_keys(node, path, {"fixed"}, problems_);
    read_member(node, path, "fixed", allowed(rule.tokens), value.tokens);
  }
  void read(const Json& node, const std::string& path, const TileRule& rule, TileSpec& value) {
    if (node == "auto") return;
    if (!node.is_object()) return refuse(node, path, allowed(rule));
    value.automatic = false;
    check_keys(node, path, {"warps", "stages", "classes"}, problems_);
    read_member(node, path, "warps", "a whole number", value.warps);
    read_member(node, path, "stages", "a whole number", value.stages);
    read_classes(node, path + ".classes", rule, value.classes);
  }

  void read(const Json& node, const std::string& path, const HooksRule& rule, AttentionHooks& value) {
    if (!node.is_string() && !node.is_object()) return refuse(node, path, allowed(rule));
    std::vector<expr::Finding> found;  // with its columns, which the value does not have
    Result<expr::Hooks> hooks = node.is_string() ? expr::parse(node.get_ref<const std::string&>(), &found, rule.findings)
                                                 : expr::hooks_from_json(node.dump(), &found, rule.findings);
    if (hooks.ok()) {
      value = AttentionHooks(*std::move(hooks), found, rule.findings);
    } else {  // of several problems the message has the places, of one the status
      const std::string& at = hooks.status().where();
      problems_.add(path, (at.empty() ? "" : at + ": ") + hooks.status().message());
    }
  }

  void refuse(const Json& node, const std::string& path, const std::string& allowed) {
    problems_.add(path, refusal(text_of_json(node), allowed));
  }

 private:
  void read_int(const Json& node, const std::string& path, const std::string& allowed, int32_t& value) {
    std::optional<int32_t> number = as_int(node);
    if (!number) return refuse(node, path, allowed);
    value = *number;
  }
  void read_string(const Json& node, const std::string& path, const std::string& allowed, std::string& value) {
    if (!node.is_string()) return refuse(node, path, allowed);
    value = node.get_ref<const std::string&>();
  }
  void read_member(const Json& object, const std::string& path, const char* name, const std::string& allowed, int32_t& value) {
    std::string at = path + "." + name;
    if (!object.contains(name)) return problems_.add(at, "is missing; allowed: " + allowed);
    read_int(object[name], at, allowed, value);
  }
  void read_classes(const Json& tile, const std::string& path, const TileRule& rule, std::vector<TileClass>& classes) {
    const std::string form = "a list of 1.." + std::to_string(rule.max_classes) + R"( objects {"q": rows, "kv": tokens})";
    if (!tile.contains("classes")) return problems_.add(path, "is missing; allowed: " + form);
    const Json& list = tile["classes"];
    if (!list.is_array() || list.empty() || list.size() > static_cast<size_t>(rule.max_classes)) return refuse(list, path, form);
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string at = path + "[" + std::to_string(i) + "]";
      TileClass& tile_class = classes.emplace_back();
      if (!list[i].is_object()) {
        refuse(list[i], at, R"({"q": rows, "kv": tokens})");
        continue;
      }
      check_keys(list[i], at, {"q", "kv"}, problems_);
      read_member(list[i], at, "q", "a whole number", tile_class.q);
      read_member(list[i], at, "kv", "a whole number", tile_class.kv);
    }
  }

  Problems& problems_;
};

/// Reads the fields of one spec from the object `root`.
class Reader {
 public:
  Reader(const Json& root, Problems& problems) : root_(root), problems_(problems), nodes_(problems) {}

  /// Problems of the names in `root`: unknown keys, and groups that are neither an object nor the name of their kind.
  template <class Spec>
  void check_names() {
    std::vector<std::string> top{"op"};
    std::map<std::string, std::vector<std::string>> groups;
    const Spec preset;
    visit_fields(preset, [&](const Field& field, const auto&, const auto&) {
      auto [group, name] = split(field.path);
      if (group.empty()) {
        top.push_back(name);
      } else {
        if (groups[group].empty()) top.push_back(group);
        groups[group].push_back(name);
      }
    });
    check_keys(root_, "", top, problems_);
    for (const auto& [group, names] : groups) {
      if (!root_.contains(group) || root_[group].is_string()) continue;
      if (root_[group].is_object()) {
        check_keys(root_[group], group, names, problems_);
      } else {
        nodes_.refuse(root_[group], group, "an object, or the name of its kind");
      }
    }
  }

  template <class T, class Rule>
  void operator()(const Field& field, T& value, const Rule& rule) {
    if (const Json* node = find(field.path)) read(*node, field, value, rule);
  }
  template <class E>
  void operator()(const Field& field, E& value, const OneOf<E>& rule) {
    if (const Json* node = find(field.path)) {
      read(*node, field, value, rule);
    } else if (rule.follows != nullptr) {
      value = *rule.follows;
    }
  }

  /// The fields that were given and could not be read.
  const Unread& unread() const { return unread_; }

 private:
  template <class T, class Rule>
  void read(const Json& node, const Field& field, T& value, const Rule& rule) {
    const size_t before = problems_.size();
    nodes_.read(node, field.path, rule, value);
    if (problems_.size() > before) unread_.insert(field.path);
  }

  static std::pair<std::string, std::string> split(std::string_view path) {
    size_t dot = path.find('.');
    if (dot == std::string_view::npos) return {"", std::string(path)};
    return {std::string(path.substr(0, dot)), std::string(path.substr(dot + 1))};
  }

  /// The node of a field; nullptr when it is left out. A group given as a string is the name of its kind.
  const Json* find(std::string_view path) const {
    auto [group, name] = split(path);
    const Json* object = &root_;
    if (!group.empty()) {
      auto at = root_.find(group);
      if (at == root_.end()) return nullptr;
      if (at->is_string()) return name == "kind" ? &*at : nullptr;
      object = &*at;
    }
    auto at = object->find(name);
    return at == object->end() ? nullptr : &*at;
  }

  const Json& root_;
  Problems& problems_;
  NodeReader nodes_;
  Unread unread_;
};

template <class Spec>
Result<Spec> read_spec(std::string_view text) {
  const std::string where = std::string(kOp<Spec>) + " spec";
  if (text.size() > kMaxBytes) {
    return invalid_argument(where, refusal(std::to_string(text.size()) + " bytes of JSON", "at most " + std::to_string(kMaxBytes)));
  }
  if (auto problem = json_problem(text)) return invalid_argument(where, *problem);
  const Json root = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) return invalid_argument(where, refusal(text_of_json(root), "a JSON object"));

  Problems problems;
  if (root.contains("op") && root["op"] != kOp<Spec>) problems.add("op", refusal(text_of_json(root["op"]), kOp<Spec>));
  Reader reader(root, problems);
  reader.template check_names<Spec>();
  Spec spec;
  visit_fields(spec, reader);
  if (problems.empty()) return spec;
  add_problems(spec, reader.unread(), problems);  // so that the caller sees at once what is wrong with the rest
  return problems.status();
}

}  // namespace

Result<AttentionSpec> attention_spec_from_json(std::string_view json) {
  return read_spec<AttentionSpec>(json);
}
Result<AppendSpec> append_spec_from_json(std::string_view json) {
  return read_spec<AppendSpec>(json);
}
Result<MergeSpec> merge_spec_from_json(std::string_view json) {
  return read_spec<MergeSpec>(json);
}

}  // namespace lathe
