#include "kernels.h"

#include <array>
#include <charconv>
#include <limits>
#include <mutex>

#include "lathe/spec/text.h"
#include "stream.h"

namespace lathe::torch_ops {
namespace {

constexpr const char* kForm = "max_kv_len,window,share_prefixes as whole numbers, then a space and the spec as JSON";

/// What the text of an envelope says.
struct EnvelopeText {
  AttentionBounds bounds;
  std::string_view spec;
};

Result<EnvelopeText> read_envelope(std::string_view text) {
  const auto wrong = [&](const std::string& what) {
    return invalid_argument("envelope", what + ", must be num_kv_heads,max_batch,max_qo_tokens,max_kv_entries," + kForm);
  };
  std::array<int64_t, 7> bounds;
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  for (size_t i = 0; i < bounds.size(); ++i) {
    const auto [stop, error] = std::from_chars(at, end, bounds[i]);
    if (error != std::errc() || stop == end || *stop != (i + 1 < bounds.size() ? ',' : ' '))
      return wrong("is " + fields::shown(text, 100) + " with " + std::to_string(i) + " numbers");
    at = stop + 1;
  }
  for (size_t i : {0, 1, 5}) {
    if (bounds[i] < 0 || bounds[i] > std::numeric_limits<int32_t>::max())
      return invalid_argument("bounds[" + std::to_string(i) + "]",
                              "is " + std::to_string(bounds[i]) + ", must be in 0..2147483647");
  }
  EnvelopeText out;
  out.bounds.num_kv_heads = static_cast<int32_t>(bounds[0]);
  out.bounds.max_batch = static_cast<int32_t>(bounds[1]);
  out.bounds.max_qo_tokens = bounds[2];
  out.bounds.max_kv_entries = bounds[3];
  out.bounds.max_kv_len = bounds[4];
  out.bounds.window = static_cast<int32_t>(bounds[5]);
  out.bounds.share_prefixes = bounds[6] != 0;
  out.spec = {at, end};
  return out;
}

}  // namespace

Result<const AttentionPlanner*> PreparedEnvelope::planner(Engine& engine) const {
  std::lock_guard lock(mutex_);
  if (!planner_) {
    Result<AttentionPlanner> planner = AttentionPlanner::prepare(engine, kernel_.device, kernel_.attention, envelope_);
    LATHE_TRY(planner);
    planner_.emplace(*std::move(planner));
  }
  return &*planner_;
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
Result<const Prepared*> Kernels::find(Tables<Prepared>& tables, int ordinal, std::string_view text, Stream stream,
                                      Prepare&& prepare) {
  {
    std::shared_lock lock(mutex_);
    if (auto table = tables.find(ordinal); table != tables.end()) {
      if (auto at = table->second.find(text); at != table->second.end()) return at->second.get();
    }
  }
  const Result<std::shared_ptr<Device>> on = device(ordinal);
  LATHE_TRY(on);
  const Result<bool> capturing = (*on)->capturing(stream);
  LATHE_TRY(capturing);
  if (*capturing) {
    return invalid_argument("spec",
                            fields::shown(text, 1000) + " has no kernel yet, and none can be loaded while a graph is captured",
                            "run the operator once before the capture");
  }
  Result<std::unique_ptr<Prepared>> kernel = prepare(*on);
  LATHE_TRY(kernel);
  std::unique_lock lock(mutex_);
  return tables[ordinal].try_emplace(std::string(text), *std::move(kernel)).first->second.get();
}

Result<const PreparedKernel*> Kernels::attention(int ordinal, std::string_view text, Stream stream) {
  return find(attention_, ordinal, text, stream, [&](const std::shared_ptr<Device>& on) -> Result<std::unique_ptr<PreparedKernel>> {
    Result<AttentionSpec> spec = attention_spec_from_json(text);
    LATHE_TRY(spec);
    Result<Attention> attention = Attention::prepare(engine_, on, *std::move(spec));
    LATHE_TRY(attention);
    return std::make_unique<PreparedKernel>(PreparedKernel{on, *std::move(attention)});
  });
}

Result<const PreparedEnvelope*> Kernels::envelope(int ordinal, std::string_view text, Stream stream) {
  return find(envelopes_, ordinal, text, stream, [&](const auto& on) -> Result<std::unique_ptr<PreparedEnvelope>> {
    const Result<EnvelopeText> read = read_envelope(text);
    LATHE_TRY(read);
    const Result<const PreparedKernel*> kernel = attention(ordinal, read->spec, stream);
    LATHE_TRY(kernel);
    Result<AttentionEnvelope> envelope = (*kernel)->attention.envelope(read->bounds);
    LATHE_TRY(envelope);
    Result<std::unique_ptr<PlanStager>> stager = PlanStager::create(on, envelope->layout.plan);
    LATHE_TRY(stager);
    return std::make_unique<PreparedEnvelope>(**kernel, *std::move(envelope), *std::move(stager));
  });
}

Result<const Append*> Kernels::append(int ordinal, std::string_view text, Stream stream) {
  return find(append_, ordinal, text, stream, [&](const std::shared_ptr<Device>& on) -> Result<std::unique_ptr<Append>> {
    Result<AppendSpec> spec = append_spec_from_json(text);
    LATHE_TRY(spec);
    Result<Append> append = Append::prepare(engine_, on, *std::move(spec));
    LATHE_TRY(append);
    return std::make_unique<Append>(*std::move(append));
  });
}

}  // namespace lathe::torch_ops
