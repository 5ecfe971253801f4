// Reading is of hostile input: the text is bounded and scanned (json_scan.h), and every node is checked before it is read.
#include "lathe/spec/expr/json.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "lathe/spec/expr/names.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/parser.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/json_scan.h"
#include "lathe/spec/text.h"

namespace lathe::expr {
namespace {

using OrderedJson = nlohmann::ordered_json;  // the order of declarations is kept

constexpr size_t kMaxJson = 2 * kMaxText;

OrderedJson json_of(const std::array<double, 2>& range, Type type) {
  OrderedJson out = OrderedJson::array();
  for (double end : range) {
    const std::optional<int64_t> whole = type == Type::f32 ? std::nullopt : as_integer(end);
    out.push_back(whole ? OrderedJson(*whole) : OrderedJson(end));
  }
  return out;
}

OrderedJson json_of(const Param& param) {
  OrderedJson out{{"type", name_of(param.type)}};
  if (param.range) out["range"] = json_of(*param.range, param.type);
  return out;
}

OrderedJson json_of(const Tensor& tensor, const std::vector<Param>& params) {
  OrderedJson axes = OrderedJson::array();
  for (const TensorAxis& axis : tensor.axes) {
    if (axis.axis == Axis::number) {
      axes.push_back(axis.value);
    } else {
      axes.push_back(axis.axis == Axis::param ? params[axis.value].name : name_of(axis.axis));
    }
  }
  OrderedJson out{{"elem", name_of(tensor.elem)}, {"axes", std::move(axes)}};
  if (tensor.range) out["range"] = json_of(*tensor.range, read_type(tensor.elem));
  if (tensor.summary) out["summary"] = true;
  if (tensor.sorted) out["sorted"] = true;
  return out;
}

std::string text_of(const OrderedJson& node) {
  return fields::shown(node.dump(-1, ' ', false, OrderedJson::error_handler_t::replace));
}

/// Reads one JSON text into a Parser.
class Reader {
 public:
  Result<Hooks> read(const OrderedJson& root, std::vector<Finding>* warnings, const MoreRules& more) {
    for (const auto& [key, node] : root.items()) {
      const bool is_known = key == "params" || key == "tensors" || key == "normalizer" || key == "rotary" || hook_named(key);
      if (!is_known) refuse(fields::shown(key), "unknown field", "params, tensors, normalizer, rotary, or a hook");
    }
    // What is used comes before what uses it, whatever the order of the keys.
    if (root.contains("params")) each(root["params"], "params", &Reader::param);
    if (root.contains("tensors")) each(root["tensors"], "tensors", &Reader::tensor);
    if (root.contains("normalizer")) normalizer(root["normalizer"]);
    if (root.contains("rotary")) rotary(root["rotary"]);
    for (size_t i = 0; i < kHooks; ++i) {
      const char* name = info(static_cast<Hook>(i)).text;
      if (!root.contains(name)) continue;
      if (const OrderedJson& node = root[name]; node.is_string()) {
        parser_.add_hook(name, static_cast<Hook>(i), node.get_ref<const std::string&>());
      } else {
        refuse(name, text_of(node), "an expression as text");
      }
    }
    return parser_.finish(warnings, more);
  }

 private:
  void refuse(const std::string& where, const std::string& what, const std::string& allowed) {
    if (parser_.problems().size() < 20) parser_.problems().add(where, what + "; allowed: " + allowed);
  }

  void each(const OrderedJson& object, const std::string& path,
            void (Reader::*read_one)(const std::string&, const OrderedJson&, const std::string&)) {
    if (!object.is_object()) return refuse(path, text_of(object), "an object, of declarations by name");
    for (const auto& [name, value] : object.items()) {
      const std::string at = path + "." + fields::shown(name);
      if (value.is_object()) {
        (this->*read_one)(name, value, at);
      } else {
        refuse(at, text_of(value), "an object");
      }
    }
  }

  void check_keys(const OrderedJson& object, const std::string& path, std::initializer_list<std::string_view> known,
                  const char* allowed) {
    for (const auto& [key, value] : object.items()) {
      if (std::find(known.begin(), known.end(), key) == known.end())
        refuse(path + "." + fields::shown(key), "unknown field", allowed);
    }
  }

  static std::string_view string_at(const OrderedJson& object, const char* key) {
    const auto at = object.find(key);
    return at != object.end() && at->is_string() ? std::string_view(at->get_ref<const std::string&>()) : std::string_view();
  }

  bool flag_at(const OrderedJson& object, const std::string& path, const char* key) {
    const auto at = object.find(key);
    if (at == object.end()) return false;
    if (!at->is_boolean()) refuse(path + "." + key, text_of(*at), "true, false");
    return at->is_boolean() && at->get<bool>();
  }

