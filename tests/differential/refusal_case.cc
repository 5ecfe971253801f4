#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "cases.h"
#include "lathe/plan_testing/plan_check.h"
#include "lathe/proof/harness.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec_testing/random_spec.h"
#include "lathe/spec_testing/single_changes.h"

namespace lathe::testing {
namespace {

// A compiler that must not be called for what is refused.
class NoCompiler : public Compiler {
 public:
  Result<std::string> identity(const std::string&) override { return std::string("none"); }
  Result<CompileOutput> compile(const CompileJob&) override {
    ++calls;
    return Status(Code::unavailable, "no compiler here");
  }
  std::vector<std::string> archs() override { return {}; }
  std::string describe() override { return "none"; }
  int calls = 0;
};

/// Every field of the spec by its path.
std::vector<std::string> paths_of(const AttentionSpec& spec) {
  std::vector<std::string> out;
  fields::visit_fields(spec, [&](const fields::Field& field, const auto&, const auto&) { out.push_back(field.path); });
  return out;
}

bool names_any(const Status& status, const std::vector<std::string>& names) {
  const std::string message = status.to_string();
  return std::ranges::any_of(names, [&](const std::string& name) { return message.find(name) != std::string::npos; });
}

/// Archs that validate() and prepare() on the host may judge apart: empty stands for the device's own, another's tile may not fit.
bool means_another_device(const std::string& arch) {
  return arch.empty() || arch.starts_with("sm_8");
}

/// One or two fields of a valid spec are changed. What validate() refuses is refused as JSON and by prepare(), by name, and nothing
/// is compiled.
std::string spoiled_spec(std::mt19937_64& rng) {
  const auto compiler = std::make_shared<NoCompiler>();
  EngineOptions options;
  options.cache.mode = CacheMode::off;
  options.compiler = compiler;
  Engine engine(options);
  AttentionSpec spec = random_spec(rng);
  spec.arch = "host";
  std::vector<std::string> changed;
  for (uint64_t n = 1 + rng() % 2; n > 0; --n) {
    const auto changes = single_changes(spec);
    const auto& change = changes[rng() % changes.size()];
    changed.push_back(change.path);
    spec = change.spec;
  }
  if (means_another_device(spec.arch)) spec.arch = "host";
  // What cannot stand beside new hooks is named in their place.
  if (std::ranges::count(changed, "hooks") != 0) changed.insert(changed.end(), {"soft_cap", "mask", "lse"});
  const Status valid = validate(spec);
  const Result<Attention> attention = Attention::prepare(engine, host_device(), spec);
  const auto wrong = [&](const std::string& what, const Status& status) {
    return what + "; changed " + changed.front() + "\nrefusal: " + status.to_string() + "\nspec: " + to_json(spec);
  };
  if (attention.ok()) return wrong("prepared without a compiler", {});
  if (valid.ok()) {
    const bool own = attention.status().code() == Code::unavailable || names_any(attention.status(), paths_of(spec));
    return own ? "" : wrong("a valid spec is refused without a name", attention.status());
  }
  if (compiler->calls != 0 || engine.stats().compiles != 0) return wrong("compiled, though it is refused", valid);
  if (attention.status().code() != valid.code()) return wrong("prepare() says another thing than validate()", attention.status());
  if (!names_any(valid, changed)) return wrong("refused without the name of what was changed", valid);
  const Result<AttentionSpec> read = attention_spec_from_json(to_json(spec));
  if (read.ok() && validate(*read).ok()) return wrong("accepted as JSON, though it is refused", valid);
  return {};
}

/// Hooks that break a rule, in a spec that is good without them: refused as JSON under their name, with the column.
std::string spoiled_hooks(std::mt19937_64& rng) {
  constexpr std::array kTexts{"normalizer = none; logits = score; sink = 1.0",
                              "normalizer = none; logits = score; lse_transform = lse",
                              "normalizer = none; logits = score; output = o * max(lse, 0)",
                              "logits = 1.0",
                              "logits = score - score / (score - score)",
                              "logits = log(score)",
                              "mask = score > 0",
                              "sink = f32(q)",
                              "mask = kv * 2000000000 < 5",
                              "logits = score + nosuch",
                              "weight = 1.0 / 0.0 * w - 1.0 / 0.0 * w",
                              "tensor t: f32[TOK]; logits = score + t[q]",
                              "tensor t: f32[HQ]; sink = t[h + 1]",
                              "tensor t: f32[HQ, D]; output = o * t[d, h]",
                              "tensor t: i32[KVPOS]; mask = t[kv + 1] > 3"};
  AttentionSpec spec = random_spec(rng);
  spec.hooks = {};
  const char* const text = kTexts[rng() % kTexts.size()];
  std::string json = to_json(spec);
  const std::string none = "\"hooks\":\"\"";
  const size_t at = json.find(none);
  if (at == std::string::npos) return "a spec without hooks is written without them: " + json;
  json.replace(at, none.size(), "\"hooks\":\"" + std::string(text) + "\"");
  const Status status = attention_spec_from_json(json).status();
  const bool told = names_any(status, {"hooks"}) && names_any(status, {"column "});
  return told && status.code() == Code::invalid_argument ? "" : json + "\nrefusal: " + status.to_string();
}

/// Kernels that batches are planned for, compiled once.
const Attention& kernel(size_t which) {
  static const std::vector<Attention> kernels = [] {
    std::vector<Attention> out;
    for (int i = 0; i < 4; ++i) {
      AttentionSpec spec;
      spec.head_dim_qk = spec.head_dim_vo = 32;
      spec.group_size = 2;
      spec.arch = "host";
      if (i == 0) spec.layout.kind = LayoutKind::ragged;
      if (i == 1) spec.mask = Mask::causal_window;
      if (i == 2) spec.layout.index = PageIndex::table;
      if (i == 3) spec.hooks = *expr::parse("param W: i32 in [1, 100]; tensor a: i32[TOK] summary; mask = kv_pos < a[tok] + W");
      out.push_back(*Attention::prepare(engine(), host_device(), spec));
    }
    return out;
  }();
  return kernels[which];
}

/// What a batch is described by, as arrays that can be spoiled.
struct Arrays {
  std::vector<int32_t> qo_indptr{0}, kv_indptr{0}, last_page_len, seq_lens, kv_indices, elements;
  int32_t window = 0, stride = 0, num_kv_heads = 1;
  int64_t num_pages = 0;
  double param = 8;
};

Arrays draw_arrays(const AttentionSpec& spec, std::mt19937_64& rng) {
  Arrays out;
  const auto below = [&](uint64_t n) { return static_cast<int32_t>(rng() % n); };
  const bool paged = spec.layout.kind == LayoutKind::paged, csr = spec.layout.index == PageIndex::csr;
  const int32_t size = spec.layout.page_size;
  out.num_kv_heads = 1 + below(3);
  out.stride = 1 + below(6);
  for (int32_t requests = 1 + below(5); requests > 0; --requests) {
    out.qo_indptr.push_back(out.qo_indptr.back() + below(40));
    out.kv_indptr.push_back(out.kv_indptr.back() + (paged ? below(6) : below(300)));
    out.last_page_len.push_back(1 + below(static_cast<uint64_t>(size)));
    out.seq_lens.push_back(below(static_cast<uint64_t>(out.stride * size) + 1));
  }
  out.num_pages = 1 + below(50);
  out.kv_indices.resize(csr ? static_cast<size_t>(out.kv_indptr.back()) : out.seq_lens.size() * static_cast<size_t>(out.stride));
  for (int32_t& id : out.kv_indices) id = below(static_cast<uint64_t>(out.num_pages));
  out.elements.resize(std::max<size_t>(static_cast<size_t>(out.qo_indptr.back()), 1));
  for (int32_t& x : out.elements) x = below(300);
  if (spec.windowed()) out.window = 1 + below(200);
  return out;
}

/// Spoils one number, or a length, of what `spec` reads; returns the names under which that may be refused.
std::vector<std::string> spoil(const AttentionSpec& spec, Arrays& arrays, std::mt19937_64& rng) {
  const bool paged = spec.layout.kind == LayoutKind::paged, csr = spec.layout.index == PageIndex::csr;
  const auto hostile = [&](int32_t value) {
    constexpr std::array kValues{-1, 0, INT32_MIN, INT32_MAX, 70'000, -16};
    if (rng() % 2 == 0) return kValues[rng() % kValues.size()];
    return static_cast<int32_t>(static_cast<uint32_t>(value) + static_cast<uint32_t>(rng() % 33) - 16u);
  };
  struct Target {
    std::vector<std::string> names;
    std::vector<int32_t>* array;
  };
  std::vector<Target> targets{{{"qo_indptr", "request[", "hook_tensors"}, &arrays.qo_indptr}};
  if (!paged || csr) targets.push_back({{"kv_indptr", "kv_lens", "request[", "kv_indices", "last_page_len"}, &arrays.kv_indptr});
  if (paged && csr) targets.push_back({{"last_page_len"}, &arrays.last_page_len});
  if (paged && !csr) targets.push_back({{"seq_lens", "kv_lens", "request[", "kv_indices"}, &arrays.seq_lens});
  if (paged) targets.push_back({{"kv_indices"}, &arrays.kv_indices});
  switch (rng() % 10) {
    case 0:
      arrays.window = hostile(arrays.window);
      return {"window"};
    case 1:
      arrays.num_kv_heads = hostile(arrays.num_kv_heads);
      return {"num_kv_heads"};
    case 2:
      arrays.stride = hostile(arrays.stride);
      return {"block_table_stride", "seq_lens", "kv_lens", "request[", "kv_indices"};
    case 3:
      arrays.param = std::array{0.0, -1.0, 101.0, 8.5, 1e300}[rng() % 5];
      return {"hook_params"};
    default:
      break;
  }
  Target& target = targets[rng() % targets.size()];
  std::vector<int32_t>& array = *target.array;
  if (array.empty() || rng() % 8 == 0) {
    array.resize(rng() % (array.size() + 3), 1);
    target.names.insert(target.names.end(), {"qo_indptr", "kv_indptr", "last_page_len", "seq_lens"});
  } else {
    int32_t& value = array[rng() % array.size()];
    value = hostile(value);
  }
  return target.names;
}

/// A valid batch is planned; with one number spoiled it is refused by name, or planned so that every row and key has its place.
std::string spoiled_batch(std::mt19937_64& rng) {
  const Attention& attention = kernel(rng() % 4);
  const AttentionSpec& spec = attention.spec();
  Arrays arrays = draw_arrays(spec, rng);
  const auto plan = [&](Result<PlannedAttention>& out) {
    AttentionBatch batch{.qo_indptr = arrays.qo_indptr, .window = arrays.window, .share_prefixes = false};
    const bool paged = spec.layout.kind == LayoutKind::paged, csr = spec.layout.index == PageIndex::csr;
    if (!paged || csr) batch.kv_indptr = arrays.kv_indptr;
    if (paged && csr) batch.last_page_len = arrays.last_page_len;
    if (paged && !csr) batch.seq_lens = arrays.seq_lens, batch.block_table_stride = arrays.stride;
    if (paged && !arrays.kv_indices.empty()) batch.kv_indices = arrays.kv_indices, batch.num_pages = arrays.num_pages;
    std::vector<HookParam> params{{"W", arrays.param}};
    std::vector<HookTensor> tensors{
        {"a", Tensor::contiguous(arrays.elements.data(), {static_cast<int64_t>(arrays.elements.size())})}};
    if (!spec.hooks.empty()) batch.hook_params = params, batch.hook_tensors = tensors;
    out = attention.plan(batch, arrays.num_kv_heads);
    if (!out.ok() || skips_tiles(spec)) return std::string();
    return check_plan(out->shape, {arrays.qo_indptr, out->lengths.kv_lens, out->lengths.kv_begin, arrays.window}, out->plan);
  };
  Result<PlannedAttention> planned = Status(Code::internal, "not planned");
  std::string wrong = plan(planned);
  if (!planned.ok()) return "a valid batch is refused: " + planned.status().to_string() + "\nspec: " + to_json(spec);
  if (!wrong.empty()) return wrong;
  const std::vector<std::string> names = spoil(spec, arrays, rng);
  wrong = plan(planned);
  if (!wrong.empty()) return "spoiled " + names.front() + ", planned: " + wrong + "\nspec: " + to_json(spec);
  if (planned.ok() || (planned.status().code() == Code::invalid_argument && names_any(planned.status(), names))) return {};
  return "spoiled " + names.front() + ", refused without that name: " + planned.status().to_string() + "\nspec: " + to_json(spec);
}

}  // namespace

std::string refusal_case(uint64_t seed) {
  std::mt19937_64 rng(seed);
  switch (rng() % 5) {
    case 0:
      return spoiled_hooks(rng);
    case 1:
    case 2:
      return spoiled_spec(rng);
    default:
      return spoiled_batch(rng);
  }
}

}  // namespace lathe::testing
