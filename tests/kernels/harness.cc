#include "lathe/proof/harness.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <optional>

#include "lathe/oracle/float16.h"

namespace lathe::testing {
namespace {

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& v) {
  return std::as_bytes(std::span(v));
}

template <class T>
std::vector<T> values_of(const Bytes& bytes) {
  std::vector<T> out(bytes.size() / sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), bytes.data(), out.size() * sizeof(T));
  return out;
}

// Device buffers of one batch.
struct Buffers {
  GuardedBuffer q, k, v, o, lse, kv_indices, workspace;
  std::vector<GuardedBuffer> hook_tensors;
  std::array<GuardedBuffer, ScaleImage::kTables> k_scales, v_scales;
  std::vector<std::pair<const char*, GuardedBuffer*>> all() {
    std::vector<std::pair<const char*, GuardedBuffer*>> list{
        {"q", &q}, {"k", &k}, {"v", &v}, {"o", &o}, {"lse", &lse}, {"kv_indices", &kv_indices}, {"workspace", &workspace}};
    for (GuardedBuffer& tensor : hook_tensors) list.push_back({"a hook's tensor", &tensor});
    for (GuardedBuffer& table : k_scales) list.push_back({"a table of k_scales", &table});
    for (GuardedBuffer& table : v_scales) list.push_back({"a table of v_scales", &table});
    return list;
  }
};

// Points the tables of `scales` that there are to their buffers.
void point_to(std::array<GuardedBuffer, ScaleImage::kTables>& buffers, KvScales& scales) {
  Tensor* const tables[] = {&scales.token_scale, &scales.channel_scale, &scales.zero};
  for (size_t i = 0; i < buffers.size(); ++i) {
    if (tables[i]->rank != 0) tables[i]->data = buffers[i].data();
  }
}

Result<Buffers> make_buffers(const std::shared_ptr<Device>& device, const AttentionSpec& spec, const BatchImage& image,
                             size_t workspace_bytes) {
  Buffers out;
  const auto make = [&](GuardedBuffer& buffer, std::span<const std::byte> content) -> Status {
    auto made = GuardedBuffer::make(device, content);
    LATHE_TRY(made);
    buffer = *std::move(made);
    return {};
  };
  LATHE_TRY(make(out.q, bytes_of(image.q)));
  LATHE_TRY(make(out.k, device_bytes(spec.kfmt, image.k)));
  LATHE_TRY(make(out.v, device_bytes(spec.vfmt, image.v)));
  for (size_t i = 0; i < ScaleImage::kTables; ++i) {
    LATHE_TRY(make(out.k_scales[i], bytes_of(image.k_scales->tables[i])));
    LATHE_TRY(make(out.v_scales[i], bytes_of(image.v_scales->tables[i])));
  }
  LATHE_TRY(make(out.o, bytes_of(image.o)));
  LATHE_TRY(make(out.lse, bytes_of(image.lse)));
  LATHE_TRY(make(out.kv_indices, bytes_of(image.kv_indices)));
  out.hook_tensors.resize(image.hook_tensors.size());
  for (size_t i = 0; i < image.hook_tensors.size(); ++i) LATHE_TRY(make(out.hook_tensors[i], image.hook_tensors[i]));
  const std::vector<uint8_t> poison(workspace_bytes, 0xff);  // as floats: NaN
  LATHE_TRY(make(out.workspace, bytes_of(poison)));
  return out;
}

struct Raw {
  std::vector<uint16_t> o, lse;
  double milliseconds = 0;
};

// Poisons o and lse, launches once, reads them back.
Result<Raw> launch(const std::shared_ptr<Device>& device, const Attention& attention, const BatchImage& image,
                   const AttentionArgs& args, const PlannedAttention& plan, const Buffers& buffers) {
  LATHE_TRY(buffers.o.write(bytes_of(image.o)));
  LATHE_TRY(buffers.lse.write(bytes_of(image.lse)));
  const auto start = std::chrono::steady_clock::now();
  LATHE_TRY(attention.run(args, plan, buffers.workspace.data(), nullptr));
  LATHE_TRY(device->synchronize(nullptr));
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  Result<Bytes> o = buffers.o.read(), lse = buffers.lse.read();
  LATHE_TRY(o);
  LATHE_TRY(lse);
  return Raw{values_of<uint16_t>(*o), values_of<uint16_t>(*lse), took.count()};
}

// lse without the rows past the end, which nobody may have written.
std::vector<float> gather_lse(const std::vector<uint16_t>& image, size_t rows, std::vector<std::string>& problems) {
  if (image.empty()) return {};
  std::vector<float> out(rows);
  if (rows != 0) std::memcpy(out.data(), image.data(), rows * sizeof(float));
  for (size_t i = 2 * rows; i < image.size(); ++i) {
    if (image[i] == BatchImage::kUntouched) continue;
    problems.push_back("lse was written past its rows");
    break;
  }
  return out;
}

