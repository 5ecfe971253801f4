// Kernels and envelopes that operators have used, by what names them in a graph: text and numbers, which mean the same in every
// process.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <shared_mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "lathe/api/append.h"
#include "lathe/api/attention.h"
#include "lathe/api/attention_planner.h"

namespace lathe::torch_ops {

/// AttentionBounds as a list of numbers, in the order of its members.
inline constexpr size_t kBounds = 7;
using BoundsKey = std::array<int64_t, kBounds>;

/// One envelope of a prepared kernel, and what staging and planning within it need. Immutable after it was made.
struct PreparedEnvelope {
  AttentionEnvelope envelope;
  std::unique_ptr<PlanStager> stager;
};

/// A prepared kernel and its envelopes. Thread-safe.
class PreparedKernel {
 public:
  PreparedKernel(std::shared_ptr<Device> device, Attention attention)
      : device_(std::move(device)), attention_(std::move(attention)) {}

  const std::shared_ptr<Device>& device() const { return device_; }
  const Attention& attention() const { return attention_; }

  /// The envelope of `bounds`, made when first asked for.
  Result<const PreparedEnvelope*> envelope(std::span<const int64_t> bounds);
  /// The kernel that plans in that envelope on the device, made when first asked for.
  Result<const AttentionPlanner*> planner(Engine& engine, std::span<const int64_t> bounds);

 private:
  const std::shared_ptr<Device> device_;
  const Attention attention_;
  std::shared_mutex mutex_;  // of the maps; what they hold stays where it is
  std::map<BoundsKey, PreparedEnvelope> envelopes_;
  std::map<BoundsKey, AttentionPlanner> planners_;
};

/// Every kernel of this process's operators. Thread-safe. Kernels are never given back: graphs name them for as long as they live.
class Kernels {
 public:
  static Kernels& instance();

  Engine& engine() { return engine_; }
  /// The kernel of a spec in JSON on GPU `ordinal`, or the host. Compiled or found when first asked for; `stream`, when given, must
  /// not be captured then: a kernel cannot be loaded into a capture.
  Result<PreparedKernel*> attention(int ordinal, std::string_view spec, Stream stream);
  Result<Append*> append(int ordinal, std::string_view spec, Stream stream);

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  /// By device, and by spec.
  template <class Prepared>
  using Tables = std::map<int, std::unordered_map<std::string, std::unique_ptr<Prepared>, Hash, std::equal_to<>>>;

  Kernels() = default;
  Result<std::shared_ptr<Device>> device(int ordinal);
  /// What `tables` has for a spec, or what `prepare` makes of the device.
  template <class Prepared, class Prepare>
  Result<Prepared*> find(Tables<Prepared>& tables, int ordinal, std::string_view spec, Stream stream, Prepare&& prepare);

  Engine engine_;
  std::shared_mutex mutex_;  // of the maps
  std::map<int, std::shared_ptr<Device>> devices_;
  Tables<PreparedKernel> attention_;
  Tables<Append> append_;
};

}  // namespace lathe::torch_ops
