// One batch through the whole library: prepared, planned, run, and compared with the fp64 reference. What `run` and `demo` share.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lathe/api/attention.h"
#include "lathe/proof/harness.h"

namespace lathe::cli {

struct CaseOptions {
  uint64_t seed = 0;  // of the tensors and of the order of pages
  bool check = false;
  bool unsafe_cuda = false;  // of PrepareOptions; the engine has its own
};

/// The schedule in figures.
struct ScheduleFigures {
  int32_t blocks = 0, items = 0, split_tiles = 0;
  int64_t partial_rows = 0;
  size_t workspace_bytes = 0;
  double longest_over_mean = 1;  // cost of the longest block over the mean: 1 is ideal
  std::vector<int64_t> items_of_class;
};
ScheduleFigures figures_of(const PlanShape& shape, const AttentionPlan& plan);

struct CaseResult {
  AttentionSpec spec;
  testing::BatchShape shape;
  uint64_t seed = 0;
  AttentionTile tile;
  PlanShape plan_shape;
  DeviceInfo device;
  ArtifactPtr artifact;
  Origin origin = Origin::compiled;
  double prepare_ms = 0, check_ms = 0;
  testing::Outcome outcome;
  std::optional<testing::Accuracy> accuracy;  // when checked and there is a result
  testing::Bounds bounds{};

  /// What is wrong with the result, a line each; empty when nothing is.
  std::vector<std::string> failures() const;
  ScheduleFigures schedule() const { return figures_of(plan_shape, outcome.plan.plan); }
};

/// Runs `shape` on `device`. Fails when it cannot be prepared; what goes wrong later is in failures().
Result<CaseResult> run_case(Engine& engine, const std::shared_ptr<Device>& device, const AttentionSpec& spec,
                            const testing::BatchShape& shape, const CaseOptions& options);

/// Bytes of K and V that the batch's visible keys take, each read once per KV head.
uint64_t ideal_kv_bytes(const AttentionSpec& spec, const testing::BatchShape& shape);
/// Bytes of K and V that the launch read, as the host executor counted.
uint64_t kv_bytes_read(const LaunchCounters& counters);

/// The device of --target: "host" or "cuda".
Result<std::shared_ptr<Device>> device_of(const std::string& target);

const char* name_of(Origin origin);  ///< "memory", "disk", "compiled"
/// The tool of an artifact's compiler identity, without its options.
std::string tool_of(const std::string& compiler);

}  // namespace lathe::cli
