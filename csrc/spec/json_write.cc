#include <nlohmann/json.hpp>

#include "lathe/spec/fields.h"

namespace lathe {
namespace {

using namespace fields;
using OrderedJson = nlohmann::ordered_json;

template <class E>
requires std::is_enum_v<E> OrderedJson json_of(E value) {
  const char* name = enum_name(value);
  return name != nullptr ? OrderedJson(name) : OrderedJson(static_cast<int>(value));  // no name: a spec that validate() refuses
}
OrderedJson json_of(int32_t value) {
  return value;
}
OrderedJson json_of(bool value) {
  return value;
}
OrderedJson json_of(const std::string& value) {
  return value;
}

OrderedJson json_of(const SplitSpec& value) {
  if (value.mode != SplitMode::fixed) return json_of(value.mode);
  OrderedJson out = OrderedJson::object();
  out[enum_name(SplitMode::fixed)] = value.tokens;
  return out;
}

OrderedJson json_of(const TileSpec& value) {
  if (value.automatic) return "auto";
  OrderedJson classes = OrderedJson::array();
  for (const TileClass& c : value.classes) classes.push_back(OrderedJson{{"q", c.q}, {"kv", c.kv}});
  return OrderedJson{{"warps", value.warps}, {"stages", value.stages}, {"classes", std::move(classes)}};
}

OrderedJson json_of(const AttentionHooks& value) {
  return value.text();
}

struct JsonWriter {
  OrderedJson& out;

  template <class T, class Rule>
  void operator()(const Field& field, const T& value, const Rule&) {
    std::string path = field.path;
    size_t dot = path.find('.');
    OrderedJson& object = dot == std::string::npos ? out : out[path.substr(0, dot)];
    object[path.substr(dot == std::string::npos ? 0 : dot + 1)] = json_of(value);
  }
};

template <class Spec>
std::string json_text(const Spec& spec) {
  OrderedJson out = OrderedJson::object();
  out["op"] = kOp<Spec>;
  visit_fields(spec, JsonWriter{out});
  // Text that is not UTF-8 (validate() refuses it) is written with replacement characters: writing must not fail.
  return out.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
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
