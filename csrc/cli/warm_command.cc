// lathe warm: many specs, compiled ahead of time into a bundle.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <mutex>
#include <set>
#include <thread>

#include "cache_view.h"
#include "case.h"
#include "commands.h"
#include "input.h"
#include "lathe/api/attention_planner.h"
#include "lathe/base/knobs.h"
#include "lathe/base/log.h"
#include "lathe/cache/bundle.h"
#include "table.h"
#include "warm_specs.h"

namespace lathe::cli {
namespace {

constexpr int kMostJobs = 64;

struct WarmOptions {
  std::string specs, out;
  std::vector<std::string> archs;
  int jobs = 0;
};

// One kernel to have, and what was asked for it.
struct Wanted {
  std::string from;
  KernelRequest request;
};

std::string name_of(const KernelRequest& request) {
  return request.arch + " " + (request.description.empty() ? request.family : request.description);
}

// Each kernel once, though several specs may come to the same. All that is refused is told before anything is compiled.
Result<std::vector<Wanted>> wanted(const std::vector<NamedSpec>& specs, const std::vector<std::string>& archs) {
  std::vector<Wanted> out;
  Problems problems;
  std::set<std::pair<std::string, Bytes>> seen;
  std::set<std::string> planners;
  auto add = [&](const std::string& from, KernelRequest request) {
    if (seen.emplace(request.family + "/" + request.arch, request.canonical).second) out.push_back({from, std::move(request)});
  };
  for (const NamedSpec& named : specs) {
    for (const std::string& arch : archs.empty() ? std::vector{arch_of(named.spec)} : archs) {
      Result<KernelRequest> request = request_of(with_arch(named.spec, arch));
      if (!request.ok()) {
        problems.add(named.from + ", " + arch, request.status().to_string());
        continue;
      }
      add(named.from, *std::move(request));
      // Planning on the device is part of attention.
      if (std::holds_alternative<AttentionSpec>(named.spec)) planners.insert(arch);
    }
  }
  LATHE_TRY(problems.status());
  for (const std::string& arch : planners) add("planning on the device", attention_planner_request(arch));
  return out;
}

class Warming {
 public:
  Warming(Engine& engine, const std::vector<Wanted>& kernels) : engine_(engine), kernels_(kernels) {}

  void run(int jobs) {
    std::vector<std::thread> threads;
    for (int i = 0; i < jobs; i++) threads.emplace_back([this] { work(); });
    for (std::thread& thread : threads) thread.join();
  }
  uint64_t compiled() const { return compiled_; }
  uint64_t there() const { return there_; }
  uint64_t failed() const { return failed_; }

 private:
  void work() {
    for (size_t i = next_++; i < kernels_.size(); i = next_++) {
      Origin origin = Origin::compiled;
      const Result<ArtifactPtr> artifact = engine_.build(kernels_[i].request, &origin);
      tell(kernels_[i], artifact, origin);
    }
  }

  void tell(const Wanted& kernel, const Result<ArtifactPtr>& artifact, Origin origin) {
    std::lock_guard lock(mutex_);
    done_++;
    std::string how;
    if (!artifact.ok()) {
      failed_++;
      how = fmt::format("failed ({}): {}", kernel.from, artifact.status().to_string());
    } else if (origin == Origin::compiled) {
      compiled_++;
      how = in_ms((*artifact)->compile_ms);
    } else {
      there_++;
      how = "there already";
    }
    fmt::print(stderr, "[{}/{}] {}: {}\n", done_, kernels_.size(), name_of(kernel.request), how);
  }

  Engine& engine_;
  const std::vector<Wanted>& kernels_;
  std::atomic<size_t> next_{0};
  std::mutex mutex_;  // guards what follows, and keeps lines whole
  uint64_t done_ = 0, compiled_ = 0, there_ = 0, failed_ = 0;
};

// Each kernel has a line of progress of its own; who wants the log beside it asks for it.
void log_troubles_only() {
  if (knob("LATHE_DEBUG")) return;
  set_log_callback([](LogLevel level, std::string_view message) {
    if (level <= LogLevel::warning) fmt::print(stderr, "lathe: {}\n", message);
  });
}

int warm(const WarmOptions& options) {
  log_troubles_only();
  const Result<std::vector<NamedSpec>> specs = read_specs(options.specs);
  if (!specs.ok()) return fail(specs.status());
  const Result<std::vector<Wanted>> kernels = wanted(*specs, options.archs);
  if (!kernels.ok()) return fail(kernels.status());
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const int jobs = std::clamp(options.jobs == 0 ? cores : options.jobs, 1, kMostJobs);

  // The bundle is a cache while it is made, so that a run that was stopped goes on where it was.
  const std::string path = absolute_path(options.out);
  EngineOptions engine_options;
  engine_options.cache = {};
  engine_options.cache.root = path;
  engine_options.cache.max_bytes = 0;
  engine_options.cache.lock_wait_ms = 0;
  engine_options.compiler = default_compiler({.workers = jobs});
  Engine engine(engine_options);
  if (!engine.cache().writable()) {
    return fail({Code::unavailable, engine.cache().on_disk() ? "may not be written" : engine.cache().why_off(), path});
  }
  Warming warming(engine, *kernels);
  warming.run(jobs);
  const uint64_t kept = engine.stats().cache.stores;
  const Result<SealReport> bundle = seal_bundle(real_fs(), path, Trust{geteuid()});
  if (!bundle.ok()) return fail(bundle.status());
  for (const std::string& file : bundle->left_out) fmt::print(stderr, "lathe: not in the manifest: {}\n", file);
  fmt::print("{} compiled, {} there already, {} failed; {}, {}, in {}\nmanifest SHA-256 {}\n", warming.compiled(), warming.there(),
             warming.failed(), plural(bundle->entries, "kernel"), in_bytes(bundle->bytes), path, bundle->digest.hex());
  if (kept < warming.compiled()) return fail({Code::unavailable, "not every kernel could be written", path});
  return warming.failed() == 0 ? 0 : 1;
}

}  // namespace

void add_warm(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<WarmOptions>();
  CLI::App* job =
      app.add_subcommand("warm", "Compile many specs into a bundle, for machines without a compiler; no GPU is needed.");
  job->add_option("--specs", options->specs,
                  "a folder of *.json, one such file, JSON itself, or a list: a path or JSON on each line")
      ->required();
  job->add_option("--arch", options->archs, "sm_80, sm_90a, ...; each spec's own when left out")->delimiter(',');
  job->add_option("--out", options->out, "the bundle (docs/bundle-format.md): a folder, made or added to")->required();
  job->add_option("--jobs", options->jobs, "compiles at a time; the number of cores when left out")
      ->check(CLI::Range(1, kMostJobs));
  job->callback([options, &exit_code] { exit_code = warm(*options); });
}

}  // namespace lathe::cli
