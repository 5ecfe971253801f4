#include <nlohmann/json.hpp>

#include "lathe/spec/fields.h"

namespace lathe {
namespace {

using namespace fields;
using Json = nlohmann::ordered_json;

template <class E>
requires std::is_enum_v<E> Json json_of(E value) {
  const char* name = enum_name(value);
  return name != nullptr ? Json(name) : Json(static_cast<int>(value));  // no name: a spec that validate() refuses
}
Json json_of(int32_t value) {
  return value;
}
Json json_of(bool value) {
  return value;
}
Json json_of(const std::string& value) {
  return value;
}

Json json_of(const SplitSpec& value) {
  if (value.mode != SplitMode::fixed) return json_of(value.mode);
  Json out = Json::object();
  out[enum_name(SplitMode::fixed)] = value.tokens;
  return out;
}

Json json_of(const TileSpec& value) {
  if (value.automatic) return "auto";
  Json classes = Json::array();
  for (const TileClass& c : value.classes) classes.push_back(Json{{"q", c.q}, {"kv", c.kv}});
  return Json{{"warps", value.warps}, {"stages", value.stages}, {"classes", std::move(classes)}};
}

Json json_of(const AttentionHooks& value) {
  return value.text();
}

struct JsonWriter {
  Json& out;

  template <class T, class Rule>
  void operator()(const Field& field, const T& value, const Rule&) {
    std::string path = field.path;
    size_t dot = path.find('.');
    Json& object = dot == std::string::npos ? out : out[path.substr(0, dot)];
    object[path.substr(dot == std::string::npos ? 0 : dot + 1)] = json_of(value);
  }
};

template <class Spec>
std::string json_text(const Spec& spec) {
  Json out = Json::object();
  out["op"] = kOp<Spec>;
  visit_fields(spec, JsonWriter{out});
  // Text that is not UTF-8 (validate() refuses it) is written with replacement characters: writing must not fail.
  return out.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::string to_json(const AttentionSpec& spec) {
  return json_text(spec);
}
std::string to_json(const AppendSpec& spec) {
  return json_text(spec);
}
std::string to_json(const MergeSpec& spec) {
  return json_text(spec);
}

}  // namespace lathe
