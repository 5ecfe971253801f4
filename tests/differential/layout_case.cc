#include <algorithm>
#include <array>
#include <numeric>
#include <random>
#include <vector>

#include "cases.h"
#include "lathe/proof/chosen_keys.h"
#include "lathe/proof/harness.h"
#include "lathe/spec/expr/parse.h"

namespace lathe::testing {
namespace {

using Rng = std::mt19937_64;

// Multiply-adds of one case, for the reference and for the executor's checks.
constexpr int64_t kBudget = 3'000'000;

int32_t between(Rng& rng, int32_t least, int32_t most) {
  return std::uniform_int_distribution<int32_t>(least, most)(rng);
}
bool chance(Rng& rng, int32_t percent) {
  return between(rng, 1, 100) <= percent;
}

/// Arrays that describe a layout, and what they mean, written apart from block_sparse() and gather().
struct Drawn {
  bool blocks = true;  // else gathered
  int64_t tokens = 0, keys = 0;
  int32_t kv_heads = 1;
  std::vector<int32_t> indptr;  // of block rows, or of requests
  std::vector<int32_t> indices;
  int32_t block_rows = 1, block_columns = 1;
  GatherScope scope = GatherScope::request;
  bool per_kv_head = false;
  int64_t width = 0;

  Result<SparseLayout> make() const {
    if (blocks) return block_sparse({tokens, keys, block_rows, block_columns, kv_heads, indptr, indices});
    return gather({indptr, kv_heads, scope, per_kv_head, indices, width, keys});
  }
  std::vector<int32_t> seen(int64_t token, int64_t head) const {
    std::vector<int32_t> out;
    if (blocks) {
      const auto row = static_cast<size_t>(token / block_rows);
      for (int32_t i = indptr[row]; i < indptr[row + 1]; ++i)
        for (int32_t j = 0; j < block_columns; ++j) out.push_back(indices[static_cast<size_t>(i)] * block_columns + j);
      return out;
    }
    int64_t list = token;
    if (scope == GatherScope::request) list = std::ranges::upper_bound(indptr, token) - indptr.begin() - 1;
    if (per_kv_head) list = list * kv_heads + head;
    const auto first = indices.begin() + static_cast<ptrdiff_t>(list * width);
    std::copy_if(first, first + static_cast<ptrdiff_t>(width), std::back_inserter(out), [](int32_t key) { return key >= 0; });
    return out;
  }
  int64_t pairs() const {  // of rows and keys
    int64_t out = 0;
    for (int64_t t = 0; t < tokens; ++t)
      for (int32_t head = 0; head < kv_heads; ++head) out += static_cast<int64_t>(seen(t, head).size());
    return out;
  }
};

Drawn draw_blocks(Rng& rng) {
  Drawn out;
  out.kv_heads = between(rng, 1, 3);
  out.block_rows = chance(rng, 30) ? 1 << between(rng, 0, 6) : between(rng, 1, 70);
  out.block_columns = chance(rng, 30) ? 1 << between(rng, 0, 7) : between(rng, 1, 100);
  out.tokens = chance(rng, 3) ? 0 : between(rng, 1, 90);
  const int32_t columns = chance(rng, 3) ? 0 : between(rng, 1, std::min(30, 400 / out.block_columns));
  out.keys = columns * out.block_columns;
  out.indptr = {0};
  std::vector<int32_t> order(static_cast<size_t>(columns));
  std::iota(order.begin(), order.end(), 0);
  for (int64_t row = 0; row * out.block_rows < out.tokens; ++row) {
    std::ranges::shuffle(order, rng);
    const int32_t count = chance(rng, 15) ? 0 : between(rng, 0, columns);
    out.indices.insert(out.indices.end(), order.begin(), order.begin() + count);
    out.indptr.push_back(static_cast<int32_t>(out.indices.size()));
  }
  return out;
}

Drawn draw_gathered(Rng& rng) {
  Drawn out{.blocks = false};
  out.kv_heads = between(rng, 1, 3);
  out.scope = chance(rng, 50) ? GatherScope::query : GatherScope::request;
  out.per_kv_head = chance(rng, 40);
  out.keys = between(rng, 1, 350);
  out.width = chance(rng, 5) ? 0 : between(rng, 1, 160);
  out.indptr = {0};
  for (int32_t requests = between(rng, 0, 5); requests > 0; --requests)
    out.indptr.push_back(out.indptr.back() + (chance(rng, 20) ? 0 : between(rng, 1, 12)));
  out.tokens = out.indptr.back();
  const int64_t lists = (out.scope == GatherScope::query ? out.tokens : static_cast<int64_t>(out.indptr.size()) - 1) *
                        (out.per_kv_head ? out.kv_heads : 1);
  for (int64_t list = 0; list < lists; ++list) {
    const int32_t skipped = std::array{0, 0, 5, 50, 100}[rng() % 5];
    const int32_t most = chance(rng, 20) ? 3 : static_cast<int32_t>(out.keys);  // a few keys, over and over
    for (int64_t i = 0; i < out.width; ++i) {
      const int32_t key = between(rng, 0, std::min(most, static_cast<int32_t>(out.keys)) - 1);
      out.indices.push_back(chance(rng, skipped) ? (chance(rng, 80) ? -1 : INT32_MIN + key) : key);
    }
  }
  return out;
}

/// A spec that goes with `layout`, and hooks.
ChosenCase draw_case(const SparseLayout& layout, const Drawn& drawn, Rng& rng) {
  ChosenCase out;
  const bool apart = layout.heads_apart > 1;
  out.tokens = drawn.tokens, out.keys = drawn.keys, out.kv_heads = drawn.kv_heads;
  out.padded = chance(rng, 40);
  out.seen = [&drawn](int64_t token, int64_t head) { return drawn.seen(token, head); };
  out.hooks = {.capped = chance(rng, 30),
               .tables = !apart && chance(rng, 30),
               .sinks = !apart && chance(rng, 30),
               .bits = !apart && chance(rng, 30),
               .places = chance(rng, 25)};
  AttentionSpec& spec = out.spec;
  spec.hooks = *expr::parse(out.hooks.text());
  spec.layout.page_size = layout.page_size;
  spec.q_dtype = chance(rng, 50) ? DType::f16 : DType::bf16;
  spec.o_dtype = chance(rng, 50) ? DType::f16 : DType::bf16;
  spec.group_size = between(rng, 1, 6);
  spec.head_dim_qk = 16 * std::array{3, 4, 4, 8, 5, 12}[rng() % 6];
  spec.head_dim_vo = chance(rng, 60) ? spec.head_dim_qk : 64;
  spec.gqa_pack = static_cast<GqaPack>(between(rng, 0, 2));
  spec.lse = static_cast<LseOut>(between(rng, 0, 2));
  spec.determinism = static_cast<Determinism>(between(rng, 0, 2));
  if (spec.determinism == Determinism::batch_invariant || chance(rng, 20)) spec.split_kv.mode = SplitMode::off;
  const auto draw_format = [&](DType& format, KvScale& scale, KvZero& zero) {
    format = spec.q_dtype;
    if (chance(rng, 50)) return;
    format = std::array{DType::e4m3, DType::e5m2, DType::i8}[rng() % 3];
    if (apart) return;
    scale = static_cast<KvScale>(between(rng, 0, 3));
    if (format == DType::i8) zero = static_cast<KvZero>(between(rng, 0, 2));
  };
  draw_format(spec.kfmt, spec.kscale, spec.kzero);
  draw_format(spec.vfmt, spec.vscale, spec.vzero);
  return out;
}

/// Empty when `layout` says what `drawn` means, list by list.
std::string check_lists(const SparseLayout& layout, const Drawn& drawn) {
  const int64_t apart = layout.heads_apart;
  for (int64_t t = 0; t < drawn.tokens; ++t) {
    for (int32_t head = 0; head < drawn.kv_heads; ++head) {
      const int64_t row = t * apart + (apart > 1 ? head : 0);
      const auto request = static_cast<size_t>(std::ranges::upper_bound(layout.qo_indptr, row) - layout.qo_indptr.begin() - 1);
      std::vector<int32_t> found;
      for (int32_t i = layout.kv_indptr[request]; i < layout.kv_indptr[request + 1]; ++i) {
        const int32_t page = layout.kv_indices[static_cast<size_t>(i)];
        if (page < 0 || page >= layout.num_pages) return "page " + std::to_string(page) + " is not there";
        if (apart > 1 && page % apart != head) return "page " + std::to_string(page) + " is another head's";
        for (int32_t j = 0; j < layout.page_size; ++j) found.push_back(static_cast<int32_t>(page / apart) * layout.page_size + j);
      }
      if (found != drawn.seen(t, head))
        return "the list of token " + std::to_string(t) + ", head " + std::to_string(head) + " is another";
    }
  }
  return {};
}

bool names_any(const Status& status, const std::vector<std::string>& names) {
  const std::string message = status.to_string();
  return status.code() == Code::invalid_argument &&
         std::ranges::any_of(names, [&](const std::string& name) { return message.find(name) != std::string::npos; });
}

int32_t hostile(int32_t value, Rng& rng) {
  if (chance(rng, 50)) return std::array{-1, 0, INT32_MIN, INT32_MAX, 70'000}[rng() % 5];
  return value + between(rng, -9, 9);
}

/// Spoils one number or length; gives the names under which that may be refused.
std::vector<std::string> spoil(Drawn& drawn, Rng& rng) {
  const std::string lists = drawn.blocks ? "indptr" : "qo_indptr";
  std::vector<int32_t>& array = rng() % 2 == 0 ? drawn.indptr : drawn.indices;
  switch (rng() % 9) {
    case 0:
      drawn.tokens = hostile(static_cast<int32_t>(drawn.tokens), rng);
      if (!drawn.blocks) drawn.indptr.back() = static_cast<int32_t>(drawn.tokens);
      return {"rows", lists, "indices"};
    case 1:
      drawn.keys = chance(rng, 10) ? int64_t{1} << 40 : hostile(static_cast<int32_t>(drawn.keys), rng);
      return {"columns", "num_keys", "indices"};
    case 2:
      drawn.kv_heads = hostile(drawn.kv_heads, rng);
      return {"num_kv_heads", "num_keys", "indices"};
    case 3:
      drawn.width = hostile(static_cast<int32_t>(drawn.width), rng);
      drawn.block_rows = hostile(drawn.block_rows, rng);
      return {"width", "block_rows", "indices", "indptr"};
    case 4:
      drawn.block_columns = hostile(drawn.block_columns, rng);
      return {"block_columns", "columns", "indices"};
    case 5:  // a column twice
      if (drawn.indices.size() >= 2) drawn.indices[0] = drawn.indices[1];
      return {"indices"};
    case 6:
      array.resize(rng() % (array.size() + 3), 1);
      if (!drawn.blocks && !drawn.indptr.empty()) drawn.tokens = drawn.indptr.back();
      return {lists, "indices"};
    default:
      if (array.empty()) return {lists};
      array[rng() % array.size()] = hostile(array.back(), rng);
      if (!drawn.blocks) drawn.tokens = drawn.indptr.back();
      return {lists, "indices"};
  }
}

/// What no layout of it can be made of is refused by name; what is taken has the lists that it says.
std::string spoiled_lists(const Drawn& good, Rng& rng) {
  constexpr int64_t kMany = 100'000;  // rows whose lists are looked at
  Drawn bad = good;
  const std::vector<std::string> names = spoil(bad, rng);
  const Result<SparseLayout> layout = bad.make();
  const auto wrong = [&](const std::string& what) { return what.empty() ? what : "spoiled " + names.front() + ": " + what; };
  if (!layout.ok())
    return names_any(layout.status(), names) ? "" : wrong("refused without that name: " + layout.status().to_string());
  return wrong(bad.tokens > kMany || bad.kv_heads > kMany ? "" : check_lists(*layout, bad));
}

/// A spec that does not go with the layout is refused by name.
std::string spoiled_spec(const SparseLayout& layout, const AttentionSpec& good, Rng& rng) {
  AttentionSpec bad = good;
  std::string name = "layout";
  const auto set_hooks = [&](const char* text) { name = "hooks", bad.hooks = *expr::parse(text); };
  switch (rng() % (layout.heads_apart > 1 ? 10 : 6)) {
    case 0:
      bad.layout.page_size += between(rng, 1, 3);
      break;
    case 1:
      bad.layout = {.kind = LayoutKind::ragged};
      break;
    case 2:
      bad.layout.order = PageOrder::hnd;
      break;
    case 3:
      bad.layout.storage = KvStorage::joint;
      break;
    case 4:
      bad.layout.index = PageIndex::table;
      break;
    case 5:
      name = "mask", bad.mask = static_cast<Mask>(between(rng, 1, 3));
      break;
    case 6:
      name = "kscale", bad.kfmt = DType::i8, bad.kscale = static_cast<KvScale>(between(rng, 1, 3));
      break;
    case 7:
      name = "vscale", bad.vfmt = DType::i8, bad.vzero = static_cast<KvZero>(between(rng, 1, 2));
      break;
    case 8:
      set_hooks("tensor s: f32[HQ]; sink = s[h]");
      break;
    default:
      set_hooks(std::array{"tensor f: f32[SLOT]; logits = score + f[slot]", "tensor t: f32[TOK]; weight = w * t[tok]",
                           "mask = kv_pos <= q_pos", "tensor z: i32[B]; mask = kv < z[b]", "mask = q < 3",
                           "tensor g: f32[HQ]; output = o * g[h]", "logits = score + f32(hk)"}[rng() % 7]);
  }
  const Status status = layout.check(bad);
  return names_any(status, {name}) ? "" : "spoiled " + name + " of the spec: " + status.to_string() + "\nspec: " + to_json(bad);
}

/// Tensors that do not fit the layout are refused by name.
std::string spoiled_view(const SparseLayout& layout, const Drawn& drawn, const AttentionSpec& spec, Rng& rng) {
  AttentionArgs args;
  const int64_t heads = int64_t{drawn.kv_heads} * spec.group_size;
  args.q = Tensor::contiguous(nullptr, {drawn.tokens, heads, spec.head_dim_qk});
  args.o = Tensor::contiguous(nullptr, {drawn.tokens, heads, spec.head_dim_vo});
  args.k = Tensor::contiguous(nullptr, {drawn.keys, drawn.kv_heads, spec.head_dim_qk});
  args.v = Tensor::contiguous(nullptr, {drawn.keys, drawn.kv_heads, spec.head_dim_vo});
  args.lse = Tensor::contiguous(nullptr, {drawn.tokens, heads});
  if (AttentionArgs good = args; !layout.view(spec, good).ok()) return "tensors that fit are refused";
  const bool apart = layout.heads_apart > 1;
  struct Target {
    const char* name;
    Tensor* tensor;
  };
  const std::array targets{Target{"k", &args.k}, Target{"v", &args.v}, Target{"q", &args.q}, Target{"o", &args.o},
                           Target{"lse", &args.lse}};
  const Target target = targets[rng() % (apart ? 5 : 2)];
  const bool of_keys = target.tensor == &args.k || target.tensor == &args.v;
  switch (rng() % 3) {
    case 0:
      target.tensor->rank += target.tensor == &args.lse || chance(rng, 50) ? 1 : -1;
      break;
    case 1:
      if (of_keys) {
        target.tensor->shape[0] += chance(rng, 50) || drawn.keys == 0 ? 1 : -1;
      } else {
        target.tensor->shape[1] += 1;
      }
      break;
    default:
      if (!apart || target.tensor->shape[0] < 2) return {};
      target.tensor->stride[0] += between(rng, 1, 64);
  }
  const Status status = layout.view(spec, args);
  const std::string start = std::string(target.name) + ":";
  return names_any(status, {start}) ? "" : "spoiled " + start + " " + status.to_string() + "\nspec: " + to_json(spec);
}

}  // namespace

std::string layout_case(uint64_t seed) {
  Rng rng(seed);
  const bool blocks = chance(rng, 40);
  Drawn drawn;
  ChosenCase chosen;
  Result<SparseLayout> layout = Status(Code::internal, "not drawn");
  do {
    drawn = blocks ? draw_blocks(rng) : draw_gathered(rng);
    layout = drawn.make();
    if (!layout.ok()) return "a good layout is refused: " + layout.status().to_string();
    chosen = draw_case(*layout, drawn, rng);
  } while (!validate(chosen.spec).ok() ||
           drawn.pairs() * chosen.spec.group_size * (chosen.spec.head_dim_qk + chosen.spec.head_dim_vo) > kBudget);
  if (std::string wrong = check_lists(*layout, drawn); !wrong.empty()) return wrong;
  for (int i = 0; i < 50; ++i) {
    std::string wrong = spoiled_lists(drawn, rng);
    if (wrong.empty()) wrong = spoiled_spec(*layout, chosen.spec, rng);
    if (wrong.empty()) wrong = spoiled_view(*layout, drawn, chosen.spec, rng);
    if (!wrong.empty()) return wrong;
  }
  return prove_chosen(*layout, chosen, rng());
}

}  // namespace lathe::testing
