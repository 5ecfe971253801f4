// Canonical bytes: two specs have the same ones exactly when they are the same, but for their labels.
#include <span>
#include <string>
#include <vector>

#include "fuzz.h"
#include "lathe/spec/canonical_read.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/fields.h"

namespace {

using namespace lathe;

// Values of fields, from bytes; zeros when these are used up.
class Draw {
 public:
  Draw(const uint8_t* data, size_t size) : data_(data), left_(size) {}

  uint8_t byte() { return left_ == 0 ? 0 : (left_--, *data_++); }
  int32_t number() {
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) value = value << 8 | byte();
    return static_cast<int32_t>(value);
  }

  void value(int32_t& out) { out = number(); }
  void value(bool& out) { out = byte() % 2 == 1; }
  void value(std::string& out) {
    out.resize(byte() % 12);
    for (char& c : out) c = static_cast<char>(byte());
  }
  void value(SplitSpec& out) {
    out.mode = static_cast<SplitMode>(byte() % 3);
    out.tokens = number();
  }
  void value(TileSpec& out) {
    out.automatic = byte() % 2 == 1;
    out.warps = number();
    out.stages = number();
    out.classes.resize(byte() % 5);
    for (TileClass& c : out.classes) c = {number(), number()};
  }
  void value(AttentionHooks& out) {  // no two of them mean the same
    static constexpr const char* kTexts[] = {"",
                                             "mask = kv_pos <= q_pos",
                                             "param W: i32; mask = kv_pos <= q_pos && q_pos - kv_pos < W",
                                             "param cap: f32; logits = cap * tanh(score / cap)",
                                             "tensor s: f32[HQ]; sink = s[h]",
                                             "tensor g: bf16[TOK, HQ, D]; output = o * sigmoid(g[tok, h, d] + lse)",
                                             "rotary = interleaved; query = rot(x)",
                                             "query = rot(x)",
                                             "normalizer = none; logits = sigmoid(score)",
                                             "logits = unsafe_cuda(\"return a0;\", score)",
                                             "logits = unsafe_cuda(\"return a0; \", score)"};
    out = *expr::parse(kTexts[byte() % std::size(kTexts)]);
  }
  template <class E>
  requires std::is_enum_v<E>
  void value(E& out) { out = fields::kNames<E>[byte() % std::size(fields::kNames<E>)].value; }

 private:
  const uint8_t* data_;
  size_t left_;
};

template <class Spec>
void compare(Draw& draw) {
  Spec a;
  fields::visit_fields(a, [&](const auto&, auto& field, const auto&) { draw.value(field); });
  // The other differs in one field, or in all.
  Spec b = a;
  const uint8_t which = draw.byte();
  uint8_t at = 0;
  fields::visit_fields(b, [&](const auto&, auto& field, const auto&) {
    if (which == at || which == 255) draw.value(field);
    at++;
  });
  const bool same_bytes = canonical_bytes(a) == canonical_bytes(b);
  b.label = a.label;
  testing::require(same_bytes == (a == b), "canonical bytes are equal exactly when the specs are");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  (void)canonical_fields(std::as_bytes(std::span(data, size)));  // which come from a cache's files
  Draw draw(data, size);
  switch (draw.byte() % 4) {
    case 0:
      compare<MergeSpec>(draw);
      break;
    case 1:
      compare<AppendSpec>(draw);
      break;
    default:
      compare<AttentionSpec>(draw);
  }
  return 0;
}
