// What a spec's fields are made of: a Field (name, key tag, doc) with a value and a rule that says what the value may be. The lists
// of fields are in fields.h; validation, printing, JSON, canonical bytes and the field table of docs/spec.md are visitors over
// them.
//
// A visitor is called as visitor(const Field&, value, rule) with one of these pairs:
//   an enum with OneOf of it, int32_t with IntRange, bool with Flag, std::string with Label or ArchName, SplitSpec with SplitRule,
//   TileSpec with TileRule, AttentionHooks with HooksRule.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "lathe/spec/append_spec.h"
#include "lathe/spec/attention_spec.h"

namespace lathe::fields {

struct Field {
  const char* path;  // in JSON and in messages; "layout.page_size" is page_size of the object layout
  uint8_t tag;       // in the canonical bytes, never reused; 0: not part of the identity
  const char* doc;   // one sentence
};

template <class E>
struct EnumName {
  E value;
  const char* name;
};
template <class E>
EnumName(E, const char*) -> EnumName<E>;  // which clang 14 does not find by itself

/// The names of an enum's values, as JSON and people spell them. A value's first name is its own; a later one is a synonym that is
/// read and never written.
template <class E>
inline constexpr std::array<EnumName<E>, 0> kNames{};
template <>
inline constexpr std::array kNames<DType>{EnumName{DType::f16, "f16"}, EnumName{DType::bf16, "bf16"}, EnumName{DType::e4m3, "e4m3"},
                                          EnumName{DType::e5m2, "e5m2"}, EnumName{DType::i8, "i8"}};
template <>
inline constexpr std::array kNames<KvScale>{EnumName{KvScale::none, "none"}, EnumName{KvScale::token, "token"},
                                            EnumName{KvScale::channel, "channel"},
                                            EnumName{KvScale::token_channel, "token_channel"}};
template <>
inline constexpr std::array kNames<KvZero>{EnumName{KvZero::none, "none"}, EnumName{KvZero::token, "token"},
                                           EnumName{KvZero::channel, "channel"}};
template <>
inline constexpr std::array kNames<LayoutKind>{EnumName{LayoutKind::ragged, "ragged"}, EnumName{LayoutKind::paged, "paged"}};
template <>
inline constexpr std::array kNames<PageOrder>{EnumName{PageOrder::nhd, "NHD"}, EnumName{PageOrder::hnd, "HND"}};
template <>
inline constexpr std::array kNames<KvStorage>{EnumName{KvStorage::separate, "separate"}, EnumName{KvStorage::joint, "joint"}};
template <>
inline constexpr std::array kNames<PageIndex>{EnumName{PageIndex::csr, "csr"}, EnumName{PageIndex::table, "table"}};
template <>
inline constexpr std::array kNames<Mask>{EnumName{Mask::none, "none"}, EnumName{Mask::causal, "causal"},
                                         EnumName{Mask::window, "window"}, EnumName{Mask::causal_window, "causal_window"},
                                         EnumName{Mask::causal_window, "both"}};
template <>
inline constexpr std::array kNames<LseOut>{EnumName{LseOut::none, "none"}, EnumName{LseOut::ln, "ln"},
                                           EnumName{LseOut::log2, "log2"}};
template <>
inline constexpr std::array kNames<GqaPack>{EnumName{GqaPack::automatic, "auto"}, EnumName{GqaPack::on, "on"},
                                            EnumName{GqaPack::off, "off"}};
template <>
inline constexpr std::array kNames<Determinism>{EnumName{Determinism::fast, "fast"},
                                                EnumName{Determinism::run_to_run, "run_to_run"},
                                                EnumName{Determinism::batch_invariant, "batch_invariant"}};
template <>
inline constexpr std::array kNames<SplitMode>{EnumName{SplitMode::automatic, "auto"}, EnumName{SplitMode::off, "off"},
                                              EnumName{SplitMode::fixed, "fixed"}};

template <>
inline constexpr std::array kNames<RopePairs>{EnumName{RopePairs::none, "none"}, EnumName{RopePairs::neox, "neox"},
                                              EnumName{RopePairs::interleaved, "interleaved"}};
template <>
inline constexpr std::array kNames<TokenPlace>{EnumName{TokenPlace::slots, "slots"}, EnumName{TokenPlace::positions, "positions"}};

/// The name of `value`; nullptr when it is no value of the enum.
template <class E>
constexpr const char* enum_name(E value) {
  for (const EnumName<E>& entry : kNames<E>)
    if (entry.value == value) return entry.name;
  return nullptr;
}

/// A value of the enum, by its name.
template <class E>
struct OneOf {
  uint32_t except = 0;                 // bit i: the enum value of number i is none that this field may have
  const E* follows = nullptr;          // left out, the field has the value of this one, which is listed before it
  const char* follows_path = nullptr;  // the path of that field

  bool allows(E value) const { return enum_name(value) != nullptr && (except >> static_cast<unsigned>(value) & 1) == 0; }
};

struct IntRange {
  int32_t min, max;  // both included
  int32_t multiple = 1;

  bool allows(int32_t value) const { return value >= min && value <= max && value % multiple == 0; }
};

struct Flag {};

/// Printable UTF-8 for people.
struct Label {
  size_t max_bytes;
};

struct ArchName {};

struct SplitRule {
  IntRange tokens;  // when the mode is fixed
};

/// What a tile must satisfy beyond its form depends on the arch and is the planner's to say (csrc/plan/attention_tile.h).
struct TileRule {
  int32_t max_classes;
};

/// What is wrong with hooks is theirs to say (csrc/spec/attention_hooks.h).
struct HooksRule {
  HookRules findings = attention_findings;
};

/// What a rule allows, for messages and for the field table, e.g. "multiples of 16 in 16..256".
template <class E>
std::string allowed(const OneOf<E>& rule) {
  std::string text;
  for (const EnumName<E>& entry : kNames<E>) {
    if (entry.name != enum_name(entry.value) || !rule.allows(entry.value)) continue;
    text += (text.empty() ? "" : ", ") + std::string(entry.name);
  }
  return text;
}
std::string allowed(const IntRange&);
std::string allowed(const Flag&);
std::string allowed(const Label&);
std::string allowed(const ArchName&);
std::string allowed(const SplitRule&);
std::string allowed(const TileRule&);
std::string allowed(const HooksRule&);

/// A value for people, e.g. "bf16", "128", "fixed 2048". Total: values that no rule allows have a text too.
template <class E>
requires std::is_enum_v<E> std::string text_of(E value) {
  const char* name = enum_name(value);
  return name != nullptr ? name : std::to_string(static_cast<int>(value));
}
std::string text_of(int32_t value);
std::string text_of(bool value);
std::string text_of(const std::string& value);
std::string text_of(const SplitSpec& value);
std::string text_of(const TileSpec& value);
std::string text_of(const AttentionHooks& value);

/// "24 is not allowed; allowed: multiples of 16 in 16..256"
std::string refusal(const std::string& value, const std::string& allowed);

}  // namespace lathe::fields
