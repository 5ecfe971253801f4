// lathe env: what this machine offers, and which knobs are set.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cache_view.h"
#include "commands.h"
#include "lathe/base/knobs.h"
#include "lathe/base/version.h"
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
  const auto cache = look_at_cache();
  if (!cache->on_disk()) return (cache->root().empty() ? "" : cache->root() + ": ") + "not in use now: " + cache->why_off();
  const size_t entries = cache->list().size();
  const bool writes = CacheOptions::from_environment().mode == CacheMode::read_write;
  return fmt::format("{}, {}, {} {}", cache->root(), writes ? "read and written" : "read only", entries,
                     entries == 1 ? "entry" : "entries");
}

std::string bundles_text() {
  const auto cache = look_at_cache();
  std::string out;
  for (const Bundle& bundle : cache->bundles()) {
    out += fmt::format("{}{}, {}", out.empty() ? "" : "; ", bundle.path(), plural(bundle.items().size(), "kernel"));
  }
  for (const Status& trouble : cache->bundle_troubles())
    out += (out.empty() ? "not in use: " : "; not in use: ") + trouble.to_string();
  return out.empty() ? "none" : out;
}

using Rows = std::vector<std::vector<std::string>>;  // of a name and a text each

Rows facts() {
  const auto nvrtc = nvrtc_compiler();
  std::string archs;
  for (const std::string& arch : nvrtc->archs()) archs += (archs.empty() ? "" : " ") + arch;
  return {{"GPU compiler", nvrtc->describe()},
          {"GPU archs", archs.empty() ? "none" : archs},
          {"host compiler", host_compiler()->describe()},
          {"GPU", gpu_text()},
          {"kernel cache", cache_text()},
          {"bundles", bundles_text()}};
}

Rows knobs_that_are_set() {
  Rows rows;
  for (const Knob& entry : knobs()) {
    if (const auto value = knob(entry.name)) rows.push_back({entry.name, fields::shown(*value, 256)});
  }
  return rows;
}

nlohmann::ordered_json object_of(const Rows& rows) {
  auto out = nlohmann::ordered_json::object();
  for (const auto& row : rows) out[row[0]] = row[1];
  return out;
}

int print_env(bool json) {
  const Rows found = facts(), set = knobs_that_are_set();
  if (json) {
    nlohmann::ordered_json out{{"version", version()}};
    out.update(object_of(found));
    out["knobs"] = object_of(set);
    // A path may be no UTF-8.
    fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    return 0;
  }
  fmt::print("lathe {}\n\n{}\nKnobs that are set\n{}", version(), table(found, 0),
             set.empty() ? "  none (README.md lists them)\n" : table(set));
  return 0;
}

}  // namespace

void add_env(CLI::App& app, int& exit_code) {
  CLI::App* job = app.add_subcommand("env", "Say what was found where: compilers, GPU, cache, knobs.");
  auto json = std::make_shared<bool>(false);
  job->add_flag("--json", *json, "the same as a JSON object");
  job->callback([json, &exit_code] { exit_code = print_env(*json); });
}

}  // namespace lathe::cli
