#include "lathe/proof/chosen_keys.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <random>

#include "lathe/oracle/float16.h"
#include "lathe/proof/harness.h"
#include "lathe/proof/memory.h"

namespace lathe::testing {
namespace {

constexpr int64_t kWords = ChosenHooks::kMostKeys / 32;
constexpr double kCap = 3.5;

std::vector<float> draw_floats(std::mt19937_64& rng, int64_t count, float lo, float hi) {
  std::uniform_real_distribution<float> uniform(lo, hi);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& x : out) x = uniform(rng);
  return out;
}

/// Dense rows [rows, heads, dim] of elements, with the scales of codes.
struct Rows {
  DType format;
  int64_t heads, dim;
  KvScale scale = KvScale::none;
  KvZero zero = KvZero::none;
  std::vector<uint16_t> elements = {};
  float of_all = 1;
  std::vector<float> of_tokens = {}, of_channels = {}, zeros = {};

  size_t row(int64_t i, int64_t head) const { return static_cast<size_t>(i * heads + head); }
  double element(int64_t i, int64_t head, int64_t d) const {
    return oracle::decode(format, elements[row(i, head) * static_cast<size_t>(dim) + static_cast<size_t>(d)]);
  }
  double of_channel(int64_t head, int64_t d) const {
    return has_channel_scale(scale) ? static_cast<double>(of_channels[static_cast<size_t>(head * dim + d)]) : 1;
  }
  /// What an element stands for, but for its channel's scale.
  double value(int64_t i, int64_t head, int64_t d) const {
    double x = element(i, head, d);
    if (zero == KvZero::token) x -= static_cast<double>(zeros[row(i, head)]);
    if (zero == KvZero::channel) x -= static_cast<double>(zeros[static_cast<size_t>(head * dim + d)]);
    if (has_token_scale(scale)) x *= static_cast<double>(of_tokens[row(i, head)]);
    return is_code(format) ? x * static_cast<double>(of_all) : x;
  }
};

/// Tables of scales have `table_rows` of them.
void draw(Rows& rows, int64_t count, int64_t table_rows, std::mt19937_64& rng) {
  std::normal_distribution<double> normal;
  const int64_t places = table_rows * rows.heads, channels = rows.heads * rows.dim;
  rows.elements.resize(static_cast<size_t>(count * rows.heads * rows.dim));
  const double spread = rows.format == DType::i8 ? 50 : 1;
  for (uint16_t& x : rows.elements) x = oracle::encode(rows.format, spread * normal(rng));
  if (!is_code(rows.format)) return;
  rows.of_all = draw_floats(rng, 1, 0.7F, 1.2F)[0] / static_cast<float>(spread);
  if (has_token_scale(rows.scale)) rows.of_tokens = draw_floats(rng, places, 0.5, 1.5);
  if (has_channel_scale(rows.scale)) rows.of_channels = draw_floats(rng, channels, 0.5, 1.5);
  if (rows.zero != KvZero::none) rows.zeros = draw_floats(rng, rows.zero == KvZero::token ? places : channels, -20, 20);
}

/// All that one run reads.
struct Values {
  Rows q, k, v;
  std::vector<float> sinks, of_slots, of_tokens;
  std::vector<uint32_t> bits;
};

Values draw_values(const ChosenCase& c, std::mt19937_64& rng) {
  const AttentionSpec& spec = c.spec;
  const int64_t heads = int64_t{c.kv_heads} * spec.group_size;
  Values out{{spec.q_dtype, heads, spec.head_dim_qk},
             {spec.kfmt, c.kv_heads, spec.head_dim_qk, spec.kscale, spec.kzero},
             {spec.vfmt, c.kv_heads, spec.head_dim_vo, spec.vscale, spec.vzero}};
  const int64_t table_rows = std::max<int64_t>(c.keys, spec.layout.page_size);  // a page at least, as the API has it
  draw(out.q, c.tokens, 0, rng), draw(out.k, c.keys, table_rows, rng), draw(out.v, c.keys, table_rows, rng);
  out.sinks = draw_floats(rng, heads, -1, 3);
  // Tensors of hooks have at least one place in each axis.
  const int64_t tokens = std::max<int64_t>(c.tokens, 1), keys = std::max<int64_t>(c.keys, 1);
  out.of_slots = draw_floats(rng, keys * heads, -2, 2);
  out.of_tokens = draw_floats(rng, tokens, 0.5, 2);
  out.bits.resize(static_cast<size_t>(tokens * kWords));
  for (uint32_t& word : out.bits) word = static_cast<uint32_t>(rng());
  // What nobody sees is never part of a result.
  std::vector<uint8_t> seen(static_cast<size_t>(c.keys * c.kv_heads));
  for (int64_t t = 0; t < c.tokens; ++t)
    for (int64_t head = 0; head < c.kv_heads; ++head)
      for (const int32_t key : c.seen(t, head)) seen[out.k.row(key, head)] = 1;
  for (Rows* rows : {&out.k, &out.v}) {
    const auto dim = static_cast<ptrdiff_t>(rows->dim);
    for (size_t row = 0; row < seen.size(); ++row)
      if (seen[row] == 0)
        std::fill_n(rows->elements.begin() + static_cast<ptrdiff_t>(row) * dim, dim, oracle::nan_pattern(rows->format));
  }
  return out;
}

/// One row of o, and its log-sum-exp.
struct Expected {
  std::vector<double> o;
  double lse;
};

Expected expect(const ChosenCase& c, const Values& x, int64_t t, int64_t h) {
  const AttentionSpec& spec = c.spec;
  const int64_t kv_head = h / spec.group_size;
  std::vector<double> query(static_cast<size_t>(spec.head_dim_qk));
  for (int64_t d = 0; d < spec.head_dim_qk; ++d) {
    double& value = query[static_cast<size_t>(d)];
    value = x.q.element(t, h, d);
    // The query takes the scales of keys' channels, and is rounded then (csrc/spec/attention_spec.h).
    if (has_channel_scale(spec.kscale))
      value = oracle::decode(spec.q_dtype, oracle::encode(spec.q_dtype, value * x.k.of_channel(kv_head, d)));
  }
  Expected out{std::vector<double>(static_cast<size_t>(spec.head_dim_vo)), 0};
  double total = c.hooks.sinks ? std::exp(static_cast<double>(x.sinks[static_cast<size_t>(h)])) : 0;
  int64_t place = -1;
  for (const int32_t key : c.seen(t, kv_head)) {
    ++place;
    if (c.hooks.places && place % 3 == 1) continue;
    if (c.hooks.bits && (x.bits[static_cast<size_t>(t * kWords + key / 32)] >> (key % 32) & 1) == 0) continue;
    double score = 0;
    for (int64_t d = 0; d < spec.head_dim_qk; ++d) score += query[static_cast<size_t>(d)] * x.k.value(key, kv_head, d);
    score /= std::sqrt(static_cast<double>(spec.head_dim_qk));
    if (c.hooks.capped) score = kCap * std::tanh(score / kCap);
    if (c.hooks.tables)
      score = score * static_cast<double>(x.of_tokens[static_cast<size_t>(t)]) +
              static_cast<double>(x.of_slots[static_cast<size_t>(key * x.q.heads + h)]);
    const double weight = std::exp(score);
    total += weight;
    for (int64_t d = 0; d < spec.head_dim_vo; ++d)
      out.o[static_cast<size_t>(d)] += weight * x.v.value(key, kv_head, d) * x.v.of_channel(kv_head, d);
  }
  if (total > 0)
    for (double& o : out.o) o /= total;
  out.lse = std::log(total) / (spec.lse == LseOut::log2 ? std::log(2.0) : 1.0);
  return out;
}

std::string compare(const ChosenCase& c, const Values& x, const Tensor& at, const std::vector<uint16_t>& o,
                    const std::vector<float>& lse) {
  const Bounds bounds = bounds_of(c.spec);
  for (int64_t t = 0; t < c.tokens; ++t) {
    for (int64_t h = 0; h < x.q.heads; ++h) {
      const Expected expected = expect(c, x, t, h);
      double error = 0, norm = 0;
      for (size_t d = 0; d < expected.o.size(); ++d) {
        const auto place = static_cast<size_t>(t * at.stride[0] + h * at.stride[1]) + d;
        const double off = oracle::decode(c.spec.o_dtype, o[place]) - expected.o[d];
        error += off * off, norm += expected.o[d] * expected.o[d];
      }
      const std::string where = " of token " + std::to_string(t) + ", head " + std::to_string(h);
      if (!(std::sqrt(error) <= bounds.row * std::sqrt(norm)))
        return "o" + where + " is off by " + std::to_string(std::sqrt(error)) + " of " + std::to_string(std::sqrt(norm));
      if (lse.empty()) continue;
      const auto got = static_cast<double>(lse[static_cast<size_t>(t * x.q.heads + h)]);
      if (!(got == expected.lse || std::fabs(got - expected.lse) <= bounds.lse))
        return "lse" + where + " is " + std::to_string(got) + ", not " + std::to_string(expected.lse);
    }
  }
  return {};
}

/// Device memory of one run; it goes with this object.
class Memory {
 public:
  Memory(std::shared_ptr<Device> device, bool padded, bool heads_apart)
      : device_(std::move(device)), padded_(padded), heads_apart_(heads_apart) {}

