// lathe demo: the whole way of one realistic batch.
#include <fmt/format.h>
#include <stdlib.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "case_report.h"
#include "commands.h"
#include "demo.h"
#include "demo_batch.h"
#include "input.h"
#include "lathe/base/knobs.h"
#include "progress.h"
#include "spec_arg.h"
#include "table.h"
#include "trace_files.h"

namespace lathe::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kHostScale = 16, kGpuScale = 2;  // the executor and the reference should take seconds
constexpr int kStrictScale = 8;                // checking every access takes several times as long
constexpr int32_t kHostBlocks = 12;            // no divisor of the work, so that the planner splits tiles (demo_test.cc)
constexpr const char* kGpuArchs[] = {"sm_90a", "sm_80"};

struct DemoOptions {
  std::string trace, cache_dir, target = "auto";
  int scale = 0;
  CaseOptions run{.seed = 1, .check = true};
  bool json = false;
};

// Llama 3 as the serving engines keep it.
AttentionSpec demo_spec() {
  AttentionSpec spec;
  spec.group_size = 4;
  spec.mask = Mask::causal;
  spec.lse = LseOut::ln;
  return spec;
}

// A folder of our own for a cache that is cold; removed at the end.
class ColdCache {
 public:
  ColdCache() {
    std::error_code error;
    std::string name = (std::filesystem::temp_directory_path(error) / "lathe-demo-XXXXXX").string();
    if (!error && mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~ColdCache() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  ColdCache(const ColdCache&) = delete;
  ColdCache& operator=(const ColdCache&) = delete;

  Status status() const {
    if (!path_.empty()) return {};
    return {Code::unavailable, "no folder could be made for a cold cache", "TMPDIR", "--cache-dir names another place"};
  }
  std::string root() const { return path_ + "/cache"; }

 private:
  std::string path_;
};

struct Lengths {
  std::vector<TraceRequest> requests;
  std::string from;
};

Result<Lengths> lengths_of(const DemoOptions& options) {
  Lengths out;
  if (!options.trace.empty()) {
    Result<std::vector<TraceRequest>> read = read_trace(options.trace);
    LATHE_TRY(read);
    out = {*std::move(read), ""};
    out.from = fmt::format("16 of the {} requests of {}", out.requests.size(), options.trace);
  } else if (const auto folder = knob("LATHE_TRACE_DIR")) {
    Result<std::vector<TraceRequest>> read = read_trace_dir(*folder);
    LATHE_TRY(read);
    out = {*std::move(read), ""};
    out.from = fmt::format("16 of the {} requests of the traces in {}", out.requests.size(), *folder);
  } else {
    out = {quantile_requests(), "quantiles of the Azure LLM 2023 and Mooncake traces (docs/cli.md)"};
  }
  return out;
}

EngineOptions engine_options(const std::string& cache_root) {
  EngineOptions options;
  options.cache.root = cache_root;
  return options;
}

DemoKernel::Build timed_build(Engine& engine, const KernelRequest& request, Status& status, ArtifactPtr& artifact) {
  DemoKernel::Build build;
  const auto start = Clock::now();
  Result<ArtifactPtr> built = engine.build(request, &build.origin);
  build.ms = ms_since(start);
  status = built.status();
  if (built.ok()) artifact = *built;
  return build;
}

DemoKernel build_kernel(Engine& cold, Engine& again, const AttentionSpec& spec, const std::string& arch) {
  DemoKernel kernel;
  kernel.arch = arch;
  const Result<KernelRequest> request = request_of(with_arch(spec, arch));
  kernel.status = request.status();
  if (!request.ok()) return kernel;
  Progress progress("compiling for " + arch);
  kernel.first = timed_build(cold, *request, kernel.status, kernel.artifact);
  Status ignored;  // what was built once is built again, if not from the disk
  if (kernel.status.ok()) kernel.second = timed_build(again, *request, ignored, kernel.artifact);
  if (kernel.status.ok()) kernel.third = timed_build(again, *request, ignored, kernel.artifact);
  return kernel;
}

// Where it runs: the GPU when there is one and nothing else is asked for.
Result<std::shared_ptr<Device>> choose_device(const std::string& target, Demo& demo) {
  Result<std::shared_ptr<Device>> gpu = cuda_device(0);
  demo.gpu = gpu.ok() ? (*gpu)->info().name + ", driver " + (*gpu)->info().driver : "none: " + gpu.status().message();
  if (target == "cuda" || (target == "auto" && gpu.ok())) return gpu;
  SimtOptions simt = SimtOptions::from_environment();
  simt.num_sms = kHostBlocks;
  return host_device(simt);
}

// The kernel that has just run, on a smaller batch, with the executor looking for races, bad addresses and the like.
Status run_strictly(Engine& engine, const Lengths& lengths, const CaseOptions& options, Demo& demo) {
  SimtOptions simt = SimtOptions::from_environment();
  simt.num_sms = kHostBlocks;
  simt.check = true;
  demo.strict_scale = demo.scale * kStrictScale;
  Result<CaseResult> result =
      run_case(engine, host_device(simt), demo_spec(), demo_batch(lengths.requests, demo.strict_scale), options);
  LATHE_TRY(result);
  demo.strict = *std::move(result);
  return {};
}

// Why the kernel of `arch` is not run; empty when it is.
std::string why_not_run(const Demo& demo, const std::string& arch, const std::string& device_arch) {
  if (arch == device_arch) return {};
  if (arch == "host") return "the GPU is used";
  if (demo.gpu.starts_with("none: ")) return "this machine has no GPU that can be used";
  return device_arch == "host" ? "the host was asked for" : "this machine's GPU is of another arch";
}

Result<Demo> make_demo(const DemoOptions& options) {
  const auto start = Clock::now();
  Demo demo;
  Result<Lengths> lengths = lengths_of(options);
  LATHE_TRY(lengths);
  demo.lengths = lengths->from;
  Result<std::shared_ptr<Device>> device = choose_device(options.target, demo);
  LATHE_TRY(device);
  const std::string device_arch = (*device)->info().arch;
  demo.scale = options.scale != 0 ? options.scale : device_arch == "host" ? kHostScale : kGpuScale;

  std::optional<ColdCache> cold_cache;
  if (options.cache_dir.empty()) LATHE_TRY(cold_cache.emplace().status());
  const std::string root = cold_cache ? cold_cache->root() : std::filesystem::absolute(options.cache_dir).string();
  Engine cold(engine_options(root)), again(engine_options(root));
  demo.gpu_compiler = nvrtc_compiler()->describe();
  demo.host_compiler = host_compiler()->describe();

  std::vector<std::string> archs{device_arch, "host"};
  archs.insert(archs.end(), std::begin(kGpuArchs), std::end(kGpuArchs));
  for (size_t i = 0; i < archs.size(); ++i) {
    if (std::find(archs.begin(), archs.begin() + static_cast<ptrdiff_t>(i), archs[i]) != archs.begin() + static_cast<ptrdiff_t>(i))
      continue;
    DemoKernel kernel = build_kernel(cold, again, demo_spec(), archs[i]);
    kernel.not_run = why_not_run(demo, archs[i], device_arch);
    demo.kernels.push_back(std::move(kernel));
  }

  Result<CaseResult> result = run_case(again, *device, demo_spec(), demo_batch(lengths->requests, demo.scale), options.run);
  demo.status = result.status();
  if (result.ok()) demo.result = *std::move(result);
  if (demo.result && device_arch == "host") demo.status = run_strictly(again, *lengths, options.run, demo);
  demo.total_ms = ms_since(start);
  return demo;
}

int run_demo(const DemoOptions& options) {
  const Result<Demo> demo = make_demo(options);
  if (!demo.ok()) return fail(demo.status());
  if (options.json) {
    fmt::print("{}\n", to_json(*demo).dump(2));
  } else {
    fmt::print("{}", report(*demo));
  }
  if (!demo->status.ok()) fail(demo->status);
  return demo->passed() ? 0 : 1;
}

}  // namespace

void add_demo(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<DemoOptions>();
  CLI::App* job = app.add_subcommand("demo", "A realistic mixed batch, from spec to checked result, on this machine.");
  job->add_option("--trace", options->trace,
                  "request lengths from a file (Azure CSV, Mooncake JSON lines); else from the files in "
                  "LATHE_TRACE_DIR, else built-in quantiles of public traces");
  job->add_option("--target", options->target, "where to run; auto: the GPU when there is one")
      ->check(CLI::IsMember({"auto", "host", "cuda"}))
      ->capture_default_str();
  job->add_option("--scale", options->scale, "divide all lengths by this; left out: 16 on the host, 2 on a GPU")
      ->check(CLI::Range(1, 1 << 20));
  job->add_option("--seed", options->run.seed, "of the tensors and of the order of pages")->capture_default_str();
  job->add_option("--cache-dir", options->cache_dir, "kernel cache to use; left out: a fresh one, so that the first build is cold");
  job->add_flag("--json", options->json, "one JSON object instead of the report");
  job->callback([options, &exit_code] { exit_code = run_demo(*options); });
}

}  // namespace lathe::cli
