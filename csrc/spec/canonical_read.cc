#include "lathe/spec/canonical_read.h"

#include <algorithm>
#include <array>
#include <bitset>
#include <cstring>

#include "lathe/spec/expr/bytes_read.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/fields.h"
#include "lathe/spec/text.h"

namespace lathe {
namespace {

using namespace fields;

constexpr size_t kMostHex = 64;  // bytes that are shown of what is not understood

std::string in_hex(BytesView bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text = "0x";
  for (std::byte b : bytes.first(std::min(bytes.size(), kMostHex))) {
    text += kDigits[std::to_integer<unsigned>(b) >> 4];
    text += kDigits[std::to_integer<unsigned>(b) & 15];
  }
  return bytes.size() > kMostHex ? text + "..." : text;
}

template <class T>
bool take(BytesView& in, T& out) {
  if (in.size() < sizeof(T)) return false;
  std::memcpy(&out, in.data(), sizeof(T));
  in = in.subspan(sizeof(T));
  return true;
}

// A value as the writer of canonical.cc puts it, which is all of `in`; false when it is none.
template <class E>
requires std::is_enum_v<E>
bool read(BytesView in, E& out) {
  uint8_t number = 0;
  if (!take(in, number) || !in.empty()) return false;
  out = static_cast<E>(number);
  return enum_name(out) != nullptr;
}
bool read(BytesView in, int32_t& out) {
  return take(in, out) && in.empty();
}
bool read(BytesView in, bool& out) {
  uint8_t number = 0;
  if (!take(in, number) || !in.empty() || number > 1) return false;
  out = number == 1;
  return true;
}
bool read(BytesView in, std::string& out) {
  out.assign(reinterpret_cast<const char*>(in.data()), in.size());
  return is_printable(out);
}
bool read(BytesView in, SplitSpec& out) {
  return in.size() == 5 && read(in.first(1), out.mode) && read(in.subspan(1), out.tokens);
}
bool read(BytesView in, TileSpec& out) {
  constexpr size_t kHead = 9, kClass = 8, kMostClasses = 16;
  if (in.size() < kHead || (in.size() - kHead) % kClass != 0 || in.size() > kHead + kMostClasses * kClass) return false;
  if (!read(in.first(1), out.automatic)) return false;
  in = in.subspan(1);
  take(in, out.warps);
  take(in, out.stages);
  while (!in.empty()) {
    TileClass& c = out.classes.emplace_back();
    take(in, c.q);
    take(in, c.kv);
  }
  return true;
}

template <class T>
std::string text_in(BytesView in) {
  T value{};
  return read(in, value) ? text_of(value) : in_hex(in);
}

// The parts of hooks that are given, each a field of its own.
void add_hooks(const std::string& path, BytesView in, std::vector<CanonicalField>& out) {
  const auto hooks = expr::hooks_from_bytes(in);
  if (!hooks) return out.push_back({path, in_hex(in)});
  const auto add = [&](const std::string& part, std::string text) {
    std::replace(text.begin(), text.end(), '\n', ' ');
    if (!text.empty()) out.push_back({path + "." + part, std::move(text)});
  };
  std::string params, tensors;
  for (const expr::Param& param : hooks->params) params += (params.empty() ? "" : ", ") + expr::to_text(param);
  for (const expr::Tensor& tensor : hooks->tensors) tensors += (tensors.empty() ? "" : ", ") + expr::to_text(tensor, hooks->params);
  add("params", params);
  add("tensors", tensors);
  if (hooks->normalizer == expr::Normalizer::none) add("normalizer", "none");
  if (hooks->rotary != expr::Rotary{}) add("rotary", expr::to_text(hooks->rotary));
  for (size_t i = 0; i < expr::kHooks; ++i) {
    const auto hook = static_cast<expr::Hook>(i);
    if (hooks->root(hook) != expr::kNone) add(expr::info(hook).text, expr::hook_text(*hooks, hook));
  }
}

// What the writer leaves out, it leaves out at this value; other fields are always there.
template <class T>
std::string text_of_absent() {
  constexpr bool kMayBe = std::is_same_v<T, KvScale> || std::is_same_v<T, KvZero>;
  return kMayBe ? "none" : "";
}

struct Record {
  uint8_t tag;
  BytesView value;
};

// The fields as tag and value. No tag stands twice, so there are at most 256.
std::optional<std::vector<Record>> records(BytesView in) {
  std::vector<Record> out;
  std::bitset<256> seen;
  while (!in.empty()) {
    uint8_t tag = 0;
    uint32_t length = 0;
    if (!take(in, tag) || !take(in, length) || length > in.size() || seen[tag]) return std::nullopt;
    seen[tag] = true;
    out.push_back({tag, in.first(length)});
    in = in.subspan(length);
  }
  return out;
}

template <class Spec>
std::optional<std::vector<CanonicalField>> fields_of(BytesView in) {
  uint16_t version = 0;
  if (!take(in, version) || version != kVersion<Spec>) return std::nullopt;
  auto found = records(in);
  if (!found) return std::nullopt;
  std::vector<CanonicalField> out{{"op", kOp<Spec>}};
  const Spec preset;
  visit_fields(preset, [&]<class T>(const Field& field, const T&, const auto&) {
    if (field.tag == 0) return;
    const auto at = std::ranges::find(*found, field.tag, &Record::tag);
    if (at == found->end()) {
      if (!std::is_same_v<T, AttentionHooks>) out.push_back({field.path, text_of_absent<T>()});
    } else {
      if constexpr (std::is_same_v<T, AttentionHooks>) {
        add_hooks(field.path, at->value, out);
      } else {
        out.push_back({field.path, text_in<T>(at->value)});
      }
      found->erase(at);
    }
  });
  for (const Record& unknown : *found) out.push_back({"tag " + std::to_string(unknown.tag), in_hex(unknown.value)});
  return out;
}

}  // namespace

std::optional<std::vector<CanonicalField>> canonical_fields(BytesView bytes) {
  const auto end = std::ranges::find(bytes, std::byte{0});
  if (end == bytes.end()) return std::nullopt;
  const auto length = static_cast<size_t>(end - bytes.begin());
  const std::string_view op(reinterpret_cast<const char*>(bytes.data()), length);
  const BytesView rest = bytes.subspan(length + 1);
  if (op == kOp<AttentionSpec>) return fields_of<AttentionSpec>(rest);
  if (op == kOp<AppendSpec>) return fields_of<AppendSpec>(rest);
  if (op == kOp<MergeSpec>) return fields_of<MergeSpec>(rest);
  return std::nullopt;
}

}  // namespace lathe