Status run_or_fail(const std::shared_ptr<Device>& device, const Attention& attention, const BatchImage& image, int32_t num_kv_heads,
                   Outcome& out) {
  Result<PlannedAttention> plan = attention.plan(image.batch(), num_kv_heads);
  LATHE_TRY(plan);
  out.plan = *plan;
  const WorkspaceLayout& layout = plan->plan.workspace;
  Result<Buffers> buffers = make_buffers(device, attention.spec(), image, layout.total());
  LATHE_TRY(buffers);
  LATHE_TRY(attention.upload(*plan, buffers->workspace.data(), layout.total(), nullptr));
  AttentionArgs args = image.args();
  args.q.data = buffers->q.data(), args.k.data = buffers->k.data(), args.v.data = image.v.empty() ? nullptr : buffers->v.data();
  args.o.data = buffers->o.data(), args.lse.data = image.lse.empty() ? nullptr : buffers->lse.data();
  if (attention.spec().layout.kind == LayoutKind::paged) {
    args.kv_indices = reinterpret_cast<const int32_t*>(buffers->kv_indices.data());
  }

  std::vector<HookTensor> hook_tensors = image.hook_args();
  for (size_t i = 0; i < hook_tensors.size(); ++i) hook_tensors[i].tensor.data = buffers->hook_tensors[i].data();
  args.hook_tensors = hook_tensors;
  point_to(buffers->k_scales, args.k_scales);
  point_to(buffers->v_scales, args.v_scales);

  Result<Raw> first = launch(device, attention, image, args, *plan, *buffers);
  LATHE_TRY(first);
  out.counters = device->counters();
  Result<Raw> second = launch(device, attention, image, args, *plan, *buffers);
  LATHE_TRY(second);
  out.launch_ms = std::min(first->milliseconds, second->milliseconds);
  if (first->o != second->o || first->lse != second->lse)
    out.problems.push_back("a second launch of the same plan gave other bits");
  out.o = image.gather_o(first->o, out.problems);
  const size_t rows = out.o.size() / static_cast<size_t>(attention.spec().head_dim_vo);
  out.lse = gather_lse(first->lse, rows, out.problems);

  for (const auto& [name, buffer] : buffers->all()) {
    Result<std::string> damage = buffer->damage();
    LATHE_TRY(damage);
    if (!damage->empty()) out.problems.push_back(std::string(name) + ": " + *damage);
  }
  const Bytes k = device_bytes(attention.spec().kfmt, image.k), v = device_bytes(attention.spec().vfmt, image.v);
  const std::pair<GuardedBuffer*, std::span<const std::byte>> inputs[] = {
      {&buffers->q, bytes_of(image.q)}, {&buffers->k, k}, {&buffers->v, v}, {&buffers->kv_indices, bytes_of(image.kv_indices)}};
  for (const auto& [buffer, content] : inputs) {
    Result<Bytes> now = buffer->read();
    LATHE_TRY(now);
    if (!std::ranges::equal(*now, content)) out.problems.push_back("an input was written");
  }
  for (size_t i = 0; i < image.hook_tensors.size(); ++i) {
    Result<Bytes> now = buffers->hook_tensors[i].read();
    LATHE_TRY(now);
    if (*now != image.hook_tensors[i]) out.problems.push_back("a hook's tensor was written");
  }
  Result<Bytes> workspace = buffers->workspace.read();
  LATHE_TRY(workspace);
  for (size_t i = 0; i < layout.counters; ++i) {
    if ((*workspace)[layout.plan + i] == std::byte{0}) continue;
    out.problems.push_back("merge counters are not zero after the launch, at byte " + std::to_string(i));
    break;
  }
  return {};
}

std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", x);
  return text;
}

std::string words(const std::vector<int32_t>& list) {
  std::string text;
  for (int32_t n : list) text += " " + std::to_string(n);
  return text;
}

}  // namespace

Engine& engine() {
  static Engine instance([] {
    EngineOptions options;
    options.cache.mode = CacheMode::off;
    return options;
  }());
  return instance;
}

Outcome run(const std::shared_ptr<Device>& device, const Attention& attention, const BatchImage& image, int32_t num_kv_heads) {
  Outcome out;
  Status status = run_or_fail(device, attention, image, num_kv_heads, out);
  if (!status.ok()) out.problems.push_back(status.to_string());
  return out;
}

Bounds bounds_of(const AttentionSpec& spec) {
  const bool fine = spec.q_dtype == DType::f16 && spec.o_dtype == DType::f16;
  return fine ? Bounds{5e-4, 1e-3, 2e-4} : Bounds{3.5e-3, 6e-3, 2e-4};
}

