#include "lathe/spec/rules.h"

#include <algorithm>

#include "lathe/spec/text.h"

namespace lathe::fields {

std::string allowed(const IntRange& rule) {
  std::string range = std::to_string(rule.min) + ".." + std::to_string(rule.max);
  return rule.multiple == 1 ? range : "multiples of " + std::to_string(rule.multiple) + " in " + range;
}

std::string allowed(const Flag&) {
  return "true, false";
}

std::string allowed(const Label& rule) {
  return "at most " + std::to_string(rule.max_bytes) + " bytes of UTF-8 without control characters";
}

std::string allowed(const ArchName&) {
  return "host, or sm_NN, sm_NNa, sm_NNf with NN at least 80";
}

std::string allowed(const SplitRule& rule) {
  return R"("auto", "off", {"fixed": n} with n in )" + allowed(rule.tokens);
}

std::string allowed(const TileRule& rule) {
  return R"("auto", {"warps": w, "stages": s, "classes": [{"q": rows, "kv": tokens}, ...]} with 1..)" +
         std::to_string(rule.max_classes) + " classes";
}

std::string allowed(const HooksRule&) {
  return "text of docs/expressions.md, or its JSON form; empty: none";
}

std::string text_of(int32_t value) {
  return std::to_string(value);
}
std::string text_of(bool value) {
  return value ? "true" : "false";
}
std::string text_of(const std::string& value) {
  return shown(value);
}

std::string text_of(const SplitSpec& value) {
  std::string mode = text_of(value.mode);
  return value.mode == SplitMode::fixed || value.tokens != 0 ? mode + " " + std::to_string(value.tokens) : mode;
}

std::string text_of(const TileSpec& value) {
  if (value == TileSpec{}) return "auto";
  std::string text = value.automatic ? "auto with " : "";
  text += std::to_string(value.warps) + " warps, " + std::to_string(value.stages) + " stages, classes";
  for (const TileClass& c : value.classes) text += " " + std::to_string(c.q) + "x" + std::to_string(c.kv);
  if (value.classes.empty()) text += " none";
  return text;
}

std::string text_of(const AttentionHooks& value) {
  if (value.empty()) return "none";
  if (!value.problems().empty()) return "{refused}";
  std::string text = value.text();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return "{" + text.substr(0, text.size() - 1) + "}";
}

std::string refusal(const std::string& value, const std::string& allowed) {
  return value + " is not allowed; allowed: " + allowed;
}

}  // namespace lathe::fields

namespace lathe {
namespace {

template <class E>
const char* name_or_mark(E value) {
  const char* name = fields::enum_name(value);
  return name != nullptr ? name : "?";
}

}  // namespace

const char* name_of(DType value) {
  return name_or_mark(value);
}
const char* name_of(Mask value) {
  return name_or_mark(value);
}
const char* name_of(LseOut value) {
  return name_or_mark(value);
}
const char* name_of(KvZero value) {
  return name_or_mark(value);
}
const char* name_of(Determinism value) {
  return name_or_mark(value);
}

}  // namespace lathe