  void param(const std::string& name, const OrderedJson& value, const std::string& at) {
    check_keys(value, at, {"type", "range"}, "type, range");
    Param param{name, Type::i32, {}};
    if (auto type = type_named(string_at(value, "type"))) {
      param.type = *type;
    } else {
      return refuse(at + ".type", value.contains("type") ? text_of(value["type"]) : "is missing", "i32, u32, f32, bool");
    }
    if (range_at(value, at, param.range)) parser_.add_param(at, std::move(param));
  }

  /// False when there is a range that is none.
  bool range_at(const OrderedJson& object, const std::string& path, std::optional<std::array<double, 2>>& out) {
    const auto at = object.find("range");
    if (at == object.end()) return true;
    if (!at->is_array() || at->size() != 2 || !(*at)[0].is_number() || !(*at)[1].is_number()) {
      refuse(path + ".range", text_of(*at), "[least, greatest]");
      return false;
    }
    out = {(*at)[0].get<double>(), (*at)[1].get<double>()};
    return true;
  }

  std::optional<TensorAxis> axis(const OrderedJson& node) const {
    if (node.is_number_unsigned() && node.get<uint64_t>() <= std::numeric_limits<uint32_t>::max()) {
      return TensorAxis{Axis::number, node.get<uint32_t>()};
    }
    if (!node.is_string()) return std::nullopt;
    const auto& text = node.get_ref<const std::string&>();
    if (auto named = axis_named(text)) return TensorAxis{*named, 0};
    const std::vector<Param>& params = parser_.hooks().params;
    for (uint32_t i = 0; i < params.size(); ++i) {
      if (params[i].name == text) return TensorAxis{Axis::param, i};
    }
    return std::nullopt;
  }

  void tensor(const std::string& name, const OrderedJson& value, const std::string& at) {
    check_keys(value, at, {"elem", "axes", "range", "summary", "sorted"}, "elem, axes, range, summary, sorted");
    Tensor tensor{name, Elem::f32, {}, flag_at(value, at, "summary"), flag_at(value, at, "sorted")};
    if (auto elem = elem_named(string_at(value, "elem"))) {
      tensor.elem = *elem;
    } else {
      return refuse(at + ".elem", value.contains("elem") ? text_of(value["elem"]) : "is missing",
                    "f32, f16, bf16, e4m3, e5m2, i32, i8, u8, u32, bool");
    }
    const auto axes = value.find("axes");
    if (axes == value.end() || !axes->is_array()) {
      return refuse(at + ".axes", axes == value.end() ? "is missing" : text_of(*axes), "a list of axes");
    }
    for (const OrderedJson& node : *axes) {
      const auto next = axis(node);
      if (!next) return refuse(at + ".axes", text_of(node), "B, HQ, HKV, TOK, QLEN, KVPOS, SLOT, PAGE, D, N, a number, or a param");
      tensor.axes.push_back(*next);
    }
    if (range_at(value, at, tensor.range)) parser_.add_tensor(at, std::move(tensor));
  }

  void normalizer(const OrderedJson& node) {
    if (node == "softmax" || node == "none") {
      parser_.set_normalizer(node == "none" ? Normalizer::none : Normalizer::softmax);
    } else {
      refuse("normalizer", text_of(node), "softmax, none");
    }
  }

  void rotary(const OrderedJson& node) {
    const bool is_plain = node.is_string() && node.get_ref<const std::string&>().find_first_of(";=") == std::string::npos;
    if (!is_plain) return refuse("rotary", text_of(node), "neox, interleaved, either with (dimensions)");
    rotary_ = "rotary = " + node.get_ref<const std::string&>();
    parser_.add_statements("rotary", rotary_);
  }

  Parser parser_;
  std::string rotary_;  // the parser's text
};

}  // namespace

std::string to_json(const Hooks& hooks) {
  OrderedJson out = OrderedJson::object();
  for (const Param& param : hooks.params) out["params"][param.name] = json_of(param);
  for (const Tensor& tensor : hooks.tensors) out["tensors"][tensor.name] = json_of(tensor, hooks.params);
  if (hooks.normalizer == Normalizer::none) out["normalizer"] = "none";
  if (hooks.rotary != Rotary{}) out["rotary"] = to_text(hooks.rotary);
  for (size_t i = 0; i < kHooks; ++i) {
    const Hook hook = static_cast<Hook>(i);
    if (hooks.roots[i] != kNone) out[info(hook).text] = hook_text(hooks, hook);
  }
  return out.dump();
}

Result<Hooks> hooks_from_json(std::string_view text, std::vector<Finding>* warnings, const MoreRules& more) {
  const std::string where = "hooks";
  if (text.size() > kMaxJson) {
    return invalid_argument(where, std::to_string(text.size()) + " bytes of JSON; allowed: at most " + std::to_string(kMaxJson));
  }
  if (auto problem = json_problem(text)) return invalid_argument(where, *problem);
  const OrderedJson root = OrderedJson::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) return invalid_argument(where, text_of(root) + "; allowed: a JSON object");
  return Reader().read(root, warnings, more);
}

}  // namespace lathe::expr