Accuracy measure(const AttentionSpec& spec, const oracle::AttentionOutput& expected, const std::vector<uint16_t>& o,
                 const std::vector<float>& lse, const BatchShape& shape) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const auto dim = static_cast<size_t>(spec.head_dim_vo), heads = static_cast<size_t>(shape.num_kv_heads * spec.group_size);
  Accuracy out;
  const Bounds bounds = bounds_of(spec);
  double all_wrong = 0, all = 0, most = -1;
  size_t worst = 0;
  for (size_t row = 0; row < expected.lse.size(); ++row) {
    double wrong = 0, length = 0;
    for (size_t d = 0; d < dim; ++d) {
      const double ref = expected.o[row * dim + d], error = oracle::decode(spec.o_dtype, o[row * dim + d]) - ref;
      wrong += error * error, length += ref * ref;
    }
    all_wrong += wrong, all += length;
    double error = wrong == 0 ? 0 : std::sqrt(wrong / length);
    double lse_error = 0;
    if (!lse.empty() && static_cast<double>(lse[row]) != expected.lse[row])
      lse_error = std::fabs(static_cast<double>(lse[row]) - expected.lse[row]);
    if (std::isnan(error)) error = kInfinity;
    if (std::isnan(lse_error)) lse_error = kInfinity;
    if (const double excess = std::max(error / bounds.row, lse_error / bounds.lse); excess > most) {
      most = excess;
      worst = row;
    }
    out.worst_row = std::max(out.worst_row, error);
    out.worst_lse = std::max(out.worst_lse, lse_error);
  }
  out.tensor = all_wrong == 0 ? 0 : std::sqrt(all_wrong / all);
  if (std::isnan(out.tensor)) out.tensor = kInfinity;
  if (most < 0) return out;

  size_t token = worst / heads, request = 0;
  const std::vector<int32_t> begin = indptr(shape.qo_lens);
  while (static_cast<size_t>(begin[request + 1]) <= token) ++request;
  out.worst_token = static_cast<int64_t>(token);
  out.worst_request = static_cast<int64_t>(request);
  out.worst_head = static_cast<int64_t>(worst % heads);
  out.worst = "token " + std::to_string(token) + " (request " + std::to_string(request) + ", query " +
              std::to_string(token - static_cast<size_t>(begin[request])) + " of " + std::to_string(shape.qo_lens[request]) +
              " against " + std::to_string(shape.kv_lens[request]) + " keys), head " + std::to_string(worst % heads) + ":";
  for (size_t d = 0; d < 4; ++d) {
    out.worst += " o[" + std::to_string(d) + "] = " + number(oracle::decode(spec.o_dtype, o[worst * dim + d])) + ", should be " +
                 number(expected.o[worst * dim + d]) + ";";
  }
  if (!lse.empty()) {
    out.worst += " lse = " + number(static_cast<double>(lse[worst])) + ", should be " + number(expected.lse[worst]);
  }
  return out;
}

std::string judge(const AttentionSpec& spec, const BatchShape& shape, const BatchImage& image, const Outcome& outcome,
                  const std::string& repeat, const Bounds* given) {
  std::string text;
  for (const std::string& problem : outcome.problems) text += problem + "\n";
  const oracle::AttentionOutput expected = oracle::attention(image.oracle_input());
  if (outcome.o.size() == expected.o.size()) {
    const Bounds bounds = given != nullptr ? *given : bounds_of(spec);
    const Accuracy a = measure(spec, expected, outcome.o, outcome.lse, shape);
    if (!(a.tensor <= bounds.tensor)) text += "error of the tensor " + number(a.tensor) + " > " + number(bounds.tensor) + "\n";
    if (!(a.worst_row <= bounds.row)) text += "error of a row " + number(a.worst_row) + " > " + number(bounds.row) + "\n";
    if (!(a.worst_lse <= bounds.lse)) text += "error of lse " + number(a.worst_lse) + " > " + number(bounds.lse) + "\n";
    if (!text.empty()) text += "worst row: " + a.worst + "\n";
  } else if (text.empty()) {
    text = "no result\n";
  }
  if (text.empty()) return text;
  return text + "spec: " + to_json(spec) + "\nbatch: " + to_string(shape) + "\nrepeat: " + repeat;
}

std::string prove(const std::shared_ptr<Device>& device, const Attention& attention, const BatchShape& shape, uint64_t seed,
                  const std::string& repeat, Outcome* outcome, const Bounds* bounds) {
  std::mt19937_64 rng(seed);
  const AttentionSpec& spec = attention.spec();
  const double gain = std::array{0.5, 1.0, 3.0, 12.0}[rng() % 4];
  const BatchImage image(spec, {shape, draw_values(spec, shape, gain, rng)},
                         {.seed = rng(), .padded = rng() % 2 == 0, .check_ids = rng() % 2 == 0});
  const Outcome ran = run(device, attention, image, shape.num_kv_heads);
  if (outcome != nullptr) *outcome = ran;
  return judge(spec, shape, image, ran, repeat, bounds);
}

std::string to_string(const BatchShape& shape) {
  std::string text = std::to_string(shape.num_kv_heads) + " kv heads, qo" + words(shape.qo_lens) + ", kv" + words(shape.kv_lens);
  if (shape.window != 0) text += ", window " + std::to_string(shape.window);
  if (shape.sm_scale != 0) text += ", sm_scale " + number(static_cast<double>(shape.sm_scale));
  if (shape.soft_cap != 0) text += ", soft_cap " + number(static_cast<double>(shape.soft_cap));
  return text;
}

uint64_t mix(uint64_t seed, uint64_t index) {
  std::seed_seq sequence{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32), static_cast<uint32_t>(index)};
  uint32_t out[2];
  sequence.generate(std::begin(out), std::end(out));
  return uint64_t{out[0]} << 32 | out[1];
}

}  // namespace lathe::testing
