// lathe-bench-gpu --spec F --batch F: times one attention problem on a GPU and prints the figures as JSON. Exits 1 when something
// fails or the result is wrong, 77 when there is no GPU.
#include <CLI/CLI.hpp>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "lathe/runtime/cuda_timing.h"
#include "problem.h"

namespace lathe::bench {
namespace {

constexpr double kRowBound = 6e-3;  // relative error of a row, bf16
constexpr int kNoDevice = 77;

struct Options {
  std::string spec, batch;
  int device = 0;
  uint64_t seed = 1;
  int check_rows = 16;
  TimingOptions timing;
};

Result<std::string> read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in) return invalid_argument(path, "cannot be read");
  return text.str();
}

nlohmann::json figures(const std::vector<double>& us) {
  return {{"median", quantile(us, 0.5)}, {"p10", quantile(us, 0.1)}, {"p90", quantile(us, 0.9)}, {"n", us.size()}};
}

nlohmann::json describe(const DeviceInfo& info, const Artifact& artifact, const Problem& problem) {
  const AttentionPlan& plan = problem.plan().plan;
  return {
      {"device", info.name},
      {"driver", info.driver},
      {"arch", info.arch},
      {"kernel",
       {{"key", artifact.key_hex},
        {"compiler", artifact.compiler},
        {"registers", artifact.registers},
        {"spill_bytes", artifact.spill_bytes},
        {"shared_bytes", artifact.shared_bytes},
        {"block_threads", artifact.block_threads},
        {"compile_ms", artifact.compile_ms}}},
      {"plan", {{"items", plan.num_items}, {"split_tiles", plan.num_split_tiles}, {"workspace_bytes", plan.workspace.total()}}}};
}

// `exit_code` is set where it is not 1. A kernel that may not be compiled is a failure: only a missing device is none.
Status run(const Options& options, nlohmann::json& out, int& exit_code) {
  auto spec_text = read_file(options.spec), batch_text = read_file(options.batch);
  LATHE_TRY(spec_text);
  LATHE_TRY(batch_text);
  auto spec = attention_spec_from_json(*spec_text);
  LATHE_TRY(spec);
  auto lengths = read_batch(*batch_text);
  LATHE_TRY(lengths);
  auto device = cuda_device(options.device);
  if (device.status().code() == Code::unavailable) exit_code = kNoDevice;
  LATHE_TRY(device);

  Engine engine;
  spec->arch.clear();  // the device's own
  auto attention = Attention::prepare(engine, *device, *spec);
  LATHE_TRY(attention);
  auto problem = Problem::make(*device, *attention, *std::move(lengths), options.seed);
  LATHE_TRY(problem);
  out = describe((*device)->info(), *attention->kernel().artifact(), *problem);
  out["kernel"]["compiled_here"] = engine.stats().compiles > 0;  // else it comes from a bundle

  auto stream = CudaStream::create(**device);
  LATHE_TRY(stream);
  LATHE_TRY(problem->poison(stream->handle()));
  LATHE_TRY(problem->run(stream->handle()));
  LATHE_TRY((*device)->synchronize(stream->handle()));
  bool wrong = false;
  if (options.check_rows > 0) {
    auto check = problem->check(options.check_rows, options.seed);
    LATHE_TRY(check);
    wrong = check->not_written != 0 || check->worst_error > kRowBound;
    out["check"] = {{"rows", check->rows},         {"worst_error", check->worst_error}, {"bound", kRowBound},
                    {"elements", check->elements}, {"not_written", check->not_written}, {"ok", !wrong}};
  }

  auto timing = time_launches(
      **device, [&] { return problem->run(stream->handle()); }, stream->handle(), options.timing);
  LATHE_TRY(timing);
  out["us"] = figures(timing->device_us);
  out["host_us"] = figures(timing->host_us);
  auto graph = stream->capture([&] { return problem->run(stream->handle()); });
  LATHE_TRY(graph);
  auto replay = time_launches(
      **device, [&] { return graph->launch(stream->handle()); }, stream->handle(), options.timing);
  LATHE_TRY(replay);
  out["graph_us"] = figures(replay->device_us);
  out["flushed"] = options.timing.flush_bytes > 0;
  exit_code = wrong ? 1 : 0;
  return {};
}

}  // namespace
}  // namespace lathe::bench

int main(int argc, char** argv) {
  lathe::bench::Options options;
  CLI::App app("Times one attention problem on a GPU and prints the figures as JSON.");
  app.add_option("--spec", options.spec, "attention spec, a JSON file")->required();
  app.add_option("--batch", options.batch, "batch, a JSON file")->required();
  app.add_option("--device", options.device, "which GPU")->capture_default_str();
  app.add_option("--seed", options.seed, "of tensors and page order")->capture_default_str();
  app.add_option("--repeats", options.timing.repeats, "timed launches")->check(CLI::Range(1, 10000))->capture_default_str();
  app.add_option("--warmup", options.timing.warmup, "launches before them")->check(CLI::Range(0, 10000))->capture_default_str();
  app.add_option("--flush-bytes", options.timing.flush_bytes, "written before each launch; 0: warm caches")->capture_default_str();
  app.add_option("--check-rows", options.check_rows, "rows compared with fp64; 0: none")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  nlohmann::json out;
  int exit_code = 1;
  lathe::Status status = lathe::bench::run(options, out, exit_code);
  if (!status.ok()) out["error"] = status.to_string();
  std::cout << out.dump(2) << "\n";
  return exit_code;
}
