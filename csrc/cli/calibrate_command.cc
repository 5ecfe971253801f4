// lathe calibrate: the planner's costs, as this GPU has them.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "commands.h"
#include "input.h"
#include "lathe/api/calibrate.h"
#include "lathe/spec/text.h"
#include "progress.h"
#include "table.h"

namespace lathe::cli {
namespace {

struct CalibrateJob {
  std::string device = "0", out;
  bool json = false;
};

Result<std::shared_ptr<Device>> gpu_of(const std::string& text) {
  if (text == "host")
    return invalid_argument("--device",
                            "host is the host executor: it does on a CPU what a kernel does, so its times say nothing about a GPU");
  int ordinal = -1;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, ordinal);
  if (error != std::errc() || stop != end || ordinal < 0)
    return invalid_argument("--device", "is " + fields::in_quotes(text) + "; must be the number of a GPU, from 0");
  return cuda_device(ordinal);
}

std::string in_us(double picoseconds) {
  return fmt::format("{:.2f} us", picoseconds / 1e6);
}

// `fit` is null where there is none.
std::string samples_text(const std::vector<CalibrationSample>& samples, const CalibrationFit* fit) {
  std::vector<std::vector<std::string>> rows{{"launch", "items", "partials", "measured"}};
  if (fit != nullptr) rows[0].insert(rows[0].end(), {"by the fit", "error"});
  for (size_t i = 0; i < samples.size(); ++i) {
    const CalibrationSample& s = samples[i];
    rows.push_back({s.name, fmt::format("{:.0f}", s.items), fmt::format("{:.0f}", s.partials), in_us(s.picoseconds)});
    if (fit == nullptr) continue;
    rows.back().push_back(in_us(fit->predicted[i]));
    rows.back().push_back(fmt::format("{:+.1f}%", 100 * (fit->predicted[i] / s.picoseconds - 1)));
  }
  return table(rows);
}

std::string costs_text(const CalibrationFit& fit, const AttentionCosts& estimates) {
  const auto ps = [](double value) { return fmt::format("{:.1f} ps", value); };
  return table({{"one block on each multiprocessor", "measured", "estimate"},
                {"a byte of K or V", ps(fit.costs.byte), ps(static_cast<double>(estimates.byte))},
                {"16 rows x key x dim", ps(fit.costs.fragment_dim), ps(static_cast<double>(estimates.fragment_dim))},
                {"a work item", in_us(fit.costs.item), in_us(static_cast<double>(estimates.item))},
                {"a partial state", in_us(fit.costs.partial), in_us(static_cast<double>(estimates.partial))},
                {"a launch, beside these", in_us(fit.launch)}});
}

// Before a minute is spent on what cannot be kept.
Status check_place(const std::string& path) {
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (std::filesystem::is_directory(path, error)) return invalid_argument("--out", fields::in_quotes(path, 256) + " is a folder");
  if (folder.empty() || std::filesystem::is_directory(folder, error)) return {};
  return invalid_argument("--out", fields::in_quotes(path, 256) + " is in no folder that exists");
}

// Nobody sees half a file: it gets its name when it is whole.
Status write_file(const std::string& path, const std::string& text) {
  const std::string unfinished = path + ".unfinished";
  std::error_code error;
  {
    std::ofstream out(unfinished, std::ios::binary | std::ios::trunc);
    out << text << "\n";
    out.close();
    if (!out) error = std::make_error_code(std::errc::io_error);
  }
  if (!error) std::filesystem::rename(unfinished, path, error);
  if (!error) return {};
  std::error_code ignored;
  std::filesystem::remove(unfinished, ignored);
  return {Code::unavailable, "cannot be written: " + error.message(), fields::in_quotes(path, 256)};
}

int calibrate(const CalibrateJob& job) {
  if (const Status place = check_place(job.out); !place.ok()) return fail(place);
  Result<std::shared_ptr<Device>> device = gpu_of(job.device);
  if (!device.ok()) return fail(device.status());
  const DeviceInfo& info = (*device)->info();
  const Result<ArchTraits> traits = arch_traits(info.arch);
  if (!traits.ok()) return fail(traits.status());

  Engine engine;
  Result<std::vector<CalibrationSample>> samples = [&] {
    const Progress progress("measuring on " + info.name);
    return measure_attention_costs(engine, *device);
  }();
  if (!samples.ok()) return fail(samples.status());
  const Result<CalibrationFit> fit = fit_attention_costs(*samples);
  if (!fit.ok()) {
    fmt::print(stderr, "{}lathe: nothing was written: the measurements are of no use: {}\n", samples_text(*samples, nullptr),
               fit.status().to_string());
    return 1;
  }
  const std::string date = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::system_clock::now()));
  const std::string text = costs_to_json(costs_stamp(info, date), *fit, *samples);
  if (job.json) {
    fmt::print("{}\n", text);
  } else {
    fmt::print("{}, {}, {} multiprocessors, driver {}\n\n", info.name, info.arch, info.num_sms, info.driver);
    fmt::print("{}\n{}\n", samples_text(*samples, &*fit), costs_text(*fit, attention_costs(*traits, info.num_sms, info.num_sms)));
    fmt::print("Errors of the fit: {:.1f}% rms, {:.1f}% at worst\n", 100 * fit->rms, 100 * fit->worst);
  }
  if (job.out.empty()) return 0;
  if (const Status written = write_file(job.out, text); !written.ok()) return fail(written);
  if (!job.json) fmt::print("LATHE_COSTS={} plans by them.\n", job.out);
  return 0;
}

}  // namespace

void add_calibrate(CLI::App& app, int& exit_code) {
  auto job = std::make_shared<CalibrateJob>();
  CLI::App* command = app.add_subcommand("calibrate", "Measure the planner's costs on an idle GPU.");
  command->add_option("--device", job->device, "number of the GPU")->capture_default_str();
  command->add_option("--out", job->out, "write the costs here, for LATHE_COSTS");
  command->add_flag("--json", job->json, "the file's text instead of the report");
  command->callback([job, &exit_code] { exit_code = calibrate(*job); });
}

}  // namespace lathe::cli