  template <class T>
  Tensor put(const std::vector<T>& content, std::initializer_list<int64_t> shape) {
    buffers_.push_back(*GuardedBuffer::make(device_, std::as_bytes(std::span(content))));
    return Tensor::contiguous(buffers_.back().data(), shape);
  }
  /// Heads of their own need one stride for (token, head).
  Tensor put_rows(const Rows& rows) {
    const int64_t count = static_cast<int64_t>(rows.elements.size()) / (rows.heads * rows.dim);
    const auto step = static_cast<int64_t>(16 / bytes_of(rows.format));
    Tensor t = make_tensor({count, rows.heads, rows.dim}, step, padded_);
    if (heads_apart_) t.stride[0] = rows.heads * t.stride[1];
    std::vector<uint16_t> image(static_cast<size_t>(count * t.stride[0]), oracle::nan_pattern(rows.format));
    for (int64_t i = 0; i < count; ++i)
      for (int64_t head = 0; head < rows.heads; ++head)
        std::copy_n(rows.elements.begin() + static_cast<ptrdiff_t>(rows.row(i, head)) * rows.dim, rows.dim,
                    image.begin() + (i * t.stride[0] + head * t.stride[1]));
    t.data = put(device_bytes(rows.format, image), {}).data;
    return t;
  }
  KvScales put_scales(const Rows& rows) {
    KvScales out;
    if (!is_code(rows.format)) return out;
    const auto rows_of = [&](const std::vector<float>& table) { return static_cast<int64_t>(table.size()) / rows.heads; };
    out.scale = rows.of_all;
    if (has_token_scale(rows.scale)) out.token_scale = put(rows.of_tokens, {rows_of(rows.of_tokens), rows.heads});
    if (has_channel_scale(rows.scale)) out.channel_scale = put(rows.of_channels, {rows.heads, rows.dim});
    if (rows.zero == KvZero::token) out.zero = put(rows.zeros, {rows_of(rows.zeros), rows.heads});
    if (rows.zero == KvZero::channel) out.zero = put(rows.zeros, {rows.heads, rows.dim});
    return out;
  }
  /// What `t`, made here, holds now.
  template <class T>
  std::vector<T> read(const Tensor& t) const {
    const auto found = std::ranges::find_if(buffers_, [&](const GuardedBuffer& b) { return b.data() == t.data; });
    const Bytes bytes = *found->read();
    std::vector<T> out(bytes.size() / sizeof(T));
    if (!out.empty()) std::memcpy(out.data(), bytes.data(), out.size() * sizeof(T));
    return out;
  }
  std::string damage() const {
    std::string out;
    for (const GuardedBuffer& buffer : buffers_) out += *buffer.damage();
    return out;
  }

