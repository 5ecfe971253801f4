#include "dense_mask.h"

#include <algorithm>
#include <cstring>

namespace lathe::expr::testing {
namespace {

constexpr int64_t kFreeExtent = 6;
constexpr size_t kStored = 4096;

int64_t number(const Value& value, Type type) {
  return type == Type::u32 ? int64_t{static_cast<uint32_t>(value.i)} : int64_t{value.i};
}

}  // namespace

class ElementEnvironment : public Environment {
 public:
  ElementEnvironment(const DenseMask& mask, int32_t q, int32_t kv, int32_t h) : mask_(mask), q_(q), kv_(kv), h_(h) {}

  Value input(Input input) const override {
    switch (input) {
      case Input::b:
        return Value::of(mask_.b_);
      case Input::h:
        return Value::of(h_);
      case Input::hk:
        return Value::of(h_ / mask_.size_.group);
      case Input::q:
        return Value::of(q_);
      case Input::kv:
        return Value::of(kv_);
      case Input::tok:
        return Value::of(mask_.tok_begin_ + q_);
      case Input::slot:
        return Value::of((kv_ * 37 + 11) % 101);
      case Input::qo_len:
        return Value::of(mask_.size_.qo_len);
      case Input::kv_len:
        return Value::of(mask_.size_.kv_len);
      case Input::group:
        return Value::of(mask_.size_.group);
      default:
        return Value::of(mask_.level_);
    }
  }
  Value param(uint32_t index) const override { return mask_.params_[index]; }
  Value read(uint32_t tensor, std::span<const int32_t> index) const override {
    std::array<int64_t, kMaxAxes> at{};
    for (size_t i = 0; i < index.size(); ++i) at[i] = std::clamp<int64_t>(index[i], 0, mask_.extent(tensor, i) - 1);
    return mask_.elements_[tensor][mask_.place(tensor, {at.data(), index.size()})];
  }

