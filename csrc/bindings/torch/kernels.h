// Kernels and envelopes that operators have used, by what names them in a graph: text, which means the same in every process.
#pragma once

#include <xxhash.h>

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "lathe/api/append.h"
#include "lathe/api/attention.h"
#include "lathe/api/attention_planner.h"

namespace lathe::torch_ops {

/// A prepared kernel, and where it runs. Immutable.
struct PreparedKernel {
  std::shared_ptr<Device> device;
  Attention attention;
};

/// One envelope of a kernel, and what staging and planning within it need. Thread-safe.
class PreparedEnvelope {
 public:
  PreparedEnvelope(const PreparedKernel& kernel, AttentionEnvelope envelope, std::unique_ptr<PlanStager> stager)
      : kernel_(kernel), envelope_(std::move(envelope)), stager_(std::move(stager)) {}

  const Attention& attention() const { return kernel_.attention; }
  const AttentionEnvelope& envelope() const { return envelope_; }
  PlanStager& stager() const { return *stager_; }
  /// The kernel that plans in this envelope on the device, made when first asked for.
  Result<const AttentionPlanner*> planner(Engine& engine) const;

 private:
  const PreparedKernel& kernel_;
  const AttentionEnvelope envelope_;
  const std::unique_ptr<PlanStager> stager_;
  mutable std::mutex mutex_;  // of the planner, which stays where it is once it was made
  mutable std::optional<AttentionPlanner> planner_;
};

/// Every kernel of this process's operators. Thread-safe. Kernels are never given back: graphs name them for as long as they live.
class Kernels {
 public:
  static Kernels& instance();

  Engine& engine() { return engine_; }
  /// The kernel of a spec in JSON on GPU `ordinal`, or the host. Compiled or found when first asked for; `stream`, when given, must
  /// not be captured then: a kernel cannot be loaded into a capture.
  Result<const PreparedKernel*> attention(int ordinal, std::string_view spec, Stream stream);
  /// An envelope of such a kernel by its text: the bounds, in the order of AttentionBounds' first members, with commas between
  /// them, then a space and the spec. `2,4,24,120,0,0,0 {"op": ...}`
  Result<const PreparedEnvelope*> envelope(int ordinal, std::string_view text, Stream stream);
  Result<const Append*> append(int ordinal, std::string_view spec, Stream stream);

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return XXH3_64bits(text.data(), text.size()); }
  };
  /// By device, and by spec.
  template <class Prepared>
  using Tables = std::map<int, std::unordered_map<std::string, std::unique_ptr<Prepared>, Hash, std::equal_to<>>>;

  Kernels() = default;
  Result<std::shared_ptr<Device>> device(int ordinal);
  /// What `tables` has for a text, or what `prepare` makes of the device.
  template <class Prepared, class Prepare>
  Result<const Prepared*> find(Tables<Prepared>& tables, int ordinal, std::string_view text, Stream stream, Prepare&& prepare);

  Engine engine_;
  std::shared_mutex mutex_;  // of the maps
  std::map<int, std::shared_ptr<Device>> devices_;
  Tables<PreparedKernel> attention_;
  Tables<PreparedEnvelope> envelopes_;
  Tables<Append> append_;
};

}  // namespace lathe::torch_ops