 private:
  std::shared_ptr<Device> device_;
  bool padded_, heads_apart_;
  std::vector<GuardedBuffer> buffers_;
};

}  // namespace

std::string ChosenHooks::text() const {
  std::string out, score = "score", mask;
  if (capped) out += "param cap: f32 in [1, 100]; ", score = "cap * tanh(score / cap)";
  if (tables) out += "tensor f: f32[SLOT, HQ], t: f32[TOK]; ", score = "(" + score + ") * t[tok] + f[slot, h]";
  if (sinks) out += "tensor s: f32[HQ]; sink = s[h]; ";
  if (bits) {
    const std::string words = std::to_string(kWords);
    out += "tensor mb: u32[TOK, " + words + "]; ";
    mask = "bit(mb[tok, clamp(slot >> 5, 0, " + words + " - 1)], slot & 31)";
  }
  if (places) mask += std::string(bits ? " && " : "") + "kv % 3 != 1";
  if (capped || tables) out += "logits = " + score + "; ";
  return mask.empty() ? out : out + "mask = " + mask;
}

std::string prove_chosen(const SparseLayout& layout, const ChosenCase& c, uint64_t seed) {
  std::mt19937_64 rng(seed);
  const Values x = draw_values(c, rng);
  auto device = host_device({.seed = rng(), .check = true});
  const auto wrong = [&](const std::string& what) {
    return what.empty() ? what
                        : what + "\nspec: " + to_json(c.spec) + "\n" + std::to_string(c.tokens) + " tokens, " +
                              std::to_string(c.keys) + " keys, " + std::to_string(c.kv_heads) + " kv heads, " +
                              std::to_string(layout.heads_apart) + " apart" + (c.padded ? ", padded" : "");
  };
  Result<Attention> attention = Attention::prepare(engine(), device, c.spec);
  if (!attention.ok()) return wrong("cannot be prepared: " + attention.status().to_string());

  Memory memory(device, c.padded, layout.heads_apart > 1);
  AttentionArgs args;
  args.q = memory.put_rows(x.q), args.k = memory.put_rows(x.k), args.v = memory.put_rows(x.v);
  args.k_scales = memory.put_scales(x.k), args.v_scales = memory.put_scales(x.v);
  Rows poison{c.spec.o_dtype, x.q.heads, c.spec.head_dim_vo};
  poison.elements.assign(static_cast<size_t>(c.tokens * poison.heads * poison.dim), oracle::nan_pattern(c.spec.o_dtype));
  args.o = memory.put_rows(poison);
  if (c.spec.lse != LseOut::none)
    args.lse = memory.put(std::vector<float>(static_cast<size_t>(c.tokens * x.q.heads), NAN), {c.tokens, x.q.heads});
  const Tensor o = args.o, lse = args.lse;
  const std::vector<HookParam> params = c.hooks.capped ? std::vector<HookParam>{{"cap", kCap}} : std::vector<HookParam>{};
  std::vector<HookTensor> tensors;
  if (c.hooks.tables) {
    tensors.push_back({"f", memory.put(x.of_slots, {std::max<int64_t>(c.keys, 1), x.q.heads})});
    tensors.push_back({"t", memory.put(x.of_tokens, {std::max<int64_t>(c.tokens, 1)})});
  }
  if (c.hooks.sinks) tensors.push_back({"s", memory.put(x.sinks, {x.q.heads})});
  if (c.hooks.bits) tensors.push_back({"mb", memory.put(x.bits, {std::max<int64_t>(c.tokens, 1), kWords})});
  args.hook_params = params, args.hook_tensors = tensors;

  Result<PlannedAttention> plan = attention->plan(layout.batch(), layout.num_kv_heads);
  if (!plan.ok()) return wrong("cannot be planned: " + plan.status().to_string());
  if (const Status viewed = layout.view(c.spec, args); !viewed.ok()) return wrong("cannot be viewed: " + viewed.to_string());
  args.kv_indices = static_cast<const int32_t*>(memory.put(layout.kv_indices, {}).data);
  const Tensor workspace = memory.put(Bytes(std::max<size_t>(plan->plan.workspace.total(), 1)), {});
  Status status = attention->upload(*plan, workspace.data, std::max<size_t>(plan->plan.workspace.total(), 1), nullptr);
  if (status.ok()) status = attention->run(args, *plan, workspace.data, nullptr);
  if (!status.ok()) return wrong("cannot be run: " + status.to_string());
  if (const std::string damage = memory.damage(); !damage.empty()) return wrong(damage);
  return wrong(compare(c, x, o, memory.read<uint16_t>(o), lse.rank == 0 ? std::vector<float>{} : memory.read<float>(lse)));
}

}  // namespace lathe::testing
