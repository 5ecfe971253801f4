#include "kernels.h"

#include <algorithm>
#include <limits>
#include <mutex>

#include "lathe/spec/text.h"
#include "stream.h"

namespace lathe::torch_ops {
namespace {

Result<BoundsKey> key_of(std::span<const int64_t> bounds) {
  BoundsKey key;
  if (bounds.size() != key.size()) {
    return invalid_argument("bounds", "has " + std::to_string(bounds.size()) +
                                          " entries, must have 7: num_kv_heads, max_batch, max_qo_tokens, max_kv_entries, "
                                          "max_kv_len, window, share_prefixes");
  }
  std::copy(bounds.begin(), bounds.end(), key.begin());
  for (size_t i : {0, 1, 5}) {
    if (key[i] < 0 || key[i] > std::numeric_limits<int32_t>::max()) {
      return invalid_argument("bounds[" + std::to_string(i) + "]", "is " + std::to_string(key[i]) + ", must be in 0..2147483647");
    }
  }
  return key;
}

AttentionBounds bounds_of(const BoundsKey& key) {
  AttentionBounds bounds;
  bounds.num_kv_heads = static_cast<int32_t>(key[0]);
  bounds.max_batch = static_cast<int32_t>(key[1]);
  bounds.max_qo_tokens = key[2];
  bounds.max_kv_entries = key[3];
  bounds.max_kv_len = key[4];
  bounds.window = static_cast<int32_t>(key[5]);
  bounds.share_prefixes = key[6] != 0;
  return bounds;
}

}  // namespace

Result<const PreparedEnvelope*> PreparedKernel::envelope(std::span<const int64_t> bounds) {
  const Result<BoundsKey> key = key_of(bounds);
  LATHE_TRY(key);
  {
    std::shared_lock lock(mutex_);
    if (auto at = envelopes_.find(*key); at != envelopes_.end()) return &at->second;
  }
  Result<AttentionEnvelope> envelope = attention_.envelope(bounds_of(*key));
  LATHE_TRY(envelope);
  Result<std::unique_ptr<PlanStager>> stager = PlanStager::create(device_, envelope->layout.plan);
  LATHE_TRY(stager);
  std::unique_lock lock(mutex_);
  return &envelopes_.try_emplace(*key, PreparedEnvelope{*std::move(envelope), *std::move(stager)}).first->second;
}

Result<const AttentionPlanner*> PreparedKernel::planner(Engine& engine, std::span<const int64_t> bounds) {
  const Result<const PreparedEnvelope*> prepared = envelope(bounds);
  LATHE_TRY(prepared);
  const BoundsKey key = *key_of(bounds);
  {
    std::shared_lock lock(mutex_);
    if (auto at = planners_.find(key); at != planners_.end()) return &at->second;
  }
  Result<AttentionPlanner> planner = AttentionPlanner::prepare(engine, device_, attention_, (*prepared)->envelope);
  LATHE_TRY(planner);
  std::unique_lock lock(mutex_);
  return &planners_.try_emplace(key, *std::move(planner)).first->second;
}

Kernels& Kernels::instance() {
  static Kernels* kernels = new Kernels;  // never destroyed: PyTorch may run operators while the process exits
  return *kernels;
}

Result<std::shared_ptr<Device>> Kernels::device(int ordinal) {
  {
    std::shared_lock lock(mutex_);
    if (auto at = devices_.find(ordinal); at != devices_.end()) return at->second;
  }
  Result<std::shared_ptr<Device>> made = ordinal == kHost ? host_device() : cuda_device(ordinal);
  LATHE_TRY(made);
  std::unique_lock lock(mutex_);
  return devices_.try_emplace(ordinal, *std::move(made)).first->second;
}

template <class Prepared, class Prepare>
Result<Prepared*> Kernels::find(Tables<Prepared>& tables, int ordinal, std::string_view spec, Stream stream, Prepare&& prepare) {
  {
    std::shared_lock lock(mutex_);
    if (auto table = tables.find(ordinal); table != tables.end()) {
      if (auto at = table->second.find(spec); at != table->second.end()) return at->second.get();
    }
  }
  const Result<std::shared_ptr<Device>> on = device(ordinal);
  LATHE_TRY(on);
  const Result<bool> capturing = (*on)->capturing(stream);
  LATHE_TRY(capturing);
  if (*capturing) {
    return invalid_argument("spec",
                            fields::shown(spec, 1000) + " has no kernel yet, and none can be loaded while a graph is captured",
                            "run the operator once before the capture");
  }
  Result<std::unique_ptr<Prepared>> kernel = prepare(*on);
  LATHE_TRY(kernel);
  std::unique_lock lock(mutex_);
  return tables[ordinal].try_emplace(std::string(spec), *std::move(kernel)).first->second.get();
}

Result<PreparedKernel*> Kernels::attention(int ordinal, std::string_view text, Stream stream) {
  return find(attention_, ordinal, text, stream, [&](const std::shared_ptr<Device>& on) -> Result<std::unique_ptr<PreparedKernel>> {
    Result<AttentionSpec> spec = attention_spec_from_json(text);
    LATHE_TRY(spec);
    Result<Attention> attention = Attention::prepare(engine_, on, *std::move(spec));
    LATHE_TRY(attention);
    return std::make_unique<PreparedKernel>(on, *std::move(attention));
  });
}

Result<Append*> Kernels::append(int ordinal, std::string_view text, Stream stream) {
  return find(append_, ordinal, text, stream, [&](const std::shared_ptr<Device>& on) -> Result<std::unique_ptr<Append>> {
    Result<AppendSpec> spec = append_spec_from_json(text);
    LATHE_TRY(spec);
    Result<Append> append = Append::prepare(engine_, on, *std::move(spec));
    LATHE_TRY(append);
    return std::make_unique<Append>(*std::move(append));
  });
}

}  // namespace lathe::torch_ops
