#include "case.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <string_view>

#include "lathe/plan/attention_image.h"
#include "progress.h"
#include "table.h"

namespace lathe::cli {
namespace {

using Clock = std::chrono::steady_clock;

std::string exceeds(const char* what, double error, double bound) {
  char text[128];
  std::snprintf(text, sizeof text, "error of %s is %.3g, the bound is %.3g", what, error, bound);
  return text;
}

}  // namespace

ScheduleFigures figures_of(const PlanShape& shape, const AttentionPlan& plan) {
  ScheduleFigures f;
  f.blocks = shape.num_ctas;
  f.items_of_class.resize(shape.tile.classes.size());
  if (plan.image_bytes == 0) return f;  // refused
  for_each_item(view_plan(plan.bytes()), [&](int, const abi::AttentionWorkItem& item) {
    f.items += item.num_heads;
    f.items_of_class[static_cast<size_t>(item.tile_class)] += item.num_heads;
  });
  f.split_tiles = plan.num_split_tiles;
  f.partial_rows = plan.partial_rows;
  f.workspace_bytes = plan.workspace.total();
  f.longest_over_mean = load_of(shape, plan).imbalance();
  return f;
}

std::vector<std::string> CaseResult::failures() const {
  std::vector<std::string> list = outcome.problems;
  if (!accuracy) return list;
  if (!(accuracy->tensor <= bounds.tensor)) list.push_back(exceeds("the whole tensor", accuracy->tensor, bounds.tensor));
  if (!(accuracy->worst_row <= bounds.row)) list.push_back(exceeds("a row", accuracy->worst_row, bounds.row));
  if (!(accuracy->worst_lse <= bounds.lse)) list.push_back(exceeds("lse", accuracy->worst_lse, bounds.lse));
  return list;
}

Result<CaseResult> run_case(Engine& engine, const std::shared_ptr<Device>& device, const AttentionSpec& spec,
                            const testing::BatchShape& shape, const CaseOptions& options) {
  CaseResult result;
  result.shape = shape;
  result.seed = options.seed;
  result.device = device->info();
  result.bounds = testing::bounds_of(spec);
  auto start = Clock::now();
  std::optional<Result<Attention>> attention;
  {
    Progress progress("compiling for " + device->info().arch);
    attention = Attention::prepare(engine, device, spec, {options.unsafe_cuda});
  }
  LATHE_TRY(*attention);
  const Attention& kernel = **attention;
  result.prepare_ms = ms_since(start);
  result.spec = kernel.spec();
  result.tile = kernel.tile();
  result.plan_shape = kernel.plan_shape(shape.num_kv_heads);
  result.artifact = kernel.kernel().artifact();
  result.origin = kernel.origin();

  std::mt19937_64 rng(options.seed);
  std::optional<testing::BatchImage> image;
  {
    Progress progress("drawing " + plural(static_cast<uint64_t>(shape.kv_tokens()), "key") + " and values");
    image.emplace(kernel.spec(), testing::Batch{shape, testing::draw_values(kernel.spec(), shape, 1.0, rng)},
                  testing::Placement{.seed = rng()});
  }
  {
    Progress progress("running on the " + device->info().name + ", twice");
    result.outcome = testing::run(device, kernel, *image, shape.num_kv_heads);
  }
  if (!options.check) return result;
  start = Clock::now();
  Progress progress("comparing with the fp64 reference");
  const oracle::AttentionOutput expected = oracle::attention(image->oracle_input());
  result.check_ms = ms_since(start);
  if (result.outcome.o.size() == expected.o.size()) {
    result.accuracy = testing::measure(kernel.spec(), expected, result.outcome.o, result.outcome.lse, shape);
  } else if (result.outcome.problems.empty()) {
    result.outcome.problems.push_back("the run left no result");
  }
  return result;
}

uint64_t ideal_kv_bytes(const AttentionSpec& spec, const testing::BatchShape& shape) {
  uint64_t keys = 0;
  for (size_t b = 0; b < shape.batch(); ++b) {
    const int64_t qo = shape.qo_lens[b], kv = shape.kv_lens[b];
    if (qo == 0) continue;
    const int64_t first = spec.windowed() ? std::clamp<int64_t>(kv - qo - shape.window + 1, 0, kv) : 0;
    keys += static_cast<uint64_t>(kv - first);
  }
  const size_t key_bytes =
      static_cast<size_t>(spec.head_dim_qk) * bytes_of(spec.kfmt) + static_cast<size_t>(spec.head_dim_vo) * bytes_of(spec.vfmt);
  return keys * static_cast<uint64_t>(shape.num_kv_heads) * key_bytes;
}

uint64_t kv_bytes_read(const LaunchCounters& counters) {
  uint64_t bytes = 0;
  for (const LaunchCounters::Tensor& t : counters.tensors) {
    if (t.name == "k" || t.name == "v") bytes += t.bytes_read;
  }
  return bytes;
}

Result<std::shared_ptr<Device>> device_of(const std::string& target) {
  if (target == "cuda") return cuda_device(0);
  return host_device();
}

const char* name_of(Origin origin) {
  switch (origin) {
    case Origin::memory:
      return "memory";
    case Origin::disk:
      return "disk";
    case Origin::compiled:
      return "compiled";
  }
  return "";
}

std::string tool_of(const std::string& compiler) {
  return compiler.substr(0, compiler.find(", "));
}

}  // namespace lathe::cli
