// Every spec that differs from a given one in one field: from the field list, so that a new field is covered at once.
#pragma once

#include <string>
#include <vector>

#include "lathe/spec/expr/parse.h"
#include "lathe/spec/fields.h"

namespace lathe::testing {

template <class E>
std::vector<E> other_values(const E& value, const fields::OneOf<E>&) {
  std::vector<E> out;
  for (const auto& entry : fields::kNames<E>)
    if (entry.value != value && entry.name == fields::enum_name(entry.value)) out.push_back(entry.value);
  return out;
}
inline std::vector<int32_t> other_values(int32_t value, const fields::IntRange& rule) {
  std::vector<int32_t> out;
  for (int32_t other :
       {rule.min, rule.max, value + 1, value - 1, value + 16, value ^ 0x100, value ^ 0x10000, value ^ 0x1000000, -value})
    if (other != value) out.push_back(other);
  return out;
}
inline std::vector<bool> other_values(bool value, const fields::Flag&) {
  return {!value};
}
inline std::vector<std::string> other_values(const std::string& value, const fields::Label&) {
  return {value + "x", "y" + value};
}
inline std::vector<std::string> other_values(const std::string& value, const fields::ArchName&) {
  return {value + "a", value == "sm_86" ? "sm_80" : "sm_86", ""};
}
inline std::vector<SplitSpec> other_values(const SplitSpec& value, const fields::SplitRule&) {
  std::vector<SplitSpec> out;
  for (const SplitSpec& other : {SplitSpec{SplitMode::automatic, 0}, SplitSpec{SplitMode::off, 0}, SplitSpec{SplitMode::fixed, 16},
                                 SplitSpec{SplitMode::fixed, value.tokens + 16}})
    if (other != value) out.push_back(other);
  return out;
}
inline std::vector<TileSpec> other_values(const TileSpec& value, const fields::TileRule&) {
  if (value.automatic) return {{false, 8, 2, {{128, 64}}}};
  std::vector<TileSpec> out{TileSpec{}};
  auto with = [&](auto change) { change(out.emplace_back(value)); };
  with([](TileSpec& t) { t.warps = 12 - t.warps; });
  with([](TileSpec& t) { t.stages += 1; });
  with([](TileSpec& t) { t.classes.push_back({16, 16}); });
  with([](TileSpec& t) { t.classes.back().kv += 16; });
  with([](TileSpec& t) { t.classes.front().q += 16; });
  return out;
}

inline std::vector<AttentionHooks> other_values(const AttentionHooks& value, const fields::HooksRule&) {
  std::vector<AttentionHooks> out;
  for (const char* text :
       {"", "mask = kv_pos <= q_pos", "param cap: f32; logits = cap * tanh(score / cap)", "normalizer = none; logits = score * 2",
        "normalizer = none", "lse_transform = lse * 2", "rotary = neox(256); query = rot(x)",
        "q_pos := q * 2; logits = score + f32(q_pos)", "output = o * sigmoid(lse)"}) {
    AttentionHooks other = *expr::parse(text);
    if (other != value) out.push_back(std::move(other));
  }
  return out;
}

template <class Spec>
struct SingleChange {
  std::string path;
  bool identity;  // whether the field is part of the identity
  Spec spec;
};

/// Many are invalid: what validate() says of them is no concern here.
template <class Spec>
std::vector<SingleChange<Spec>> single_changes(const Spec& base) {
  std::vector<SingleChange<Spec>> out;
  Spec work = base;
  fields::visit_fields(work, [&](const fields::Field& field, auto& value, const auto& rule) {
    const auto original = value;
    for (const auto& other : other_values(original, rule)) {
      value = other;
      out.push_back({field.path, field.tag != 0, work});
    }
    value = original;
  });
  return out;
}

}  // namespace lathe::testing
