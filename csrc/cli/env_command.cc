// lathe env: what this machine offers, and which knobs are set.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "commands.h"
#include "lathe/base/knobs.h"
#include "lathe/base/version.h"
#include "lathe/cache/disk_cache.h"
#include "lathe/jit/compiler.h"
#include "lathe/runtime/device.h"
#include "lathe/spec/text.h"
#include "table.h"

namespace lathe::cli {
namespace {

std::string gpu_text() {
  const Result<std::shared_ptr<Device>> device = cuda_device(0);
  if (!device.ok()) return "none: " + device.status().message();
  const DeviceInfo& info = (*device)->info();
  return fmt::format("{}, {}, {} multiprocessors, driver {}", info.name, info.arch, info.num_sms, info.driver);
}

std::string cache_text() {
  CacheOptions options = CacheOptions::from_environment();
  const bool writes = options.mode == CacheMode::read_write;
  if (writes) options.mode = CacheMode::read_only;  // looking must not make a cache where there is none
  const DiskCache cache(options);
  if (!cache.on_disk()) return (cache.root().empty() ? "" : cache.root() + ": ") + "not in use now: " + cache.why_off();
  return fmt::format("{}, {}, {} entries", cache.root(), writes ? "read and written" : "read only", cache.list().size());
}

int print_env() {
  const auto nvrtc = nvrtc_compiler();
  const auto host = host_compiler();
  std::string archs;
  for (const std::string& arch : nvrtc->archs()) archs += (archs.empty() ? "" : " ") + arch;
  fmt::print("lathe {}\n\n{}", version(),
             table({{"GPU compiler", nvrtc->describe()},
                    {"GPU archs", archs.empty() ? "none" : archs},
                    {"host compiler", host->describe()},
                    {"GPU", gpu_text()},
                    {"kernel cache", cache_text()}},
                   0));
  fmt::print("\nKnobs that are set\n");
  std::vector<std::vector<std::string>> rows;
  for (const Knob& entry : knobs()) {
    if (const auto value = knob(entry.name)) rows.push_back({entry.name, fields::shown(*value, 256)});
  }
  fmt::print("{}", rows.empty() ? "  none (README.md lists them)\n" : table(rows));
  return 0;
}

}  // namespace

void add_env(CLI::App& app, int& exit_code) {
  CLI::App* job = app.add_subcommand("env", "Say what was found where: compilers, GPU, cache, knobs.");
  job->callback([&exit_code] { exit_code = print_env(); });
}

}  // namespace lathe::cli