 private:
  const DenseMask& mask_;
  int32_t q_, kv_, h_;
};

DenseMask::DenseMask(const Hooks& hooks, Rng& rng, Size size, bool fit)
    : hooks_(hooks),
      size_(size),
      b_(static_cast<int32_t>(rng() % 3)),
      level_(static_cast<int32_t>(rng() % 2)),
      tok_begin_(static_cast<int32_t>(rng() % 5)) {
  const int32_t most = std::max(size.qo_len, size.kv_len);
  auto near = [&] { return static_cast<int32_t>(rng() % static_cast<uint64_t>(most + 4)) - 2; };
  for (const Param& param : hooks.params) {
    int64_t value = rng() % 8 != 0 ? near() : static_cast<int32_t>(rng());
    if (param.type == Type::i32) value = std::clamp(value, -kDefaultRange, kDefaultRange);
    if (param.range) value = std::clamp(value, static_cast<int64_t>((*param.range)[0]), static_cast<int64_t>((*param.range)[1]));
    if (param.type == Type::boolean) value &= 1;
    params_.push_back(param.type == Type::f32 ? Value::of(static_cast<double>(near())) : Value::of(static_cast<int32_t>(value)));
  }
  for (const Tensor& tensor : hooks.tensors) {
    std::vector<Value> elements(kStored);
    const bool wild = rng() % 4 == 0;
    const int32_t same = near();
    const bool flat = rng() % 4 == 0;  // whole tensors of one value decide more
    for (Value& element : elements) {
      int32_t value = wild ? static_cast<int32_t>(rng()) : flat && rng() % 16 != 0 ? same : near();
      if (tensor.elem == Elem::boolean) value &= 1;
      if (tensor.elem == Elem::u8) value &= 255;
      if (tensor.elem == Elem::i8) value = static_cast<int8_t>(value);
      element = read_type(tensor.elem) == Type::f32 ? Value::of(static_cast<double>(value)) : Value::of(value);
    }
    elements_.push_back(std::move(elements));
  }
  if (fit) fit_tensors(rng);
}

std::string DenseMask::text() const {
  std::string out = " (qo_len " + std::to_string(size_.qo_len) + ", kv_len " + std::to_string(size_.kv_len);
  for (size_t i = 0; i < params_.size(); ++i) out += ", " + hooks_.params[i].name + " " + std::to_string(params_[i].i);
  return out + ")";
}

void DenseMask::fill(const char* name, const std::vector<int64_t>& values) {
  for (size_t i = 0; i < hooks_.tensors.size(); ++i) {
    if (hooks_.tensors[i].name != name) continue;
    for (size_t k = 0; k < values.size() && k < kStored; ++k) elements_[i][k] = Value::of(static_cast<int32_t>(values[k]));
  }
}

/// Documents, image spans and the like, by position; tensors of them are along tok.
void DenseMask::fit_tensors(Rng& rng) {
  const int64_t shift = size_.kv_len - size_.qo_len;
  const int64_t prefix = static_cast<int64_t>(rng() % static_cast<uint64_t>(size_.kv_len));
  std::vector<int64_t> start, lo, hi, item;
  int64_t begin = 0, end = 0;
  bool span = false;
  for (int64_t position = 0; position < size_.kv_len; ++position) {
    if (position == end) {
      begin = end;
      end += 1 + static_cast<int64_t>(rng() % 9);
      span = rng() % 2 == 0;
    }
    if (position < shift) continue;
    start.push_back(begin);
    item.push_back(position < prefix ? 0 : std::max(begin, prefix));
    lo.push_back(span ? begin : position);
    hi.push_back(span ? std::min<int64_t>(end, size_.kv_len) : position);
  }
  auto packed = [&](std::vector<int64_t> rows) {
    rows.insert(rows.begin(), static_cast<size_t>(tok_begin_), 0);
    return rows;
  };
  fill("start", packed(start));
  fill("lo", packed(lo));
  fill("hi", packed(hi));
  fill("it", packed(item));
  fill("pf", {prefix, prefix, prefix});
  fill("cx", {prefix, prefix, prefix});
  fill("kind", {0, 1, 0, 1, 1, 0, 0, 1});
}

int64_t DenseMask::extent(uint32_t tensor, size_t axis) const {
  const TensorAxis& kind = hooks_.tensors[tensor].axes[axis];
  switch (kind.axis) {
    case Axis::batch:
      return 3;
    case Axis::qo_heads:
      return size_.heads;
    case Axis::kv_heads:
      return std::max(1, size_.heads / size_.group);
    case Axis::tokens:
      return tok_begin_ + size_.qo_len;
    case Axis::qo_len:
      return size_.qo_len;
    case Axis::kv_pos:
      return size_.kv_len;
    case Axis::slots:
      return 101;
    case Axis::number:
      return kind.value;
    case Axis::param:
      return std::max(1, params_[kind.value].i);
    default:
      return kFreeExtent;
  }
}

size_t DenseMask::place(uint32_t tensor, std::span<const int64_t> index) const {
  size_t out = 0;
  for (size_t i = 0; i < index.size(); ++i) out = out * static_cast<size_t>(extent(tensor, i)) + static_cast<size_t>(index[i]);
  return out % kStored;
}

std::optional<Interval> DenseMask::summary(uint32_t tensor, std::span<const Interval> index) const {
  const Type type = read_type(hooks_.tensors[tensor].elem);
  if (type == Type::f32) return std::nullopt;
  std::array<Interval, kMaxAxes> within{};
  std::array<int64_t, kMaxAxes> at{};
  int64_t count = 1;
  for (size_t i = 0; i < index.size(); ++i) {
    const int64_t last = extent(tensor, i) - 1;
    within[i] = {std::clamp<int64_t>(index[i].lo, 0, last), std::clamp<int64_t>(index[i].hi, 0, last)};
    at[i] = within[i].lo;
    count *= within[i].hi - within[i].lo + 1;
    if (count > 256) return std::nullopt;
  }
  std::optional<Interval> out;
  for (int64_t n = 0; n < count; ++n) {
    const int64_t value = number(elements_[tensor][place(tensor, {at.data(), index.size()})], type);
    out = out ? Interval{std::min(out->lo, value), std::max(out->hi, value)} : Interval{value, value};
    for (size_t i = index.size(); i-- > 0;) {
      if (++at[i] <= within[i].hi) break;
      at[i] = within[i].lo;
    }
  }
  return out;
}

void DenseMask::evaluate() {
  const Hooks mapped = with_positions(hooks_);
  const Interpreter interpreter(mapped, mapped.root(Hook::mask));
  values_.clear();
  for (int32_t h = 0; h < size_.heads; ++h) {
    for (int32_t q = 0; q < size_.qo_len; ++q) {
      for (int32_t kv = 0; kv < size_.kv_len; ++kv)
        values_.push_back(interpreter.value(ElementEnvironment(*this, q, kv, h)).i != 0 ? 1 : 0);
    }
  }
}

bool DenseMask::at(int64_t q, int64_t kv, int64_t h) const {
  if (q < 0 || q >= size_.qo_len || kv < 0 || kv >= size_.kv_len) return false;
  return values_[static_cast<size_t>((h * size_.qo_len + q) * size_.kv_len + kv)] != 0;
}

Truth DenseMask::truth(const Tile& tile) const {
  bool any = false, all = true;
  for (int64_t h = tile.h.lo; h <= tile.h.hi; ++h) {
    for (int64_t q = tile.q.lo; q <= tile.q.hi; ++q) {
      for (int64_t kv = tile.kv.lo; kv <= tile.kv.hi; ++kv) {
        any = any || at(q, kv, h);
        all = all && at(q, kv, h);
      }
    }
  }
  return !any ? Truth::empty : all ? Truth::full : Truth::partial;
}

Scope DenseMask::scope() const {
  return {b_,           level_,
          size_.group,  size_.qo_len,
          size_.kv_len, tok_begin_,
          params_,      [this](uint32_t tensor, std::span<const Interval> index) { return summary(tensor, index); }};
}

}  // namespace lathe::expr::testing
